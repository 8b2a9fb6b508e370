"""Commands about labels that are there: show, report, view, review, verify, compact, diff, export."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gsvnet.errors import ConfigError
from gsvnet.evaluation.config import DiffConfig
from gsvnet.export.config import ExportConfig
from gsvnet.maintenance.config import CompactConfig, VerifyConfig
from gsvnet.terminal import PlainConsole, printable
from gsvnet.uris import redact_uri
from gsvnet.viewing.config import ReportConfig, ReviewConfig, ViewConfig


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Write one frame with its labels laid over it as PNG."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label`."""
    frame: int | None = None
    """Frame index, from 0; default: 0."""
    time: float | None = None
    """Instead of --frame: seconds into the video."""
    video: str | None = None
    """Video id, stem or URI; not needed where the output holds one video."""
    png: str | None = None
    """File to write; default: VIDEO-FRAME.png here."""
    source: str | None = None
    """Where the video is now, if it was moved since it was labeled; or the folder that it is in now."""
    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""
    video_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem that the video is read from."""

    def __post_init__(self) -> None:
        if self.frame is not None and self.time is not None:
            raise ConfigError("--frame and --time both choose the frame; give one")


def show(config: ShowConfig) -> int:
    """Write one frame with its labels laid over it as PNG."""
    from gsvnet.reading.pictures import blend, read_picture, write_png
    from gsvnet.store.layout import check_name
    from gsvnet.store.read import open_labels

    if config.png is not None and Path(config.png).suffix.lower() != ".png":
        raise ConfigError(f"--png {config.png}: name a .png file")
    labels = open_labels(config.out, config.storage_options)
    if config.video is None and len(labels.videos) != 1:
        known = ", ".join(labels.videos[:10]) or "none"
        raise ConfigError(
            f"{redact_uri(config.out)} holds {len(labels.videos)} videos; choose one with --video: {known}"
        )
    video = labels.find_video(config.video or labels.videos[0])
    index = config.frame or 0 if config.time is None else int(labels.frames_played_at(video, [config.time])[0])
    picture = read_picture(labels, video, index, source=config.source, video_options=config.video_options)
    path = Path(config.png or f"{check_name(video)}-{index:06d}.png")
    write_png(path, blend(picture.image, labels.classes.colourise(picture.labels)))
    shares = [(float((picture.labels == i).mean()), name) for i, name in enumerate(labels.classes.names)]
    seen = ", ".join(f"{name} {100 * share:.1f} %" for share, name in sorted(shares, reverse=True) if share > 0)
    distance = {None: "", 0: ", keyframe"}.get(
        picture.keyframe_distance, f", {picture.keyframe_distance} from its keyframe"
    )
    print(printable(f"{path}: frame {index} at {picture.time_s:.3f} s{distance}; {seen}"))
    return 0


def report(config: ReportConfig) -> int:
    """Write one HTML page that shows an output: timelines, pictures, failures, and how the job went."""
    from gsvnet.viewing.commands import report as run

    return run(config, PlainConsole())


def view(config: ViewConfig) -> int:
    """Serve a page on this machine to scrub through videos with their labels laid over."""
    from gsvnet.viewing.commands import view as run

    return run(config, PlainConsole())


def review(config: ReviewConfig) -> int:
    """List the frames that a person should check first: drift, low confidence, unsure classes, lost frames."""
    from gsvnet.viewing.commands import review as run

    return run(config, PlainConsole(soft_wrap=True))


def verify(config: VerifyConfig) -> int:
    """Check that every frame of every planned video is there exactly once and whole. Exit codes: 0 it is, 3 all that is
    missing is recorded as given up, 1 something is damaged, doubled or missing, or nobody can tell."""
    from gsvnet.maintenance.commands import verify as run

    return run(config, PlainConsole(soft_wrap=True))


def compact(config: CompactConfig) -> int:
    """Copy an output into one with few large label files, for SQL engines and slow stores."""
    from gsvnet.maintenance.commands import compact as run

    return run(config, PlainConsole(soft_wrap=True))


def diff(config: DiffConfig) -> int:
    """Compare two sets of labels of the same videos, per class and per frame. Exit codes: 0, also if they differ; 1 if
    they differ by more than --max-differing allows."""
    from gsvnet.evaluation.label_diff import diff as run

    return run(config, PlainConsole(soft_wrap=True))


def export(config: ExportConfig) -> int:
    """Write labels for another tool: PNG, COCO, CVAT, Label Studio, YOLO, FiftyOne, or a video to look at."""
    from gsvnet.export.commands import export as run

    return run(config, PlainConsole(soft_wrap=True))
