"""Label Studio's tasks and labeling configuration."""

from __future__ import annotations

import base64
import json
from xml.etree import ElementTree

import numpy as np

import gsvnet.export.label_studio as label_studio
from gsvnet.classes import CAMVID, ClassSet
from gsvnet.export.brush import encode_brush
from gsvnet.export.runs import find_runs


def read_tasks(folder) -> list[dict]:
    return [task for path in sorted(folder.glob("tasks-*.json")) for task in json.loads(path.read_text())]


def test_each_class_present_is_a_brush_region(write_labels, run_export, awkward):
    folder, _ = run_export("label-studio", write_labels(awkward), images="none")
    for task, labels in zip(read_tasks(folder), awkward, strict=True):
        (prediction,) = task["predictions"]
        assert (prediction["model_version"], prediction["score"]) == ("a" * 12, 0.75)
        runs = find_runs(labels.ravel())
        assert [region["value"]["brushlabels"] for region in prediction["result"]] == [
            [CAMVID.names[label]] for label in runs.present(11)
        ]
        for region, label in zip(prediction["result"], runs.present(11)):
            assert region["value"] == {
                "format": "rle",
                "rle": list(encode_brush(runs.lengths(label))),
                "brushlabels": [CAMVID.names[label]],
            }
            size = region["original_height"], region["original_width"], region["image_rotation"]
            assert size == (*labels.shape, 0)
            assert (region["type"], region["from_name"], region["to_name"]) == ("brushlabels", "labels", "image")


def test_the_configuration_fits_the_regions(write_labels, run_export):
    names, colours = ('a "quoted" & <odd> name', "è"), ((1, 2, 255), (0, 0, 0))
    out = write_labels([np.array([[0, 1]], np.uint8)], classes=ClassSet(name="x", names=names, colours=colours))
    folder, _ = run_export("label-studio", out, images="none")
    config = ElementTree.parse(folder / "labeling_config.xml").getroot()
    brush = config.find("BrushLabels")
    assert (brush.get("name"), brush.get("toName")) == ("labels", config.find("Image").get("name"))
    assert [(label.get("value"), label.get("background")) for label in brush] == [
        (names[0], "#0102ff"),
        (names[1], "#000000"),
    ]
    assert config.find("Image").get("value") == "$image"
    regions = read_tasks(folder)[0]["predictions"][0]["result"]
    assert [region["value"]["brushlabels"][0] for region in regions] == list(names)


def test_images_are_written_and_served_from_the_folder(street, run_export):
    folder, said = run_export("label-studio", street.out, limit=2)
    for task in read_tasks(folder):
        route, _, path = task["data"]["image"].partition("?d=")
        assert route == "/data/local-files/"
        assert (folder / path).is_file()
    assert f"LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={folder}\n" in said
    assert f"the project has a source storage: Local files, path {folder}/images, not synced" in said


def test_a_prefix_stands_before_the_file_name(write_labels, run_export, awkward):
    out = write_labels(awkward[:1])
    folder, said = run_export("label-studio", out, images="none", image_prefix="s3://bucket/frames/")
    assert read_tasks(folder)[0]["data"] == {
        "image": "s3://bucket/frames/drive-0123456789ab-00000000.jpg",
        "video": "drive-0123456789ab",
        "frame_index": 0,
        "time_s": 0.0,
    }
    assert "expected at s3://bucket/frames/" in said


def test_uploads_are_cut_where_they_get_too_large(write_labels, run_export, awkward, monkeypatch):
    out = write_labels(awkward)
    whole, _ = run_export("label-studio", out, to=out + "-whole", images="none")
    monkeypatch.setattr(label_studio, "_FILE_BYTES", 500)
    cut, said = run_export("label-studio", out, images="none")
    assert len(list(whole.glob("tasks-*.json"))) == 1
    assert len(list(cut.glob("tasks-*.json"))) > 2
    assert "file(s) of tasks" in said
    assert read_tasks(cut) == read_tasks(whole)


def test_the_journal_keeps_masks_as_short_text(write_labels, run_export, awkward):
    folder, _ = run_export("label-studio", write_labels(awkward[:1]), images="none")
    lines = (folder / ".gsvnet-export.jsonl").read_text().splitlines()
    (record,) = [json.loads(line)["record"] for line in lines if line.startswith('{"frame"')]
    runs = find_runs(awkward[0].ravel())
    assert [base64.b64decode(rle) for _, rle in record["masks"]] == [encode_brush(runs.lengths(i)) for i in (0, 3, 8)]
