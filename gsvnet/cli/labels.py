"""Commands about labels that are there: show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gsvnet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Write one frame with its labels laid over it as PNG."""

    out: Annotated[str, tyro.conf.Positional]
    """Output folder or URI of `gsvnet label`."""
    frame: int = 0
    """Frame index, from 0."""
    video: str | None = None
    """Video id, stem or URI; not needed where the output holds one video."""
    png: str | None = None
    """File to write; default: VIDEO-FRAME.png here."""
    source: str | None = None
    """Where the video is now, if it was moved since it was labeled."""


def show(config: ShowConfig) -> int:
    """Write one frame with its labels laid over it as PNG."""
    from gsvnet.reading.pictures import blend, read_picture, write_png
    from gsvnet.store.read import open_labels

    labels = open_labels(config.out)
    if config.video is None and len(labels.videos) != 1:
        raise ConfigError(f"{config.out} holds {len(labels.videos)} videos; choose one with --video: {labels.videos}")
    video = labels.find_video(config.video or labels.videos[0])
    picture = read_picture(labels, video, config.frame, source=config.source)
    path = Path(config.png or f"{video}-{config.frame:06d}.png")
    write_png(path, blend(picture.image, labels.classes.colourise(picture.labels)))
    shares = [(float((picture.labels == i).mean()), name) for i, name in enumerate(labels.classes.names)]
    seen = ", ".join(f"{name} {100 * share:.1f} %" for share, name in sorted(shares, reverse=True) if share > 0)
    distance = "keyframe" if picture.keyframe_distance == 0 else f"{picture.keyframe_distance} from its keyframe"
    print(f"{path}: frame {config.frame} at {picture.time_s:.3f} s, {distance}; {seen}")
    return 0
