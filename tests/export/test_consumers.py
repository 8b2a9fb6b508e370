"""Exports read back with the libraries of those who use them, in an environment of their own (see `consume`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gsvnet.classes import CAMVID, CITYSCAPES, CITYSCAPES_LABEL_IDS, ClassSet
from gsvnet.export.polygons import fill_polygons, trace_polygons

NAMES = ('tram "S"', "véhicule lourd", *CAMVID.names[2:])
CLASSES = replace(CAMVID, names=NAMES, colours=((0, 0, 0), (128, 64, 128), *CAMVID.colours[2:]))  # black, and one twice


@pytest.fixture
def read_back(consume, tmp_path):
    """read_back(script, folder): what the script says, and its arrays by frame stem, in order."""

    def run(script, folder):
        said = consume(script, folder, tmp_path / "arrays.npz")
        with np.load(tmp_path / "arrays.npz") as arrays:
            return said, [arrays[name] for name in sorted(arrays)]

    return run


def as_labels(ids: np.ndarray, names: list[str], size: tuple[int, ...], classes: ClassSet) -> np.ndarray:
    """Our class ids of a consumer's (-1: none) by its names; 255 all over where it found nothing."""
    table = np.array([classes.names.index(name) if name in classes.names else 255 for name in names] + [255], np.uint8)
    return table[ids] if ids.size else np.full(size, 255, np.uint8)


@pytest.mark.parametrize(
    ("form", "script"),
    [("cvat", "read_cvat.py"), ("coco-panoptic", "read_panoptic.py"), ("label-studio", "read_label_studio.py")],
)
def test_masks_come_back_equal(write_labels, run_export, read_back, awkward, form, script):
    folder, _ = run_export(form, write_labels(awkward, classes=CLASSES), images="none")
    said, found = read_back(script, folder)
    for labels, ids in zip(awkward, found, strict=True):
        np.testing.assert_array_equal(as_labels(ids, said["names"], labels.shape, CLASSES), labels)


def test_cvat_imports_no_background_and_finds_the_images(street, run_export, read_back):
    folder, _ = run_export("cvat", street.out, images="jpg", every=20)
    said, found = read_back("read_cvat.py", folder)
    assert said["names"] == ["background", *CAMVID.names]
    assert "background" not in said["used"]
    assert said["has_media"] == [True] * 3
    expected = street.labels.labels_at(street.id, [0, 20, 40])
    for labels, ids in zip(expected, found, strict=True):
        np.testing.assert_array_equal(as_labels(ids, said["names"], labels.shape, CAMVID), labels)


def test_label_studio_encodes_masks_to_the_same_bytes(write_labels, run_export, read_back, awkward):
    wide = [np.zeros((300, 400), np.uint8), np.repeat([[0], [1]], 90_000, axis=1).astype(np.uint8)]
    wide[0][100:250, 50:399] = 4
    folder, _ = run_export("label-studio", write_labels([*awkward, *wide]), images="none")
    said, _ = read_back("read_label_studio.py", folder)
    assert (said["differing"], said["names"]) == (0, list(CAMVID.names))


def test_supervision_reads_the_polygons_that_were_traced(street, run_export, read_back):
    folder, _ = run_export("yolo", street.out, every=20)
    said, found = read_back("read_yolo.py", folder)
    assert said["names"] == list(CAMVID.names)
    expected = street.labels.labels_at(street.id, [0, 20, 40])
    for labels, masks in zip(expected, found, strict=True):
        for label, mask in enumerate(masks):
            own = fill_polygons(trace_polygons((labels == label).astype(np.uint8)), labels.shape)
            np.testing.assert_array_equal(mask, own)


def test_cityscapes_label_ids_are_the_official_ones(consume):
    official = consume("read_cityscapes.py")
    assert tuple(name for name, _, _ in official) == CITYSCAPES.names
    assert tuple(number for _, number, _ in official) == CITYSCAPES_LABEL_IDS
    assert tuple(tuple(colour) for _, _, colour in official) == CITYSCAPES.colours


def test_fiftyone_loads_masks_fields_and_targets(street, run_export, read_back):
    folder, _ = run_export("fiftyone", street.out, every=1, limit=3)
    said, found = read_back("read_fiftyone.py", folder)
    expected = street.labels.labels_at(street.id, range(3))
    for labels, mask in zip(expected, found, strict=True):
        np.testing.assert_array_equal(mask, (labels + 1).astype(np.uint8))
    assert said["targets"] == {str(i + 1): name for i, name in enumerate(CAMVID.names)}
    assert said["colours"][8] == {"intTarget": 9, "color": "#400080"}
    assert (said["media_type"], said["late"]) == ("image", 1)
    for index, sample in enumerate(said["samples"]):
        row = street.labels.row(street.id, index)
        assert sample["confidence"] == pytest.approx(row.confidence)
        assert (sample["video"], sample["frame_index"], sample["time_s"]) == (street.id, index, row.time_s)
        assert (sample["keyframe_distance"], sample["size"]) == (row.keyframe_distance, [72, 96])
        assert sample["exists"]
