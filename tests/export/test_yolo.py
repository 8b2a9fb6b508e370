"""YOLO's text: what it says, what it loses, and that it says so."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml

from gsvnet.classes import CAMVID
from gsvnet.export.polygons import fill_polygons, trace_polygons


def read_polygons(path, size) -> list[tuple[int, np.ndarray]]:
    """(class, points in pixels (N, 2)) of each line, not rounded."""
    found = []
    for line in path.read_text().splitlines():
        label, *values = line.split()
        assert len(values) >= 6
        assert all(0 <= float(value) < 1 for value in values)
        found.append((int(label), np.array(values, float).reshape(-1, 2) * (size[1], size[0])))
    return found


@pytest.mark.parametrize("to_pixels", [np.round, np.trunc])
def test_readers_that_round_and_that_cut_find_the_same_pixels(write_labels, run_export, awkward, to_pixels):
    folder, _ = run_export("yolo", write_labels(awkward), images="none")
    for path, labels in zip(sorted((folder / "labels").iterdir()), awkward, strict=True):
        found = [(label, to_pixels(points).astype(np.int32)) for label, points in read_polygons(path, labels.shape)]
        expected = [
            (label, polygon) for label in range(11) for polygon in trace_polygons((labels == label).astype(np.uint8))
        ]
        assert [label for label, _ in found] == [label for label, _ in expected]
        for (_, points), (_, polygon) in zip(found, expected):
            np.testing.assert_array_equal(points, polygon)


def test_the_loss_is_measured_and_said(write_labels, run_export, awkward):
    folder, said = run_export("yolo", write_labels(awkward), images="none")
    text = (folder / "data.yaml").read_text()
    stated = float(re.search(r"^# lossy: mean IoU .* ([\d.]+) %", text)[1])
    counts = np.zeros((11, 2))
    for path, labels in zip(sorted((folder / "labels").iterdir()), awkward):
        polygons = read_polygons(path, labels.shape)
        for label in range(11):
            own = [np.trunc(points).astype(np.int32) for found, points in polygons if found == label]
            filled, mask = fill_polygons(own, labels.shape).astype(bool), labels == label
            counts[label] += (filled & mask).sum(), (filled | mask).sum()
    assert stated == pytest.approx(100 * (counts[:, 0] / counts[:, 1]).mean(), abs=0.006)
    assert stated < 90  # noise and single pixels are lost
    assert f"{stated:.2f} %" in said


def test_the_dataset_file_names_the_classes(street, run_export):
    folder, _ = run_export("yolo", street.out, limit=2)
    data = yaml.safe_load((folder / "data.yaml").read_text())
    assert data["names"] == dict(enumerate(CAMVID.names))
    assert (folder / data["train"]).is_dir()
    assert data["train"] == data["val"] == "images"
    assert [p.stem for p in sorted((folder / "images").iterdir())] == [
        p.stem for p in sorted((folder / "labels").iterdir())
    ]


def test_a_frame_without_a_class_has_an_empty_file(write_labels, run_export, awkward):
    folder, _ = run_export("yolo", write_labels(awkward[3:4]), images="none")
    assert next((folder / "labels").iterdir()).read_bytes() == b""


def test_missing_images_are_said(write_labels, run_export, awkward):
    _, said = run_export("yolo", write_labels(awkward[:1]), images="none")
    assert "cannot train without: export with --images jpg" in said
