"""Labels together with the pictures they were made from. Above the store and the video room."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsvnet.errors import ConfigError, MissingExtra, StoreError
from gsvnet.store.read import Labels


@dataclass(frozen=True, kw_only=True)
class LabeledPicture:
    """One frame: image (H, W, 3) uint8 RGB upright, labels (H, W) uint8 of the same size, and what its row says."""

    image: np.ndarray
    labels: np.ndarray
    video: str
    frame_index: int
    time_s: float
    keyframe_distance: int | None


def read_picture(labels: Labels, video: str, frame_index: int, *, source: str | None = None) -> LabeledPicture:
    """A frame's own RGB, fetched from its video by pts, with its labels.

    source: where the video is now; default: the URI in the labels. Raises VideoError when it cannot be read,
    StoreError when the frame has no labels.
    """
    from gsvnet.video.decode import read_frame_at

    row = labels.row(video, frame_index)
    if row.status != "ok":
        raise StoreError(f"{video} frame {frame_index} was lost in decoding ({row.status}); it has no labels")
    mask = labels.labels_at(video, [frame_index])[0]
    image = read_frame_at(source or labels.footer(video).uri, row.pts)
    return LabeledPicture(
        image=image,
        labels=fit_labels(mask, image.shape[:2]),
        video=video,
        frame_index=frame_index,
        time_s=row.time_s,
        keyframe_distance=row.keyframe_distance,
    )


def fit_labels(labels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Labels (H, W) at another size: of the pixel in which each new pixel's centre lies."""
    rows = (2 * np.arange(size[0]) + 1) * labels.shape[0] // (2 * size[0])
    columns = (2 * np.arange(size[1]) + 1) * labels.shape[1] // (2 * size[1])
    return labels[rows][:, columns]


def blend(image: np.ndarray, colours: np.ndarray, *, opacity: float = 0.55) -> np.ndarray:
    """The picture (H, W, 3) uint8 with the label colours laid over it."""
    return (image * (1 - opacity) + colours * opacity + 0.5).astype(np.uint8)


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write RGB (H, W, 3) uint8 as PNG. Raises ConfigError where it cannot be written, MissingExtra without Pillow."""
    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise MissingExtra("pillow", "view") from error
    try:
        pillow.fromarray(image).save(path, format="PNG")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; choose another file or folder") from error
