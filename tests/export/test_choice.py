"""Frames that a file lists."""

from __future__ import annotations

import json

import pytest

from gsvnet.errors import ConfigError
from gsvnet.export.choice import choose_frames
from gsvnet.export.config import ExportConfig
from gsvnet.store.read import open_labels

DRIVE, NIGHT = "drive-0123456789ab", "night-ba9876543210"


@pytest.fixture
def chosen_of(write_labels, awkward, tmp_path):
    """chosen_of(content of the file, **options): {video: indices}, of frames 0..7 and, of the other video, 0 and 1."""
    out = write_labels(awkward)
    write_labels(awkward[:2], video=NIGHT, uri="s3://videos/night.mp4")

    def choose(content: str, **options) -> dict[str, list[int]]:
        (tmp_path / "list").write_text(content)
        config = ExportConfig(
            format="png", out=out, to=str(tmp_path / "to"), frames_from=str(tmp_path / "list"), **options
        )
        return {video: indices.tolist() for video, indices in choose_frames(open_labels(out), config).items()}

    return choose


def test_columns_may_stand_in_any_order_and_frames_too(chosen_of):
    listed = f"score,frame_index,video\n2,7,{DRIVE}\n1,0,night.mp4\n1,3,{DRIVE}\n1,3,drive\n"
    assert chosen_of(listed) == {DRIVE: [3, 7], NIGHT: [0]}


def test_json_is_taken_too(chosen_of):
    assert chosen_of(json.dumps([{"video": DRIVE, "frame_index": 2}])) == {DRIVE: [2]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"where": "frame_index > 1"}, {DRIVE: [3, 7]}),
        ({"limit": 1}, {DRIVE: [3]}),
        ({"video": ("night",)}, {NIGHT: [0]}),
        ({"every": 7}, {DRIVE: [7], NIGHT: [0]}),
    ],
)
def test_other_choices_are_made_among_them(chosen_of, options, expected):
    assert chosen_of(f"video,frame_index\n{DRIVE},3\n{DRIVE},7\n{NIGHT},0\n", **options) == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"video,frame_index\n{DRIVE},8\n", f"{DRIVE} has no labels of frame 8"),
        ("video,frame_index\nday,0\n", "no video with labels is called 'day'"),
        ("video,frame\nday,0\n", "frame 1 has no video or no whole frame_index"),
        (f"video,frame_index\n{DRIVE},two\n", "frame 1 has no video or no whole frame_index"),
        (f"video,frame_index\n{DRIVE},{2**63}\n", "frame 1 has no video or no whole frame_index"),
        (json.dumps([{"video": DRIVE, "frame_index": 2.7}]), "frame 1 has no video or no whole frame_index"),
        ("[" * 10**5, "neither CSV nor JSON"),
        ("{}", "a list of objects is needed"),
        ("[1", "neither CSV nor JSON"),
    ],
)
def test_what_cannot_be_meant_is_said(chosen_of, content, problem):
    with pytest.raises(ConfigError, match=problem):
        chosen_of(content)


def test_a_file_that_is_not_there_is_said(write_labels, awkward, tmp_path):
    out = write_labels(awkward[:1])
    config = ExportConfig(format="png", out=out, to=str(tmp_path / "to"), frames_from=str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match=r"none\.csv: no such file"):
        choose_frames(open_labels(out), config)
