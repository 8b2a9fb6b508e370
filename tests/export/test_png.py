"""Indexed PNG: ids as they are, and Cityscapes' label ids."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.errors import ConfigError


def read_ids(path) -> tuple[np.ndarray, list]:
    with Image.open(path) as picture:
        assert picture.mode == "P"
        return np.asarray(picture), picture.getpalette()


def test_pixels_are_class_ids_with_the_classes_colours(write_labels, run_export, awkward):
    folder, _ = run_export("png", write_labels(awkward))
    masks = sorted((folder / "masks").iterdir())
    assert [mask.name for mask in masks] == [f"drive-0123456789ab-{i:08d}.png" for i in range(len(awkward))]
    for mask, labels in zip(masks, awkward):
        ids, palette = read_ids(mask)
        np.testing.assert_array_equal(ids, labels)
        assert palette[24:27] == list(CAMVID.colours[8])
        assert palette[255 * 3 :] == [0, 0, 0]


def test_classes_are_named(write_labels, run_export, awkward):
    folder, _ = run_export("png", write_labels(awkward[:1]))
    value = json.loads((folder / "classes.json").read_text())
    assert (value["ids"], value["ignore"], len(value["classes"])) == ("own", 255, 11)
    assert value["classes"][6] == {
        "id": 6,
        "name": "sign symbol",
        "identifier": "sign_symbol",
        "colour": [192, 128, 128],
    }


def test_cityscapes_label_ids(write_labels, run_export):
    labels = np.array([[0, 1, 18], [255, 13, 11]], np.uint8)
    folder, _ = run_export("png", write_labels([labels], classes=CITYSCAPES), ids="cityscapes")
    ids, palette = read_ids(next((folder / "masks").iterdir()))
    assert ids.tolist() == [[7, 8, 33], [0, 26, 24]]
    assert palette[26 * 3 : 27 * 3] == [0, 0, 142]
    value = json.loads((folder / "classes.json").read_text())
    assert value["ignore"] == 0
    assert value["classes"][0]["id"] == 7


def test_label_ids_are_cityscapes_alone(write_labels, run_export, awkward, tmp_path):
    with pytest.raises(ConfigError, match=r"--ids cityscapes: the labels have the classes camvid"):
        run_export("png", write_labels(awkward), ids="cityscapes")
    assert not (tmp_path / "png").exists()


def test_images_stand_beside_under_the_same_stem(street, run_export):
    folder, _ = run_export("png", street.out, images="jpg", every=30)
    stems = [[path.stem for path in sorted((folder / name).iterdir())] for name in ("images", "masks")]
    assert stems[0] == stems[1] == [f"{street.id}-{i:08d}" for i in (0, 30)]
