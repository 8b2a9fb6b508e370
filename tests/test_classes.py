from __future__ import annotations

import json

import numpy as np
import pytest

from gsvnet.classes import CAMVID, CITYSCAPES, CLASS_SETS, IGNORE, ClassSet, find_counterparts, merge_table
from gsvnet.errors import ConfigError

RGB = ((1, 2, 3), (4, 5, 6))


def test_known_sets_have_their_published_sizes():
    assert {name: len(classes) for name, classes in CLASS_SETS.items()} == {"camvid": 11, "cityscapes": 19}


def test_names_become_identifiers_that_sql_takes():
    names = ("Traffic Light", " two-wheeler ", "3D box", "*")
    classes = ClassSet(name="x", names=names, colours=((0, 0, 0),) * 4)
    assert classes.identifiers == ("traffic_light", "two_wheeler", "c_3d_box", "c_")
    assert "traffic_light" in CITYSCAPES.identifiers


@pytest.mark.parametrize(
    ("names", "colours", "problem"),
    [
        ((), (), "0 classes; 1 to 255 are allowed"),
        (tuple(map(str, range(256))), ((0, 0, 0),) * 256, "256 classes"),
        (("a", "b"), RGB[:1], "2 names but 1 colours"),
        (("a b", "a-b"), RGB, "not distinct as identifiers"),
    ],
)
def test_sets_that_cannot_be_are_refused(names, colours, problem):
    with pytest.raises(ConfigError, match=problem):
        ClassSet(name="x", names=names, colours=colours)


def test_colours_of_labels_and_black_for_what_is_ignored():
    classes = ClassSet(name="x", names=("a", "b"), colours=RGB)
    labels = np.array([[0, 1], [IGNORE, 7]], np.uint8)
    assert classes.colourise(labels).tolist() == [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("classes", CLASS_SETS.values(), ids=CLASS_SETS)
def test_a_set_comes_back_from_its_file(classes, tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(classes.to_dict()))
    assert ClassSet.from_file(path) == classes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name": "x", "names": ["a"]}', "keys needed: name, names, colours"),
        ('{"name": "x", "names": ["a"], "colours": [[1, 2]]}', "not a class set"),
        ("[1]", "not a class set"),
        ("no json", "cannot read classes from"),
    ],
)
def test_files_that_are_no_class_set_are_refused(tmp_path, text, problem):
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        ClassSet.from_file(path)


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read classes from .*none\.json"):
        ClassSet.from_file(tmp_path / "none.json")


def test_camvid_is_ordered_as_its_ids():
    assert [CAMVID.names[i] for i in (0, 3, 8, 10)] == ["sky", "road", "car", "bicyclist"]


def test_every_cityscapes_class_merges_into_a_camvid_class():
    table = merge_table(CITYSCAPES, CAMVID)
    merged = {name: CAMVID.names[table[i]] for i, name in enumerate(CITYSCAPES.names)}
    assert set(merged.values()) == set(CAMVID.names)
    assert [merged[name] for name in ("wall", "traffic light", "terrain", "rider", "train", "motorcycle")] == [
        "building", "sign symbol", "tree", "bicyclist", "car", "bicyclist"
    ]  # fmt: skip
    assert (table[19:] == IGNORE).all()


def test_equal_class_sets_merge_by_name():
    turned = ClassSet(name="turned", names=CAMVID.names[::-1], colours=CAMVID.colours[::-1])
    assert merge_table(CAMVID, turned)[:11].tolist() == list(range(10, -1, -1))


def test_classes_without_a_place_are_named():
    with pytest.raises(ConfigError, match="camvid do not merge into cityscapes: no counterpart of 'pavement'"):
        merge_table(CAMVID, CITYSCAPES)


def test_counterparts_mean_the_same_in_both_directions():
    to_camvid = find_counterparts(CITYSCAPES, CAMVID)
    assert {CAMVID.names[new]: CITYSCAPES.names[old] for new, old in to_camvid.items()} == {
        "sky": "sky", "building": "building", "pole": "pole", "road": "road", "pavement": "sidewalk",
        "tree": "vegetation", "sign symbol": "traffic sign", "fence": "fence", "car": "car",
        "pedestrian": "person", "bicyclist": "bicycle",
    }  # fmt: skip
    assert find_counterparts(CAMVID, CITYSCAPES) == {old: new for new, old in to_camvid.items()}


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"9" * 5000], ids=["no utf-8", "deep", "long"])
def test_a_file_of_any_bytes_is_a_config_error(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot read classes from"):
        ClassSet.from_file(path)


def test_a_path_that_is_none_is_a_config_error():
    with pytest.raises(ConfigError, match="cannot read classes from"):
        ClassSet.from_file("a\0b")


@pytest.mark.parametrize("colour", [(0, 0, 256), (-1, 0, 0), (float("inf"), 0, 0)])
def test_colours_outside_a_byte_are_refused(colour):
    with pytest.raises(ConfigError, match=r"0\.\.255|not a class set"):
        ClassSet.from_dict({"name": "x", "names": ["a"], "colours": [colour]})


def test_a_text_is_no_list_of_names():
    with pytest.raises(ConfigError, match="not a class set"):
        ClassSet.from_dict({"name": "x", "names": "ab", "colours": RGB})


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "x" * 201])
def test_names_are_short_and_hold_nothing_that_a_terminal_acts_upon(name):
    with pytest.raises(ConfigError, match="control characters"):
        ClassSet(name="own", names=(name,), colours=((0, 0, 0),))
