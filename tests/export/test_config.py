"""What an export refuses to be told, and what it takes for granted."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsvnet.errors import ConfigError
from gsvnet.export.config import ExportConfig


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"format": "png", "every": 0}, "--every 0: at least 1"),
        ({"format": "png", "limit": 0}, "--limit 0: at least 1"),
        ({"format": "coco", "ids": "cityscapes"}, "--ids cityscapes goes with the format png, not coco"),
        ({"format": "coco", "image_prefix": "x"}, "--image-prefix goes with the format label-studio, not coco"),
        ({"format": "mp4", "images": "jpg"}, "--images jpg: an mp4 holds the pictures"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        ExportConfig(out="out", to="to", **options)


@pytest.mark.parametrize(
    ("to", "shown"),
    [("", "''"), ("file://", "'file://'"), ("s3://me:secret@bucket/x", "'s3://bucket/x'"), ("gs://b", "'gs://b'")],
)
def test_only_a_local_folder_is_written(to, shown):
    with pytest.raises(ConfigError, match=f"^--to is a local folder to write; got {shown}$"):
        ExportConfig(format="png", out="out", to=to)


@pytest.mark.parametrize(("to", "folder"), [("a/b", "a/b"), ("file:///a/b", "/a/b"), (".", ".")])
def test_the_folder_is_that_of_a_path_or_file_uri(to, folder):
    assert ExportConfig(format="png", out="out", to=to).folder == Path(folder)


@pytest.mark.parametrize(
    ("form", "kind", "reads"),
    [
        ("png", "none", False),
        ("coco", "none", False),
        ("coco-panoptic", "none", False),
        ("cvat", "none", False),
        ("label-studio", "jpg", True),
        ("yolo", "jpg", True),
        ("fiftyone", "jpg", True),
        ("mp4", "none", True),
    ],
)
def test_images_are_written_where_a_tool_is_of_no_use_without(form, kind, reads):
    config = ExportConfig(format=form, out="out", to="to")
    assert (config.image_kind, config.reads_pictures) == (kind, reads)
    assert not ExportConfig(format="yolo", out="out", to="to", images="none").reads_pictures
