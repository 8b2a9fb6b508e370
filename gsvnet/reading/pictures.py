"""Labels together with the pictures they were made from. Above the store and the video room."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import numpy as np

from gsvnet.chunks import size_in_identity
from gsvnet.errors import ConfigError, MissingExtra, SourceChanged, StoreError, VideoNotFound
from gsvnet.store.indices import to_integers
from gsvnet.store.read import Labels
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.uris import EXTRAS, StorageOptions, local_path, protocol_of_uri, redact_uri

_SEEK_FRAMES = 60
_LONGEST_URI = 8192  # characters; a path has at most 4096 bytes, a signed URL some hundred characters more than its key
_STORES = frozenset(("http", "https", *EXTRAS))


@dataclass(frozen=True, kw_only=True)
class LabeledPicture:
    """One frame of `video`: image (H, W, 3) uint8 RGB upright, labels (H, W) uint8 of the same size, and its row."""

    image: np.ndarray
    labels: np.ndarray
    video: str
    row: FrameRow

    @property
    def frame_index(self) -> int:
        """Index in the video."""
        return self.row.frame_index

    @property
    def time_s(self) -> float:
        """Seconds into the video."""
        return self.row.time_s

    @property
    def keyframe_distance(self) -> int | None:
        """Frames to the keyframe used; None where there is none."""
        return self.row.keyframe_distance


def read_picture(
    labels: Labels,
    video: str,
    frame_index: int,
    *,
    source: str | None = None,
    video_options: StorageOptions | None = None,
) -> LabeledPicture:
    """A frame's own RGB, fetched from its video by pts, with its labels. Arguments and errors: see `stream_pictures`.

    Raises StoreError for a lost frame too.
    """
    row = labels.row(video, frame_index)
    if row.is_lost:
        raise StoreError(f"{video} frame {frame_index} was lost in decoding ({row.status}); it has no labels")
    return next(stream_pictures(labels, video, [frame_index], source=source, video_options=video_options))


def stream_pictures(
    labels: Labels,
    video: str,
    indices: Sequence[int] | np.ndarray | None = None,
    *,
    source: str | None = None,
    video_options: StorageOptions | None = None,
) -> Iterator[LabeledPicture]:
    """The frames of a video at ascending `indices` (None: all) as RGB with labels; lost frames are left out.

    Those that the decoder found damaged are there (`row.status`).
    source: where the video is now, or a folder that holds a file of its name and size; default: the URI in the labels,
    whose file must be the one that was labeled, a local one or one in a bucket or behind HTTP. Frames near each other
    are decoded in one go. Raises VideoError when the video cannot be read, SourceChanged when another file has its
    name, StoreError for frames without a row, ConfigError for what are no ascending indices.
    """
    read_images = _import_decoder()
    footer = labels.footer(video)
    where, identity = (find_source(footer.uri, source), None) if source else (_named(footer.uri), footer.identity)
    if where not in (footer.uri, source):
        _check_size(where, footer, video_options)
    try:
        for run in _runs(labels.indices(video) if indices is None else indices):
            frames, ahead = tee(frame for frame in labels.stream(video, run) if not frame.row.is_lost)
            times = (frame.row.pts for frame in ahead)
            images = read_images(where, times, storage_options=video_options, identity=identity)
            for frame, image in zip(frames, images):
                labels_of_size = fit_labels(frame.labels, image.shape[:2])
                yield LabeledPicture(image=image, labels=labels_of_size, video=frame.video, row=frame.row)
    except SourceChanged as error:
        message = "is not the file that was labeled; where it shows the same frames, name it with --source"
        raise SourceChanged(message, uri=footer.uri) from error


def find_source(uri: str, source: str) -> str:
    """Where the video of `uri` is now: `source` itself, or the file of the same name in it if it is a folder.

    Raises ConfigError for a folder where the URI has no file name.
    """
    path = local_path(source)
    if not (source.endswith("/") if path is None else path.is_dir()):
        return source
    name = uri.rpartition("/")[2]
    if name in ("", ".", "..") or (path is None and "::" in name):  # fsspec would take the rest for another store
        raise ConfigError(f"{redact_uri(uri)} has no file name to look for in {redact_uri(source)}")
    return f"{source.rstrip('/')}/{name}"


def _named(uri: str) -> str:
    """The address that the labels themselves name. Raises VideoNotFound for one that only a user may name.

    Labels may come from anybody, and fsspec knows addresses that unpack archives, follow other files' instructions or
    run programs; a plain path or an object of a store can be no more than a file that is no video.
    """
    if len(uri) > _LONGEST_URI:
        raise VideoNotFound(f"no video has an address of {len(uri):,} characters", uri=f"{redact_uri(uri)[:80]}...")
    if local_path(uri) is None and ("::" in uri or protocol_of_uri(uri) not in _STORES):
        raise VideoNotFound("labels alone do not open this kind of address; name it with --source", uri=redact_uri(uri))
    return uri


def _import_decoder() -> Callable[..., Iterator[np.ndarray]]:
    try:
        from gsvnet.video.decode import read_images
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "av", "view") from error
    return read_images


def _check_size(where: str, footer: ShardFooter, video_options: StorageOptions | None) -> None:
    """Raise SourceChanged where a file found by its name is not as long as the labeled one: names repeat in folders."""
    from gsvnet.video.source import stat_source

    labeled = size_in_identity(footer.identity)
    size, _ = stat_source(where, video_options)
    if labeled not in (None, size):
        raise SourceChanged(
            f"has {size} bytes, the labeled video of this name {labeled}; name the file itself with --source",
            uri=redact_uri(where),
        )


def _runs(indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Ascending frames cut where seeking is better than decoding what lies between; it costs about _SEEK_FRAMES."""
    found = np.array(to_integers(indices), np.int64)
    if (np.diff(found) <= 0).any():
        raise ConfigError("frame indices must ascend here, each once: frames are decoded one after the other")
    return np.split(found, np.flatnonzero(np.diff(found) > _SEEK_FRAMES) + 1)


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
