"""The export itself: choose frames, write them one by one, bind them together, say what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gsvnet.errors import ConfigError
from gsvnet.export.choice import choose_frames
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import ExportedFrame, Fact, Format, import_extra
from gsvnet.export.formats import FORMATS
from gsvnet.export.frames import check_sources, digest_choice, stream_frames, write_images
from gsvnet.export.target import Target, open_target
from gsvnet.store.layout import check_name
from gsvnet.store.read import Labels, open_labels
from gsvnet.uris import redact_uri
from gsvnet.words import count

Choice = Mapping[str, np.ndarray]  # video id -> frame indices (N,) int64, ascending


def export(config: ExportConfig, console: Console) -> int:
    """Write the chosen frames in a format; 0, the exit code. The same call goes on where one was interrupted.

    Raises ConfigError for what cannot be exported like this, VideoError where pictures cannot be read, StoreError
    where labels cannot be read or the target cannot be written.
    """
    labels = open_labels(config.out, config.storage_options)
    form = FORMATS[config.format](labels, config)
    _import_packages(form, config)
    chosen = choose_frames(labels, config)
    if not chosen:
        raise ConfigError(_explain_nothing(config, labels))
    for video in chosen:
        check_name(video)  # file names are made of it
    if config.reads_pictures:
        check_sources(labels, chosen, config)
    settings = _describe_settings(config, labels, chosen)
    if config.overwrite:
        _try_first_frames(form, labels, chosen, config)
    with open_target(config.folder, settings, overwrite=config.overwrite) as target:
        if target.is_complete:
            _show(console, [("complete", f"{config.to} holds these {target.num_frames} frames already")])
            return 0
        begun, before = time.monotonic(), target.num_frames
        _write_frames(form, labels, chosen, config, target, console)
        facts = form.finish(target, target.records)
        target.complete()
        took_s = time.monotonic() - begun
        _show(console, [*_count(config, chosen, target, before), *facts, _measure(target.num_frames - before, took_s)])
    return 0


def _import_packages(form: Format, config: ExportConfig) -> None:
    """Import what the export needs, so that what is missing is missed before anything is removed or written."""
    of_pictures = ("av",) if config.reads_pictures else ()
    of_images = ("PIL.Image",) if config.image_kind != "none" else ()
    for name in (*form.packages, *of_pictures, *of_images):
        import_extra(name)


def _try_first_frames(form: Format, labels: Labels, chosen: Choice, config: ExportConfig) -> None:
    """Read a frame of each video, so that what cannot be read is known before an earlier export is removed."""
    for video, indices in chosen.items():
        next(stream_frames(labels, video, indices, config=config, image_folder=form.image_folder), None)


def _write_frames(
    form: Format,
    labels: Labels,
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
            frames = stream_frames(labels, video, left, config=config, image_folder=form.image_folder)
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
    }


def _explain_nothing(config: ExportConfig, labels: Labels) -> str:
    if not labels.videos:
        return f"{config.out} holds no labels yet"
    where = f" --where {config.where!r}" if config.where else ""
    listed = f" --frames-from {redact_uri(config.frames_from)}" if config.frames_from else ""
    return f"no frame of {config.out} is chosen by{listed}{where} --every {config.every}; ask for more"


def _count(config: ExportConfig, chosen: Choice, target: Target, before: int) -> list[Fact]:
    num_chosen = sum(map(len, chosen.values()))
    lost = num_chosen - target.num_frames
    text = f"{target.num_frames} of {count(len(chosen), 'video')}"
    text += f"; {before} of them were there before" if before else ""
    text += f"; {lost} lost in decoding are left out" if lost else ""
    return [("export", f"{config.format} in {config.to}"), ("frames", text)]


def _measure(num_frames: int, took_s: float) -> Fact:
    return "speed", f"{num_frames / max(took_s, 1e-9):.1f} frames/s"


def _show(console: Console, facts: list[Fact]) -> None:
    for word, text in facts:
        console.print(escape(f"{word:<8} {text}"), highlight=False, soft_wrap=True)
