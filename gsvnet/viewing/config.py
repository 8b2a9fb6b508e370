"""What looking at an output can be told: the report page, the local viewer, and frames to review."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePosixPath
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


@dataclass(frozen=True, kw_only=True)
class ReviewConfig:
    """List the frames that a person should check first, spread over the videos."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label` or `gsvnet compact`."""

    budget: int = 500
    """Frames to list at most."""

    min_gap_seconds: float = 5.0
    """No two frames of a video are closer than this."""

    video: tuple[str, ...] = ()
    """Only of these videos: id, stem, URI or file name; default: all."""

    write: str | None = None
    """File to write with all frames, .csv or .json: for DuckDB, or `gsvnet export ... --frames-from FILE`."""

    pages: str | None = None
    """HTML file to write with a picture of each frame, its labels laid over."""

    overwrite: bool = False
    """Replace the files of --write and --pages."""

    json: bool = False
    """Print JSON."""

    source: str | None = None
    """For --pages: where the video is now, if it was moved; or the folder that all are in now."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""

    video_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem that the videos are read from."""

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ConfigError(f"--budget {self.budget}: at least 1")
        if not 0 < self.min_gap_seconds < math.inf:
            raise ConfigError(f"--min-gap-seconds {self.min_gap_seconds:g}: more than 0")
        if self.write is not None and PurePosixPath(self.write).suffix not in (".csv", ".json"):
            raise ConfigError(f"--write {self.write}: its name must end in .csv or .json")
        if self.write is not None and self.write == self.pages:
            raise ConfigError(f"--write and --pages {self.pages}: two files are needed")
