"""What an export can be told. The command line is generated from this dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gsvnet.errors import ConfigError
from gsvnet.uris import local_path, redact_uri

FormatName = Literal["png", "coco", "coco-panoptic", "cvat", "label-studio", "yolo", "fiftyone", "mp4"]
ImageKind = Literal["none", "jpg", "png"]

_NEED_IMAGES = ("label-studio", "yolo", "fiftyone")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write labels for another tool. The same command goes on where it was interrupted."""

    format: Annotated[FormatName, tyro.conf.Positional]
    """png: indexed PNG · coco: instances.json with RLE · coco-panoptic · cvat: segmentation mask 1.1 ·
    label-studio: brush · yolo: polygons, LOSSY (specks go) · fiftyone · mp4: video with labels laid over."""

    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Output folder or URI of `gsvnet label` or `gsvnet compact`."""

    to: str
    """Local folder to write; a new or an empty one."""

    beside: str | None = None
    """Another output of the same videos, for mp4: OUT is the left half and this one the right, each with its labels
    laid over, so that two models or settings can be compared frame by frame."""

    frames_from: str | None = None
    """Only frames that this CSV or JSON file lists by `video` and `frame_index`, such as that of `gsvnet review`."""

    where: str | None = None
    """Only frames for which this SQL condition holds, such as "pixels.car > 20000 and confidence < 0.8"."""

    every: int = 1
    """Of these, frames whose index is a multiple of this."""

    limit: int | None = None
    """At most so many frames."""

    video: tuple[str, ...] = ()
    """Only of these videos: id, stem, URI or file name; default: all."""

    images: Literal["auto", "none", "jpg", "png"] = "auto"
    """Write each frame's picture beside its labels, read from the video. auto: jpg for label-studio, yolo and fiftyone,
    which show pictures or train on them; none for the others."""

    image_prefix: str | None = None
    """What label-studio puts before an image's file name: a URL or bucket that holds the images. Default: where Label
    Studio serves local files, "/data/local-files/?d=images/"."""

    ids: Literal["own", "cityscapes"] = "own"
    """Pixel values of png: own class ids (Cityscapes' trainIds), or Cityscapes' label ids (7 road ... 33 bicycle)."""

    source: str | None = None
    """Where the video is now, if it was moved; or the folder that all are in now."""

    overwrite: bool = False
    """Replace what an earlier export wrote into --to."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""

    video_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem that the videos are read from."""

    def __post_init__(self) -> None:
        if self.to in ("", "file://") or local_path(self.to) is None:
            raise ConfigError(f"--to is a local folder to write; got {redact_uri(self.to)!r}")
        if self.every < 1:
            raise ConfigError(f"--every {self.every}: at least 1")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit {self.limit}: at least 1")
        if self.ids != "own" and self.format != "png":
            raise ConfigError(f"--ids {self.ids} goes with the format png, not {self.format}")
        if self.image_prefix is not None and self.format != "label-studio":
            raise ConfigError(f"--image-prefix goes with the format label-studio, not {self.format}")
        if self.beside is not None and self.format != "mp4":
            raise ConfigError(f"--beside goes with the format mp4, not {self.format}")
        if self.format == "mp4" and self.images in ("jpg", "png"):
            raise ConfigError(f"--images {self.images}: an mp4 holds the pictures; choose another format for files")

    @property
    def folder(self) -> Path:
        """The local folder to write."""
        path = local_path(self.to)
        assert path is not None  # as __post_init__ has seen
        return path

    @property
    def image_kind(self) -> ImageKind:
        """Which image files are written: the choice, or the format's default."""
        if self.images == "auto":
            return "jpg" if self.format in _NEED_IMAGES else "none"
        return self.images

    @property
    def reads_pictures(self) -> bool:
        """Whether the videos themselves are needed."""
        return self.format == "mp4" or self.image_kind != "none"
