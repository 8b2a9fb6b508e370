"""Which clips with a truth for every frame: CamVid's, or drawn streets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from gsvnet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DrawnOptions:
    """Streets to draw, and how they are driven through."""

    scenes: int = 4
    """Streets, each a clip of its own."""

    frames: int = 120
    """Frames of each, 15 a second."""

    speeds: tuple[float, ...] = (0.0, 14.0)
    """Metres per second, of the streets in turns; at 0 the car stands and the traffic goes on."""

    size: str = "360x480"
    """HEIGHTxWIDTH in pixels."""

    folder: Path | None = None
    """Keep the drawn images here, and use those that are there; default: draw them anew."""

    def __post_init__(self) -> None:
        for flag, value in (("--scenes", self.scenes), ("--frames", self.frames)):
            if value < 1:
                raise ConfigError(f"{flag} {value}: at least 1")
        if not self.speeds or min(self.speeds) < 0:
            raise ConfigError(f"--speeds {' '.join(map(str, self.speeds))}: one or more, none below 0")
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"--folder {self.folder}: is a file; name a folder")
        _ = self.height_width

    @property
    def height_width(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        match = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", self.size)
        if match is None:
            raise ConfigError(f"--size {self.size}: must be HEIGHTxWIDTH, such as 360x480")
        return int(match[1]), int(match[2])


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Clips with a truth for every frame."""

    root: Path | None = None
    """CamVid's folder, whose val clip is taken; default: drawn streets."""

    drawn: DrawnOptions = field(default_factory=DrawnOptions)
