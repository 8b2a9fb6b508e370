"""Labels as a torch dataset: frames stream from row groups, shared out among ranks and DataLoader workers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from gsvnet.errors import ConfigError
from gsvnet.process import keep_freed_memory
from gsvnet.reading.pictures import find_source, stream_pictures
from gsvnet.store.label_file import MASK_COLUMNS, decode_row
from gsvnet.store.query import select_frames
from gsvnet.store.read import Labels, open_labels
from gsvnet.store.row_groups import CHOICE_COLUMNS, FrameChoice, count_frames, list_row_groups
from gsvnet.uris import StorageOptions, redact_uri

T = TypeVar("T")

_ROW_COLUMNS = (*CHOICE_COLUMNS, "time_s", "keyframe_distance", "confidence")
_COLUMNS = tuple(dict.fromkeys((*_ROW_COLUMNS, *MASK_COLUMNS)))


class LabelDataset(IterableDataset):
    """Frames with labels, as dicts; for a DataLoader with any number of workers, on any number of ranks.

    A sample holds labels (H, W) uint8, 255 = ignore; video (id); frame_index; time_s; keyframe_distance, -1 where there
    is none; confidence, NaN where there is none; with images=True also image (3, H, W) uint8 RGB, and the labels have
    its size. Lost and damaged frames are left out.

    labels: of `open_labels`, or the output's URI (storage_options: to open it). videos, every, where: as for
    `select_frames`; `where` runs once, here, and keeps 8 bytes per chosen frame. source: where the video is now, or the
    folder that the videos are in now; video_options: their storage options. relabel: lookup table (256,) uint8, as
    `merge_table` makes it. seed: None reads in order; else frames come in an order that seed and epoch (`set_epoch`)
    decide, together with the numbers of ranks and workers. rank, world_size: torch.distributed's where it is
    initialised, else 0 and 1.

    Each row group (at most 512 rows and 8 MiB of masks) belongs to one worker of one rank, the same in every process
    that lists the same files: no job may be adding labels meanwhile. Shuffling permutes the row groups, keeps
    `open_groups` open and draws one of these, then one of its frames. With images a group's frames come in the order of
    decoding instead, into a buffer of `buffer_frames` from which samples are drawn. A process therefore holds
    open_groups row groups (in order: one) and the eight that it read last; with images also as many decoders and
    buffer_frames samples of 4 bytes a pixel.

    even: all ranks give equally many samples, so that none waits for another in DistributedDataParallel for ever.
    Worker w of every rank stops after as many as the poorest worker w of all ranks has, which makes the numbers of
    batches equal too. For this the frames of every row group are counted here, by reading three small columns.

    Raises ConfigError for bad arguments, or when no frame can come; iterating raises CorruptLabels and, with images,
    what `stream_pictures` raises.
    """

    def __init__(
        self,
        labels: Labels | str | Path,
        *,
        videos: str | Sequence[str] = (),
        where: str | None = None,
        every: int = 1,
        images: bool = False,
        source: str | None = None,
        video_options: StorageOptions | None = None,
        relabel: np.ndarray | None = None,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool = False,
        open_groups: int = 8,
        buffer_frames: int = 32,
        storage_options: StorageOptions | None = None,
    ) -> None:
        self.labels = labels if isinstance(labels, Labels) else open_labels(labels, storage_options)
        self._process = os.getpid()
        self._relabel = None if relabel is None else _check_table(relabel)
        self.images, self.source, self.video_options = images, source, video_options
        self.seed, self.open_groups, self.buffer_frames = seed, open_groups, buffer_frames
        _check_at_least({"seed": (seed or 0, 0), "open_groups": (open_groups, 1), "buffer_frames": (buffer_frames, 1)})
        self.rank, self.world_size = _find_rank(rank, world_size)
        self._choice = _choose(self.labels, videos, where, every)
        self._groups = list_row_groups(self.labels, self._choice.videos)
        if not len(self._groups):
            raise ConfigError(f"{redact_uri(self.labels.uri)} has no labels yet; label it first")
        _check_source(source, len(self._choice.videos or self.labels.videos))
        self._counts = count_frames(self.labels, self._groups, self._choice) if even else None
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that outlive an epoch see it
        if even and not self._fewest(np.arange(len(self._groups)), 0, 1):
            raise ConfigError(
                f"the frames of {len(self._groups)} row groups leave some of {self.world_size} ranks without any; "
                "choose more frames, or fewer ranks"
            )

    def set_epoch(self, epoch: int) -> None:
        """Shuffle anew: call it before each epoch, on all ranks with the same number."""
        _check_at_least({"epoch": (epoch, 0)})
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:  # a process of our own, where fetching pages for every mask would cost as much as decoding it
            keep_freed_memory()
        labels = self._labels_here()
        order = self._order()
        mine = order[self._slot(self.rank, number, num_workers)]
        samples: Iterator[dict[str, Any]]
        if self.seed is None:
            samples = (sample for group in mine for sample in self._read(labels, group, None))
        else:
            rng = np.random.default_rng([self.seed, int(self._epoch), self.rank, number])
            samples = _mix((self._read(labels, group, rng) for group in mine), self.open_groups, rng)
            if self.images:
                samples = _shuffle(samples, self.buffer_frames, rng)
        return islice(samples, self._fewest(order, number, num_workers))

    def _labels_here(self) -> Labels:
        """The labels; in a forked worker opened anew, because connections to a store do not survive a fork."""
        if os.getpid() != self._process:
            old, self._process = self.labels, os.getpid()
            self.labels = Labels(old.uri, old.job, old.storage_options, old.paths)
        return self.labels

    def _order(self) -> np.ndarray:
        """All row groups in this epoch's order, the same in every process."""
        if self.seed is None:
            return np.arange(len(self._groups))
        return np.random.default_rng([self.seed, int(self._epoch)]).permutation(len(self._groups))

    def _slot(self, rank: int, worker: int, num_workers: int) -> slice:
        """The places in the order that belong to a worker. A rank's do not depend on its number of workers."""
        return slice(rank + self.world_size * worker, None, self.world_size * num_workers)

    def _fewest(self, order: np.ndarray, worker: int, num_workers: int) -> int | None:
        """Fewest frames that a rank's worker of this number has; None: it does not matter."""
        if self._counts is None:
            return None
        counts = self._counts[order]
        return min(int(counts[self._slot(rank, worker, num_workers)].sum()) for rank in range(self.world_size))

    def _read(self, labels: Labels, number: int, rng: np.random.Generator | None) -> Iterator[dict[str, Any]]:
        """The samples of one row group; masks alone in the order that `rng` gives, if it is there."""
        path, group = self._groups.place(number)
        table = labels.files.read_group(path, group, _ROW_COLUMNS)
        rows = self._choice.rows(table)
        if self.images:
            yield from self._read_pictures(labels, table.take(rows).to_pylist())
        elif len(rows):
            table = labels.files.read_group(path, group, _COLUMNS)
            for row in rows if rng is None else rng.permutation(rows):
                record = table.slice(row, 1).to_pylist()[0]
                yield self._sample(record, decode_row(record, f"{path}, frame {record['frame_index']}"))

    def _read_pictures(self, opened: Labels, records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for video, some in groupby(records, itemgetter("video")):
            rows = list(some)
            pictures = stream_pictures(
                opened,
                video,
                [row["frame_index"] for row in rows],
                source=self.source,
                video_options=self.video_options,
            )
            for row, picture in zip(rows, pictures, strict=True):
                image = np.ascontiguousarray(picture.image.transpose(2, 0, 1))
                labels = np.ascontiguousarray(picture.labels)
                yield self._sample(row, labels) | {"image": torch.from_numpy(image)}

    def _sample(self, record: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
        if self._relabel is not None:  # four times as fast as indexing by numpy
            labels = np.frombuffer(bytearray(labels).translate(self._relabel), np.uint8).reshape(labels.shape)
        return {
            "labels": torch.from_numpy(labels),
            "video": record["video"],
            "frame_index": record["frame_index"],
            "time_s": record["time_s"],
            "keyframe_distance": -1 if record["keyframe_distance"] is None else record["keyframe_distance"],
            "confidence": float("nan") if record["confidence"] is None else record["confidence"],
        }


def _mix(streams: Iterator[Iterator[T]], num_open: int, rng: np.random.Generator) -> Iterator[T]:
    """Items of all streams, each in its own order; the next is of one drawn among `num_open` that are open."""
    opened = list(islice(streams, num_open))
    while opened:
        at = int(rng.integers(len(opened)))
        try:
            item = next(opened[at])
        except StopIteration:
            opened[at : at + 1] = islice(streams, 1)
        else:
            yield item


def _shuffle(items: Iterable[T], size: int, rng: np.random.Generator) -> Iterator[T]:
    """The items, each drawn from a buffer of at most `size`."""
    kept: list[T] = []
    for item in items:
        kept.append(item)
        if len(kept) == size:
            at = int(rng.integers(size))
            kept[at], kept[-1] = kept[-1], kept[at]
            yield kept.pop()
    yield from (kept[at] for at in rng.permutation(len(kept)))


def _choose(labels: Labels, videos: str | Sequence[str], where: str | None, every: int) -> FrameChoice:
    _check_at_least({"every": (every, 1)})
    videos = (videos,) if isinstance(videos, str) else videos
    if where is None:
        return FrameChoice(videos=frozenset(labels.find_video(video) for video in videos), every=every)
    indices = select_frames(labels, where=where, every=every, videos=videos)
    if not indices:
        raise ConfigError(f"no frame has {where}; choose another condition")
    return FrameChoice(videos=frozenset(indices), every=every, indices=indices)


def _check_source(source: str | None, num_videos: int) -> None:
    if source is not None and num_videos > 1 and find_source("x", source) == source:
        raise ConfigError(f"source {redact_uri(source)} for {num_videos} videos; name the folder that they are in")


def _find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise ConfigError(f"rank {rank} with world_size {world_size}; give both or neither")
    if rank is None or world_size is None:
        ready = torch.distributed.is_available() and torch.distributed.is_initialized()
        return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if ready else (0, 1)
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank {rank} of world_size {world_size}; ranks are 0 to world_size - 1")
    return rank, world_size


def _check_table(table: np.ndarray) -> bytes:
    if table.shape != (256,) or table.dtype != np.uint8:
        raise ConfigError(f"relabel is {table.shape} {table.dtype}; it must be (256,) uint8, as merge_table makes it")
    return table.tobytes()


def _check_at_least(values: dict[str, tuple[int, int]]) -> None:
    for name, (value, least) in values.items():
        if value < least:
            raise ConfigError(f"{name} {value}; it must be at least {least}")
