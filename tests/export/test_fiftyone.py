"""FiftyOne's folder, as its documented layout has it; test_consumers.py loads it into FiftyOne itself."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from gsvnet.classes import CAMVID


def test_samples_name_masks_that_give_back_the_labels(write_labels, run_export, awkward):
    folder, _ = run_export("fiftyone", write_labels(awkward), images="none")
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    for number, (sample, labels) in enumerate(zip(samples, awkward, strict=True)):
        with Image.open(folder / sample["labels"]["mask_path"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), (labels + 1).astype(np.uint8))
        assert sample["metadata"] == {"_cls": "ImageMetadata", "width": 61, "height": 41}
        fields = ("video", "frame_index", "time_s", "confidence", "keyframe_distance")
        expected = ("drive-0123456789ab", number, number * 0.04, 0.75, number % 5)
        assert tuple(sample[name] for name in fields) == expected


def test_ids_are_distinct_and_the_frames_own(write_labels, run_export, awkward):
    out = write_labels(awkward)
    folder, _ = run_export("fiftyone", out, images="none")
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    ids = {sample["_id"]["$oid"] for sample in samples} | {sample["labels"]["_id"]["$oid"] for sample in samples}
    assert len(ids) == 2 * len(samples)
    assert {len(i) for i in ids} == {24}
    some, _ = run_export("fiftyone", out, to=out + "-some", images="none", every=3)
    again = json.loads((some / "samples.json").read_text())["samples"]
    assert again == samples[::3]


def test_mask_targets_and_colours_are_set(write_labels, run_export, awkward):
    folder, _ = run_export("fiftyone", write_labels(awkward[:1]), images="none")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["default_mask_targets"] == {str(i + 1): name for i, name in enumerate(CAMVID.names)}
    colours = metadata["app_config"]["color_scheme"]["default_mask_targets_colors"]
    assert colours[8] == {"intTarget": 9, "color": "#400080"}


def test_images_lie_in_data(street, run_export):
    folder, said = run_export("fiftyone", street.out, every=20)
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert [(folder / sample["filepath"]).is_file() for sample in samples] == [True] * 3
    assert "fiftyone.Dataset.from_dir(" in said
