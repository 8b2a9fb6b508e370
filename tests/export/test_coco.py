"""COCO, read back with pycocotools."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pycocotools.mask
import pytest
from PIL import Image
from pycocotools.coco import COCO

from gsvnet.classes import CAMVID
from gsvnet.export.coco import encode_classes


def load(path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_masks_come_back_equal(write_labels, run_export, awkward):
    folder, _ = run_export("coco", write_labels(awkward))
    coco = load(folder / "instances.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CAMVID.names)
    assert sorted(coco.getCatIds()) == list(range(1, 12))
    for number, labels in enumerate(awkward):
        (image,) = [image for image in coco.dataset["images"] if image["frame_index"] == number]
        found = np.full(labels.shape, 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            assert (found[mask] == 255).all()
            found[mask] = annotation["category_id"] - 1
        np.testing.assert_array_equal(found, labels)


def test_encodings_are_those_of_pycocotools(awkward):
    for labels in awkward:
        for annotation in encode_classes(labels, 11):
            mask = np.asfortranarray(labels == annotation["category_id"] - 1).astype(np.uint8)
            expected = pycocotools.mask.encode(mask)
            assert annotation["segmentation"]["counts"] == expected["counts"].decode()
            assert annotation["segmentation"]["size"] == expected["size"] == list(labels.shape)
            assert annotation["area"] == pycocotools.mask.area(expected) == mask.sum()
            assert annotation["bbox"] == pycocotools.mask.toBbox(expected).tolist()
            assert annotation["iscrowd"] == 0


def test_images_say_where_they_come_from(write_labels, run_export, awkward):
    folder, said = run_export("coco", write_labels(awkward[:2]))
    images = json.loads((folder / "instances.json").read_text())["images"]
    stem = "drive-0123456789ab-0000000"
    assert [image["file_name"] for image in images] == [f"{stem}0.jpg", f"{stem}1.jpg"]
    assert images[1] == {
        "id": 2,
        "file_name": f"{stem}1.jpg",
        "height": 41,
        "width": 61,
        "video": "drive-0123456789ab",
        "frame_index": 1,
        "time_s": 0.04,
    }
    assert "none written; file_name says what --images jpg" in said


def test_written_images_have_the_names(street, run_export):
    folder, _ = run_export("coco", street.out, images="png", limit=3)
    for image in json.loads((folder / "instances.json").read_text())["images"]:
        with Image.open(folder / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (96, 72)


def test_a_frame_without_a_class_is_an_image_without_annotations(write_labels, run_export, awkward):
    folder, _ = run_export("coco", write_labels(awkward[3:4]))
    dataset = json.loads((folder / "instances.json").read_text())
    assert (len(dataset["images"]), dataset["annotations"]) == (1, [])


def read_segments(folder, annotation) -> np.ndarray:
    """Segment ids (H, W) of a panoptic PNG: R + 256 G + 65536 B."""
    with Image.open(folder / "panoptic" / annotation["file_name"]) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture).astype(np.int64) @ (1, 256, 65536)


def test_panoptic_segments_come_back_equal(write_labels, run_export, awkward):
    folder, _ = run_export("coco-panoptic", write_labels(awkward))
    dataset = json.loads((folder / "panoptic.json").read_text())
    assert {category["isthing"] for category in dataset["categories"]} == {0}
    for labels, image, annotation in zip(awkward, dataset["images"], dataset["annotations"], strict=True):
        assert annotation["image_id"] == image["id"]
        ids = read_segments(folder, annotation)
        found = np.full(labels.shape, 255, np.uint8)
        for segment in annotation["segments_info"]:
            found[ids == segment["id"]] = segment["category_id"] - 1
        np.testing.assert_array_equal(found, labels)
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in annotation["segments_info"]}


def test_panoptic_segments_have_area_and_box(write_labels, run_export, awkward):
    folder, _ = run_export("coco-panoptic", write_labels(awkward))
    for annotation in json.loads((folder / "panoptic.json").read_text())["annotations"]:
        ids = read_segments(folder, annotation)
        for segment in annotation["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert (segment["area"], segment["bbox"], segment["iscrowd"]) == (len(rows), box, 0)


@pytest.mark.parametrize("form", ["coco", "coco-panoptic"])
def test_names_of_any_script_survive(write_labels, run_export, form):
    from dataclasses import replace

    names = ('tram "S"', "véhicule", "車", *CAMVID.names[3:])
    out = write_labels([np.zeros((4, 4), np.uint8)], classes=replace(CAMVID, names=names))
    folder, _ = run_export(form, out)
    dataset = json.loads(next(folder.glob("*.json")).read_text())
    assert [category["name"] for category in dataset["categories"]] == list(names)
