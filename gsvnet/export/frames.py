"""The chosen frames of an output, one by one, with their pictures where these are wanted."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from gsvnet.errors import ConfigError, VideoNotFound
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import ExportedFrame, import_extra, name_stem
from gsvnet.export.target import Target
from gsvnet.reading.pictures import find_source, stream_pictures
from gsvnet.store.read import Labels
from gsvnet.uris import local_path, redact_uri

_JPEG_QUALITY = 95


def digest_choice(chosen: Mapping[str, np.ndarray]) -> str:
    """16 hex digits that tell a choice of frames (video id -> indices) from another."""
    digest = hashlib.sha256()
    for video, indices in chosen.items():
        digest.update(f"{video} {len(indices)} ".encode())
        digest.update(np.asarray(indices, "<i8").tobytes())
    return digest.hexdigest()[:16]


def find_sources(labels: Labels, videos: Iterable[str], config: ExportConfig) -> dict[str, str | None]:
    """Where each video is now, None: where it was labeled. Raises VideoNotFound, listing local files that are gone."""
    if config.source is None:
        sources: dict[str, str | None] = dict.fromkeys(videos)
    else:
        sources = {video: find_source(labels.footer(video).uri, config.source) for video in videos}
    if config.source is not None and len(sources) > 1 and config.source in sources.values():
        raise ConfigError(
            f"--source {config.source} is one file, but frames of {len(sources)} videos are chosen: "
            "name the folder that holds them all, or choose one with --video"
        )
    missing = []
    for video, source in sources.items():
        uri = source or labels.footer(video).uri
        path = local_path(uri)
        if path is not None and not path.is_file():
            missing.append(redact_uri(uri))
    if missing:
        without = "" if config.format == "mp4" else "; --images none exports the labels alone"
        raise VideoNotFound(
            f"{len(missing)} of {len(sources)} videos are not where they were labeled, such as {missing[0]}: "
            f"say where they are with --source{without}"
        )
    return sources


def stream_frames(
    labels: Labels, video: str, indices: np.ndarray, *, source: str | None, config: ExportConfig, image_folder: str
) -> Iterator[ExportedFrame]:
    """Frames of a video at ascending indices; lost ones are left out. Raises as the streams of `gsvnet.reading` do."""
    suffix = "jpg" if config.image_kind == "none" else config.image_kind

    def name_image(index: int) -> str:
        return f"{image_folder}/{name_stem(video, index)}.{suffix}"

    if config.reads_pictures:
        for picture in stream_pictures(labels, video, indices, source=source, video_options=config.video_options):
            row = labels.row(video, picture.frame_index)
            yield ExportedFrame(
                video=video,
                frame_index=row.frame_index,
                pts=row.pts,
                time_s=row.time_s,
                keyframe_distance=row.keyframe_distance,
                confidence=row.confidence,
                labels=picture.labels,
                image=picture.image,
                image_file=name_image(row.frame_index),
            )
        return
    for frame in labels.stream(video, indices):
        if frame.row.status == "ok":
            yield ExportedFrame(
                video=video,
                frame_index=frame.row.frame_index,
                pts=frame.row.pts,
                time_s=frame.row.time_s,
                keyframe_distance=frame.row.keyframe_distance,
                confidence=frame.row.confidence,
                labels=frame.labels,
                image=None,
                image_file=name_image(frame.row.frame_index),
            )


def write_images(frames: Iterator[ExportedFrame], target: Target) -> Iterator[ExportedFrame]:
    """The same frames, each after its picture was written."""
    pillow = import_extra("PIL.Image")
    for frame in frames:
        data = io.BytesIO()
        kind = Path(frame.image_file).suffix
        pillow.fromarray(frame.image).save(data, "JPEG" if kind == ".jpg" else "PNG", quality=_JPEG_QUALITY)
        target.write(frame.image_file, data.getvalue())
        yield frame
