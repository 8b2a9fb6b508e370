"""What every row of the benchmark gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvnet.models.gsvnet import GSVNet


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every row of the benchmark gets.

    folder: empty scratch folder of this row. video: the clip; `footage.read_truth` finds its true labels, if it was
    drawn here. model: fp32, in evaluation mode, on the CPU; rows copy what they change. threads: of torch and of
    decoding, for all sides of a comparison. device: "cpu" or "cuda". rounds: how often each side runs. size: (height,
    width) of the clip in pixels.
    """

    folder: Path
    video: Path
    model: GSVNet
    threads: int
    device: str = "cpu"
    rounds: int = 3
    size: tuple[int, int] = (1024, 2048)
