"""What looking at an output can be told: the report page and the local viewer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from gsvnet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write one HTML page that shows an output; it needs no network to be read."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label` or `gsvnet compact`."""

    to: str | None = None
    """File to write; default: _report.html in the output."""

    max_videos: int = 12
    """Videos shown with timeline and pictures, those with trouble first; the others get a line in the table."""

    thumbnails: int = 12
    """Pictures per video."""

    source: str | None = None
    """Where the video is now, if it was moved; or the folder that all are in now."""

    overwrite: bool = False
    """Replace the file of --to."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""

    video_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem that the videos are read from."""

    def __post_init__(self) -> None:
        if self.max_videos < 0 or self.thumbnails < 0:
            raise ConfigError(f"--max-videos {self.max_videos}, --thumbnails {self.thumbnails}: at least 0")


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Serve a page on this machine to scrub through labeled videos."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label` or `gsvnet compact`."""

    host: str = "127.0.0.1"
    """Address to listen on; anyone who reaches it sees all labels and videos of the output."""

    port: int = 8050
    """Port to listen on; 0: any free one."""

    source: str | None = None
    """Where the video is now, if it was moved; or the folder that all are in now."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""

    video_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem that the videos are read from."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port {self.port}: 0 to 65535")
