"""Images that nobody labelled, for a teacher to label: every n-th frame of real videos, and folders of pictures."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError, MissingExtra, VideoError
from gsvnet.evaluation.resize import resize_image
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.models.segmenter import SizeRule
from gsvnet.training.sources import read_views
from gsvnet.training.stills import Stills
from gsvnet.video.frames import View
from gsvnet.video.probe import probe_video

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))


def read_unlabelled(inputs: Iterable[str], rule: SizeRule, *, step: int) -> Iterator[tuple[str, Stills]]:
    """(video or folder, its stills at the rule's working size, all labels 255), one after the other.

    inputs: as `gsvnet label` takes them, and folders that hold images, all of one size. step: every so many frames of a
    video are taken; of images all. Raises ConfigError and VideoError for what cannot be read.
    """
    for text in inputs:
        if images := _list_images(text):
            yield text, _read_images(images, rule)
            continue
        for uri in expand_inputs([text]):
            yield uri, _read_video(uri, rule, step)


def _list_images(text: str) -> list[Path]:
    """Images directly in a folder, by name."""
    folder = Path(text)
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _read_images(paths: list[Path], rule: SizeRule) -> Stills:
    images: list[torch.Tensor] = []
    for path in paths:
        image = _read_image(path)
        small = resize_image(image, rule.working_size(image.shape[-2], image.shape[-1]), "area")
        if images and small.shape != images[0].shape:
            raise ConfigError(
                f"{path}: {tuple(image.shape[-2:])} pixels do not fit {paths[0].name}; "
                "images of one folder need one shape"
            )
        images.append(small)
    return _without_labels(torch.stack(images))


def _read_image(path: Path) -> torch.Tensor:
    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise MissingExtra("pillow", "train") from error
    try:
        with pillow.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _read_video(uri: str, rule: SizeRule, step: int) -> Stills:
    info = probe_video(uri)
    view = View(*rule.working_size(info.height, info.width), resize="area")
    frames = read_views(uri, lambda index: [view] if index % step == 0 else [], rotation=info.rotation)
    images = [torch.from_numpy(frame.images[0]).permute(2, 0, 1) for frame in frames if frame.images]
    if not images:
        raise VideoError("no frame can be decoded; nothing to label", uri=info.uri)
    return _without_labels(torch.stack(images))


def _without_labels(images: torch.Tensor) -> Stills:
    labels = torch.full((len(images), *images.shape[-2:]), IGNORE, dtype=torch.uint8)
    return Stills(images=images.contiguous(), labels=labels)
