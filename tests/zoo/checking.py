"""Whether the program reads an exhibit as the catalogue says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsvnet.errors import NotAVideo
from gsvnet.video.decode import Frame, read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import VideoIndex, index_video
from gsvnet.video.probe import VideoInfo, probe_video
from tests.zoo.drawing import colour_error
from tests.zoo.exhibit import Exhibit, Frames, Refused


def check(exhibit: Exhibit, path: Path) -> float | None:
    """Largest colour error of the frames, in levels; None where the file is refused. AssertionError else."""
    if isinstance(exhibit.expect, Refused):
        _check_refusal(exhibit.expect, path)
        return None
    return _check_frames(exhibit.expect, path)


def _check_refusal(expect: Refused, path: Path) -> None:
    try:
        probe_video(str(path))
        index = index_video(str(path))
    except NotAVideo as error:
        said = str(error)
    else:
        said = f"{len(index.pts)} frames"
    _agree("message", said, f"{path}: {expect.message}")


def _check_frames(expect: Frames, path: Path) -> float:
    info, index = probe_video(str(path)), index_video(str(path))
    _agree("size, rotation", (info.height, info.width, info.rotation), (*expect.size, expect.rotation))
    _check_times(expect, info, index)
    _agree("problems", index.problems, expect.problems)
    whole = _read(path, info, index, 0, len(index.pts))
    _agree("numbers", _numbers(expect, whole), expect.drawn)
    for first, stop in _ranges(len(index.pts)):
        part = _read(path, info, index, first, stop)
        for alone, among in zip(part, whole[first:stop], strict=True):
            _agree("index, pts", (alone.index, alone.pts), (among.index, among.pts))
            np.testing.assert_array_equal(alone.images[0], among.images[0])
    error = max(_colour_error(expect, frame) for frame in whole)
    assert error <= expect.colour_error, f"colours are off by {error:.1f} levels, allowed: {expect.colour_error}"
    return error


def _check_times(expect: Frames, info: VideoInfo, index: VideoIndex) -> None:
    _agree("number of frames", len(index.pts), len(expect.times_s))
    for tick, time_s in zip(index.pts.tolist(), expect.times_s, strict=True):
        assert abs(tick * info.time_base - time_s) < info.time_base, f"pts {tick} of {info.time_base} s, not {time_s} s"


def _agree(what: str, found: object, expected: object) -> None:
    assert found == expected, f"{what}: {found}, not {expected}"


def _ranges(num_frames: int) -> set[tuple[int, int]]:
    """Ranges [first, stop) that begin in the middle, at an end, or hold one frame."""
    third, half = num_frames // 3, num_frames // 2
    ranges = {(0, half), (half, num_frames), (third, 2 * third), (third + 1, third + 2), (num_frames - 1, num_frames)}
    return {(first, stop) for first, stop in ranges if first < stop <= num_frames}


def _read(path: Path, info: VideoInfo, index: VideoIndex, first: int, stop: int) -> list[Frame]:
    pts = index.pts.tolist()
    frames = read_frames(
        str(path),
        first_frame=first,
        start_pts=pts[first],
        end_pts=pts[stop] if stop < len(pts) else None,
        views=lambda _: [View(info.height, info.width)],
        rotation=info.rotation,
    )
    return list(frames)


def _numbers(expect: Frames, frames: list[Frame]) -> list[int]:
    _agree("statuses", {frame.status for frame in frames}, {"ok"})
    _agree("indices", [frame.index for frame in frames], list(range(len(frames))))
    return [expect.drawing.read(frame.images[0]) for frame in frames]


def _colour_error(expect: Frames, frame: Frame) -> float:
    size = expect.other_sizes.get(frame.index, expect.size)
    return colour_error(frame.images[0], expect.drawing.draw(expect.drawn[frame.index], *size))
