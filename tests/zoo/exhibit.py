"""What the zoo says of each of its videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.zoo.drawing import COLOURED, Drawing

Make = Callable[[Path], object]
NUM_FRAMES = 24  # of most exhibits


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What is read of a video. All of it is known from how the file is made.

    times_s: when each frame is shown, in seconds; its pts is within a tick of that. numbers: that are drawn in the
    frames; None: 0, 1, 2, ... colour_error: levels, at most, between the drawn mean colour of a block and what is read
    of it. size: upright height and width in pixels, and of the frames that differ: by place in `other_sizes`.
    problems: what the plan records.
    """

    times_s: tuple[Fraction, ...]
    numbers: Sequence[int] | None = None
    colour_error: float = 5
    size: tuple[int, int] = (72, 96)
    other_sizes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    rotation: int = 0
    problems: tuple[str, ...] = ()
    drawing: Drawing = COLOURED

    @property
    def drawn(self) -> list[int]:
        """Number of each frame, in display order."""
        return list(range(len(self.times_s)) if self.numbers is None else self.numbers)


def steady(
    num_frames: int = NUM_FRAMES, *, start: Fraction | int = 0, rate: Fraction | int = 30, **rest: Any
) -> Frames:
    """Frames at a constant rate. start: seconds. rest: further fields."""
    return Frames(times_s=tuple(start + Fraction(number) / rate for number in range(num_frames)), **rest)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The file is a recorded failure. message: what it says behind the file's name."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One video. file: its name. shows: what is odd about it. happens: what the program does, where it had a choice."""

    file: str
    shows: str
    make: Make = field(repr=False)
    expect: Frames | Refused
    happens: str = ""

    @property
    def name(self) -> str:
        """The file name as an identifier."""
        return self.file.replace(".", "_")
