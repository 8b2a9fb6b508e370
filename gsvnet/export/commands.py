"""The export itself: choose frames, write them one by one, bind them together, say what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gsvnet.errors import ConfigError
from gsvnet.export.beside import Beside, open_beside, stream_pairs
from gsvnet.export.choice import choose_frames, choose_pairs
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import ExportedFrame, Fact, Format, import_extra
from gsvnet.export.formats import FORMATS
from gsvnet.export.frames import check_sources, digest_choice, digest_sources, stream_frames, write_images
from gsvnet.export.target import Target, open_target
from gsvnet.store.layout import check_name
from gsvnet.store.read import Labels, open_labels
from gsvnet.uris import redact_uri
from gsvnet.words import count

Choice = Mapping[str, np.ndarray]  # video id -> frame indices (N,) int64, ascending
Reader = Callable[[str, np.ndarray], Iterator[ExportedFrame]]  # of a video the frames at ascending indices


def export(config: ExportConfig, console: Console) -> int:
    """Write the chosen frames in a format; 0, the exit code. The same call goes on where one was interrupted.

    Raises ConfigError for what cannot be exported like this, VideoError where pictures cannot be read, StoreError
    where labels cannot be read or the target cannot be written.
    """
    labels = open_labels(config.out, config.storage_options)
    form = FORMATS[config.format](labels, config)
    _import_packages(form, config)
    beside = None if config.beside is None else open_beside(labels, config)
    chosen = choose_frames(labels, config) if beside is None else choose_pairs(beside, config)
    if not chosen:
        raise ConfigError(_explain_nothing(config, labels))
    for video in chosen:
        check_name(video)  # file names are made of it
    if config.reads_pictures:
        check_sources(labels, chosen, config)
    settings = _describe_settings(config, labels, chosen) | _describe_beside(beside, chosen)

    def read(video: str, indices: np.ndarray) -> Iterator[ExportedFrame]:
        if beside is not None:
            return stream_pairs(beside, video, indices, config=config, image_folder=form.image_folder)
        return stream_frames(labels, video, indices, config=config, image_folder=form.image_folder)

    if config.overwrite:
        _try_first_frames(read, chosen)
    with open_target(config.folder, settings, overwrite=config.overwrite) as target:
        if target.is_complete:
            _show(console, [("complete", f"{config.to} holds these {target.num_frames} frames already")])
            return 0
        begun, before = time.monotonic(), target.num_frames
        _write_frames(form, read, chosen, config, target, console)
        facts = form.finish(target, target.records)
        target.complete()
        took_s = time.monotonic() - begun
        _show(
            console,
            [
                *_count(config, chosen, target, before),
                *_count_alone(beside),
                *facts,
                _measure(target.num_frames - before, took_s),
            ],
        )
    return 0


def _import_packages(form: Format, config: ExportConfig) -> None:
    """Import what the export needs, so that what is missing is missed before anything is removed or written."""
    of_pictures = ("av",) if config.reads_pictures else ()
    of_images = ("PIL.Image",) if config.image_kind != "none" else ()
    for name in (*form.packages, *of_pictures, *of_images):
        import_extra(name)


def _try_first_frames(read: Reader, chosen: Choice) -> None:
    """Read a frame of each video, so that what cannot be read is known before an earlier export is removed."""
    for video, indices in chosen.items():
        next(read(video, indices), None)


def _write_frames(
    form: Format,
    read: Reader,
    chosen: Choice,
    config: ExportConfig,
    target: Target,
    console: Console,
) -> None:
    columns = (TextColumn("export"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("export", total=sum(map(len, chosen.values())), completed=target.num_frames)

        def tick(frames: Iterator[ExportedFrame]) -> Iterator[ExportedFrame]:
            for frame in frames:
                yield frame
                progress.advance(task)

        for video, indices in chosen.items():
            left = indices[indices > target.last_frame(video)]
            if not len(left):
                continue
            frames = read(video, left)
            if config.image_kind != "none":
                frames = write_images(frames, target)
            for written in form.write(tick(frames), target):
                target.record(written.video, written.frame_index, written.num_frames, written.record)


def _describe_settings(config: ExportConfig, labels: Labels, chosen: Choice) -> dict[str, Any]:
    """What makes two exports the same, as JSON values. Where the videos are now is not among it."""
    return {
        "format": config.format,
        "job": labels.job.fingerprint,
        "where": config.where,
        "every": config.every,
        "limit": config.limit,
        "video": sorted(labels.find_video(video) for video in config.video),
        "images": config.image_kind,
        "image-prefix": config.image_prefix,
        "ids": config.ids,
        "frames": sum(map(len, chosen.values())),
        "choice": digest_choice(chosen),
        "video files": digest_sources(labels, chosen),
    }


def _describe_beside(beside: Beside | None, chosen: Choice) -> dict[str, Any]:
    """The same of what stands beside: the captions, and how many of the frames each output has, for both may grow."""
    if beside is None:
        return {}
    of_each = zip(beside.outputs, zip(*map(beside.names, chosen)))
    frames = [
        sum(len(np.intersect1d(indices, labels.indices(name))) for name, indices in zip(names, chosen.values()))
        for labels, names in of_each
    ]
    other = beside.outputs[1]
    return {
        "beside": other.job.fingerprint,
        "captions": list(beside.captions),
        "frames of each": frames,
        "video files beside": digest_sources(other, [beside.videos[video] for video in chosen]),
    }


def _explain_nothing(config: ExportConfig, labels: Labels) -> str:
    if not labels.videos:
        return f"{redact_uri(config.out)} holds no labels yet"
    where = f" --where {config.where!r}" if config.where else ""
    listed = f" --frames-from {redact_uri(config.frames_from)}" if config.frames_from else ""
    return f"no frame of {redact_uri(config.out)} is chosen by{listed}{where} --every {config.every}; ask for more"


def _count(config: ExportConfig, chosen: Choice, target: Target, before: int) -> list[Fact]:
    num_chosen = sum(map(len, chosen.values()))
    lost = num_chosen - target.num_frames
    text = f"{target.num_frames} of {count(len(chosen), 'video')}"
    text += f"; {before} of them were there before" if before else ""
    text += f"; {lost} lost or damaged in decoding are left out" if lost else ""
    return [("export", f"{config.format} in {config.to}"), ("frames", text)]


def _count_alone(beside: Beside | None) -> list[Fact]:
    if beside is None or not beside.num_alone:
        return []
    return [("beside", f"{count(beside.num_alone, 'video')} of one output alone left out")]


def _measure(num_frames: int, took_s: float) -> Fact:
    return "speed", f"{num_frames / max(took_s, 1e-9):.1f} frames/s"


def _show(console: Console, facts: list[Fact]) -> None:
    for word, text in facts:
        console.print(f"{word:<8} {text}", markup=False, emoji=False, highlight=False, soft_wrap=True)
