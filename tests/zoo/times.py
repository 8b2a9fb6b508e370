"""Times: uneven, far from 0, below 0, twice, missing; fine and coarse time bases; clocks that wrap or restart."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tests.zoo.changing import joined, then, timed, without_most_pts
from tests.zoo.edits import EDITED
from tests.zoo.exhibit import Exhibit, Frames, Refused, steady
from tests.zoo.making import B_FRAMES, EVERYDAY, FULL, SHARP, TWO_FRAMES, clip, everyday, video, x264

_MS, _90K = Fraction(1, 1000), Fraction(1, 90000)
_GAP = [n + (900 if n >= 12 else 0) for n in range(24)]  # half a minute
_UNEVEN = EVERYDAY["uneven_pts_mp4"][1]["pts"]
_HOURS = [n * 4 * 3600 * 1000 for n in range(7)]
_GUESS = "remux it: ffmpeg -fflags +genpts -i IN -c copy OUT.mkv"
_ALL_I = x264(keyint=1)


def _at(ticks: Sequence[int], base: Fraction = Fraction(1, 30), *, start: Fraction | int = 0, **rest) -> Frames:
    return Frames(times_s=tuple(start + tick * base for tick in ticks), **rest)


def _based(file: str, shows: str, base: Fraction, step: int, timescale: int) -> Exhibit:
    """A file whose time base is `base`, and whose frames are `step` ticks apart."""
    ticks = [n * step for n in range(24)]
    options = {"video_track_timescale": str(timescale)}
    return Exhibit(
        file=file,
        shows=shows,
        make=video(pts=ticks, time_base=base, options=B_FRAMES, container_options=options, prepare=_slow),
        expect=_at(ticks, base),
    )


def _with_few_pts(file: str, message: str, **arguments) -> Exhibit:
    make = then(video(**{"options": x264(bframes=0)} | arguments), without_most_pts)
    shows = "MPEG-TS that says the time of every third frame"
    return Exhibit(file=file, shows=shows, make=make, expect=Refused(message=message))


def _slow(stream) -> None:
    stream.codec_context.framerate = 1  # the muxer takes the last frame's duration from it


TIMES = (
    everyday("uneven_pts_mp4", "a variable frame rate, and a gap of 40 s", _at(_UNEVEN, _MS)),
    everyday("uneven_pts_mkv", "the same in Matroska", _at(_UNEVEN, _MS)),
    clip("gap.ts", "a gap of 30 s in MPEG-TS, with B-frames", _at(_GAP, start=TWO_FRAMES), pts=_GAP, options=B_FRAMES),
    clip("gap.flv", "the same in FLV", _at(_GAP, start=TWO_FRAMES), pts=_GAP, options=B_FRAMES),
    clip(
        "gap.avi",
        "frames left out in AVI, which stores none in their place",
        _at([n + 5 * (n > 9) for n in range(24)]),
        codec="mpeg4",
        options=SHARP,
        pts=[n + 5 * (n > 9) for n in range(24)],
    ),
    clip(
        "negative.mp4",
        "MP4 that begins before 0: its edit list begins at 0",
        steady(14, numbers=range(10, 24), problems=(EDITED,)),
        happens="frames before 0 are left out",
        pts=range(-10, 14),
        options=B_FRAMES,
    ),
    clip(
        "negative.ts",
        "MPEG-TS that begins before 0",
        steady(start=Fraction(-1, 3)),
        pts=range(-10, 14),
        options=B_FRAMES,
        container_options={"avoid_negative_ts": "disabled"},
    ),
    clip(
        "negative.mkv",
        "Matroska that begins before 0, where it has no times",
        steady(14, numbers=range(10, 24), problems=("10 frames have no usable timestamp and are left out",)),
        happens="frames before 0 are left out",
        pts=range(-10, 14),
        options=B_FRAMES,
        container_options={"avoid_negative_ts": "disabled"},
    ),
    clip("late.mp4", "MP4 that begins at 100 s", steady(start=100), pts=range(3000, 3024), options=B_FRAMES),
    clip(
        "late.mkv",
        "Matroska that begins after 35 years",
        _at(range(2**40, 2**40 + 24 * 33, 33), _MS),
        pts=range(2**40, 2**40 + 24 * 33, 33),
        time_base=_MS,
        options=B_FRAMES,
    ),
    Exhibit(
        file="twice.mkv",
        shows="two frames with one pts",
        make=then(
            video(num_frames=6, codec="mjpeg", pixel_format="yuvj420p", look=FULL, options=SHARP),
            timed(0, 100, 200, 200, 300, 400),
        ),
        expect=_at(
            (0, 100, 200, 300, 400),
            _MS,
            numbers=(0, 1, 2, 4, 5),
            problems=("1 frames share the timestamp of another and are left out",),
        ),
        happens="the first of them counts",
    ),
    _with_few_pts(
        "few_pts.ts",
        f"the container does not store the order of its B-frames; {_GUESS}",
        codec="mpeg2video",
        options=SHARP,
    ),
    _with_few_pts("few_pts_h264.ts", "16 frames have no usable timestamp; re-encode it: ffmpeg -i IN OUT.mkv"),
    _based("base_90000.mp4", "a time base of 1/90000 s, 29.97 frames/s", _90K, 3003, 90000),
    _based("base_million.mp4", "a time base of a millionth of a second", Fraction(1, 10**6), 33333, 10**6),
    _based("base_finest.mp4", "the finest time base of MP4", Fraction(1, 2**31 - 1), 71582788, 2**31 - 1),
    _based("base_second.mp4", "a time base of 1 s", Fraction(1), 1, 1),
    clip(
        "day.mp4",
        "24 hours, a frame each four hours",
        _at(_HOURS, _MS),
        num_frames=7,
        pts=_HOURS,
        time_base=_MS,
        options=B_FRAMES,
    ),
    clip(
        "day.mkv", "the same in Matroska", _at(_HOURS, _MS), num_frames=7, pts=_HOURS, time_base=_MS, options=B_FRAMES
    ),
    clip(
        "day.ts",
        "the same in MPEG-TS without B-frames",
        _at(_HOURS, _MS),
        num_frames=7,
        pts=_HOURS,
        time_base=_MS,
        options=_ALL_I,
    ),
    clip(
        "day_b_frames.ts",
        "the same with B-frames, whose times look damaged",
        Refused(message="7 frames have no usable timestamp; re-encode it: ffmpeg -i IN OUT.mkv"),
        num_frames=7,
        pts=_HOURS,
        time_base=_MS,
        options=B_FRAMES,
    ),
    clip(
        "wrap.ts",
        "MPEG-TS whose clock of 33 bits wraps after 1 s",
        steady(60, start=-1),
        happens="times go on; before the wrap they are negative",
        num_frames=60,
        pts=range(2**33 - 90000, 2**33 + 90000, 3000),
        time_base=_90K,
        options=B_FRAMES,
        container_options={"mpegts_copyts": "1"},
    ),
    clip(
        "wrap_later.ts",
        "MPEG-TS whose clock wraps after 100 s",
        _at(range(2**33 - 100 * 90000, 2**33 + 200 * 90000, 5 * 90000), _90K),
        happens="times go on",
        num_frames=60,
        pts=range(2**33 - 100 * 90000, 2**33 + 200 * 90000, 5 * 90000),
        time_base=_90K,
        options=_ALL_I,
        container_options={"mpegts_copyts": "1"},
    ),
    Exhibit(
        file="joined.ts",
        shows="two recordings joined, whose clock restarts",
        make=joined(*[video(num_frames=60, options=B_FRAMES)] * 2),
        expect=Refused(
            message="timestamps jump back by 2.0 s, as in joined recordings; remux it: ffmpeg -i IN -c copy OUT.mkv"
        ),
    ),
    clip("one.mp4", "one frame", steady(1), num_frames=1, options=B_FRAMES),
    clip("one.ts", "one frame in MPEG-TS", steady(1), num_frames=1, options=B_FRAMES),
    clip("two.mp4", "two frames", steady(2), num_frames=2, options=B_FRAMES),
)
