"""The chosen frames of an output, one by one, with their pictures where these are wanted."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from gsvnet.errors import ConfigError, VideoNotFound
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import ExportedFrame, import_extra, name_stem
from gsvnet.export.target import Target
from gsvnet.reading.pictures import find_source, stream_pictures
from gsvnet.store.read import Labels
from gsvnet.store.schema import FrameRow
from gsvnet.uris import local_path, redact_uri

_JPEG_QUALITY = 95


def digest_choice(chosen: Mapping[str, np.ndarray]) -> str:
    """16 hex digits that tell a choice of frames (video id -> indices) from another."""
    digest = hashlib.sha256()
    for video, indices in chosen.items():
        digest.update(f"{video} {len(indices)} ".encode())
        digest.update(np.asarray(indices, "<i8").tobytes())
    return digest.hexdigest()[:16]


def digest_sources(labels: Labels, videos: Iterable[str]) -> str:
    """16 hex digits that tell the files that were labeled under these ids from others."""
    digest = hashlib.sha256()
    for video in videos:
        digest.update(f"{video} {labels.footer(video).identity}\n".encode())
    return digest.hexdigest()[:16]


def check_sources(labels: Labels, videos: Iterable[str], config: ExportConfig) -> None:
    """Raise VideoNotFound where local videos are gone, ConfigError for one source file of several videos."""
    uris = [labels.footer(video).uri for video in videos]
    sources = [find_source(uri, config.source) if config.source else uri for uri in uris]
    if config.source and len(sources) > 1 and config.source in sources:
        raise ConfigError(
            f"--source {redact_uri(config.source)} is one file, but frames of {len(sources)} videos are chosen: "
            "name the folder that holds them all, or choose one with --video"
        )
    paths = [path for path in map(local_path, sources) if path is not None]
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113, no error for a name too long
    if missing:
        without = "" if config.format == "mp4" else "; --images none exports the labels alone"
        raise VideoNotFound(
            f"{len(missing)} of {len(sources)} videos are not where they were labeled, such as {missing[0]}: "
            f"say where they are with --source{without}"
        )


def stream_frames(
    labels: Labels, video: str, indices: np.ndarray, *, config: ExportConfig, image_folder: str
) -> Iterator[ExportedFrame]:
    """Frames of a video at ascending indices; lost and damaged ones are left out.

    Raises as the streams of `gsvnet.reading` do.
    """
    suffix = "jpg" if config.image_kind == "none" else config.image_kind

    def name_image(index: int) -> str:
        return f"{image_folder}/{name_stem(video, index)}.{suffix}"

    def describe(row: FrameRow, frame_labels: np.ndarray, image: np.ndarray | None) -> ExportedFrame:
        return ExportedFrame(
            video=video,
            frame_index=row.frame_index,
            pts=row.pts,
            time_s=row.time_s,
            keyframe_distance=row.keyframe_distance,
            confidence=row.confidence,
            labels=frame_labels,
            image=image,
            image_file=name_image(row.frame_index),
        )

    if config.reads_pictures:
        options = config.video_options
        for picture in stream_pictures(labels, video, indices, source=config.source, video_options=options):
            if picture.row.status == "ok":
                yield describe(picture.row, picture.labels, picture.image)
    else:
        for frame in labels.stream(video, indices):
            if frame.row.status == "ok":
                yield describe(frame.row, frame.labels, None)


def write_images(frames: Iterator[ExportedFrame], target: Target) -> Iterator[ExportedFrame]:
    """The same frames, each after its picture was written."""
    pillow = import_extra("PIL.Image")
    for frame in frames:
        data = io.BytesIO()
        kind = Path(frame.image_file).suffix
        pillow.fromarray(frame.image).save(data, "JPEG" if kind == ".jpg" else "PNG", quality=_JPEG_QUALITY)
        target.write(frame.image_file, data.getvalue())
        yield frame
