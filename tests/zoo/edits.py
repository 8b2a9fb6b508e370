"""Edit lists: what of an MP4 is shown, and when."""

from __future__ import annotations

from tests.zoo.changing import edited, then
from tests.zoo.exhibit import Exhibit, Frames, Refused, steady
from tests.zoo.making import B_FRAMES, video

EDITED = "frames outside the edit list are left out, as players do"
_FIRST = 1024  # media time of the first frame, in ticks of 1/15360 s; a frame has 512


def _edit(file: str, shows: str, *edits: tuple, expect: Frames | Refused, happens: str = "") -> Exhibit:
    make = then(video(num_frames=30, options=B_FRAMES), edited(*edits))
    return Exhibit(file=file, shows=shows, make=make, expect=expect, happens=happens)


EDITS = (
    _edit(
        "edit_middle.mp4",
        "an edit list that begins and ends in the middle of GOPs",
        (500, _FIRST + 10 * 512),
        expect=steady(15, numbers=range(10, 25), problems=(EDITED,)),
        happens="what it leaves out is no frame",
    ),
    _edit(
        "edit_empty.mp4",
        "an edit list that begins with a second of nothing",
        (1000, -1),
        (1000, _FIRST),
        expect=steady(30, start=1),
    ),
    _edit(
        "edit_two.mp4",
        "an edit list of two parts",
        (300, _FIRST),
        (300, _FIRST + 20 * 512),
        expect=steady(18, numbers=[*range(9), *range(20, 29)], problems=(EDITED,)),
    ),
    _edit(
        "edit_again.mp4",
        "an edit list that shows frames twice",
        (300, _FIRST),
        (300, _FIRST + 3 * 512),
        expect=steady(18, numbers=[*range(9), *range(3, 12)], problems=(EDITED,)),
        happens="frames that are shown twice are two rows",
    ),
    _edit(
        "edit_dwell.mp4",
        "an edit list that holds a frame for half a second",
        (500, _FIRST, 0),
        (500, _FIRST),
        expect=steady(30, numbers=[*range(15), *range(15)], problems=(EDITED,)),
        happens="plays at its usual speed, as in FFmpeg's players",
    ),
    _edit(
        "edit_nothing.mp4",
        "an edit list that shows nothing",
        (0, _FIRST),
        expect=Refused(message="no frame can be decoded; record or copy it again"),
    ),
)
