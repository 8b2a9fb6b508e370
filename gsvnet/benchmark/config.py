"""What `gsvnet benchmark` can be told. The command line is generated from this."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gsvnet.benchmark.reach import REACH
from gsvnet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure this machine: every fast way beside the plain one, in turns, and what is reached end to end."""

    json: Path | None = None
    """Also write one JSON object a line to this file, as rows are done: first the machine, then each row."""

    only: tuple[str, ...] = ()
    """Rows to measure, by name; default: all."""

    video: Path | None = None
    """Measure on this video; default: a drawn street, encoded like a dash cam's."""

    model: str | None = None
    """A GSVNet as `gsvnet label` knows it; default: GSVNet-SwiftNet for 19 classes, made for the drawn street."""

    size: str = "1024x2048"
    """Size of the drawn street, HEIGHTxWIDTH in pixels."""

    rounds: int = 3
    """How often each side of a comparison runs; medians count."""

    threads: int | None = None
    """Threads of torch and of decoding; default: as many as there are usable cores."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is one."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in REACH]
        if unknown:
            raise ConfigError(f"--only {unknown[0]}: no such row; rows are {', '.join(REACH)}")
        for flag, value in (("--rounds", self.rounds), ("--threads", self.threads)):
            if value is not None and value < 1:
                raise ConfigError(f"{flag} {value}: at least 1")
        if self.video is not None and not self.video.is_file():
            raise ConfigError(f"--video {self.video}: no such file")
        if self.json is not None and (self.json.is_dir() or not self.json.absolute().parent.is_dir()):
            raise ConfigError(f"--json {self.json}: must be a file in a folder that exists")
        _ = self.height_width

    @property
    def height_width(self) -> tuple[int, int]:
        """(height, width) of the drawn street in pixels: even, at least 64."""
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", self.size)
        height, width = (int(match[1]), int(match[2])) if match else (0, 0)
        if min(height, width) < 64 or height % 2 or width % 2:
            raise ConfigError(f"--size {self.size}: must be HEIGHTxWIDTH, both even and at least 64, such as 1024x2048")
        return height, width

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows to measure, in the benchmark's order."""
        return tuple(name for name in REACH if not self.only or name in self.only)
