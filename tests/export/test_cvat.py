"""CVAT's segmentation masks: layout, label map, colours that tell classes apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.export.cvat import choose_colours, draw_voc_colours


def read_label_map(folder) -> dict[str, tuple[int, ...]]:
    lines = [line.split(":") for line in (folder / "labelmap.txt").read_text().splitlines() if line[0] != "#"]
    assert {(len(line), *line[2:]) for line in lines} == {(4, "", "")}
    return {line[0]: tuple(map(int, line[1].split(","))) for line in lines}


def read_colours(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_colours_give_back_the_labels(write_labels, run_export, awkward):
    folder, _ = run_export("cvat", write_labels(awkward))
    colours = read_label_map(folder)
    assert list(colours) == ["background", *CAMVID.names]
    stems = (folder / "ImageSets" / "Segmentation" / "default.txt").read_text().splitlines()
    for stem, labels in zip(stems, awkward, strict=True):
        found = read_colours(folder / "SegmentationClass" / f"{stem}.png")
        for label, name in enumerate(CAMVID.names):
            np.testing.assert_array_equal((found == colours[name]).all(axis=2), labels == label)
        np.testing.assert_array_equal((found == 0).all(axis=2), labels == 255)


def test_indices_are_lines_of_the_label_map(write_labels, run_export, awkward):
    folder, _ = run_export("cvat", write_labels(awkward[:1]))
    for kind in ("SegmentationClass", "SegmentationObject"):
        with Image.open(next((folder / kind).iterdir())) as picture:
            np.testing.assert_array_equal(np.asarray(picture), (awkward[0] + 1).astype(np.uint8))


def test_objects_have_voc_colours(write_labels, run_export, awkward):
    folder, _ = run_export("cvat", write_labels(awkward[:1]))
    found = read_colours(next((folder / "SegmentationObject").iterdir()))
    np.testing.assert_array_equal(found, draw_voc_colours()[(awkward[0] + 1).astype(np.uint8)])


def test_voc_colours_are_the_published_ones():
    published = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {number: tuple(draw_voc_colours()[number].tolist()) for number in published} == published
    assert len(np.unique(draw_voc_colours(), axis=0)) == 256


def test_black_and_equal_colours_are_made_distinct():
    classes = ClassSet(name="x", names=tuple("abcd"), colours=((0, 0, 0), (9, 9, 9), (9, 9, 9), (0, 0, 1)))
    assert choose_colours(classes) == [(0, 0, 2), (9, 9, 9), (9, 9, 8), (0, 0, 1)]


def test_many_equal_colours_are_made_distinct():
    classes = ClassSet(name="x", names=tuple(f"n{i}" for i in range(255)), colours=((0, 0, 0),) * 255)
    colours = choose_colours(classes)
    assert len(set(colours)) == 255
    assert (0, 0, 0) not in colours


def test_changed_colours_and_names_are_said(write_labels, run_export):
    classes = ClassSet(name="x", names=("a:b", "background", "# c"), colours=((0, 0, 0), (5, 5, 5), (5, 5, 5)))
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    folder, said = run_export("cvat", write_labels([labels], classes=classes))
    assert list(read_label_map(folder)) == ["unlabeled", "a b", "background", "c"]
    for change in ("'a:b' -> 'a b'", "'# c' -> 'c'", "a:b (0, 0, 0) -> (0, 0, 1)", "# c (5, 5, 5) -> (5, 5, 4)"):
        assert change in said


def test_nothing_is_said_to_be_changed_without_need(write_labels, run_export, awkward):
    _, said = run_export("cvat", write_labels(awkward[:1]))
    assert "changed" not in said
    assert "writes them to JPEGImages/" in said


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_images_lie_where_cvat_looks(street, run_export, kind):
    folder, _ = run_export("cvat", street.out, images=kind, limit=2)
    assert [path.name for path in sorted((folder / "JPEGImages").iterdir())] == [
        f"{street.id}-00000000.{kind}",
        f"{street.id}-00000001.{kind}",
    ]
