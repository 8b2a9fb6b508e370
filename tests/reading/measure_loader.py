"""Masks per second that a reader gets: `python -m tests.reading.measure_loader FOLDER/out` (see measure_queries).

CPU seconds of this process and its workers, on one thread each, beside decoding alone; "wall" where workers run.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader

from gsvnet.reading.torch_dataset import LabelDataset
from gsvnet.store.codec import decode_mask
from gsvnet.store.read import Labels, open_labels

BATCH, NUM_MASKS = 8, 2000


def main() -> None:
    torch.set_num_threads(1)
    labels = open_labels(sys.argv[1])
    measure_decoding(labels)
    measure_random_access(labels)
    for seed in (None, 0):
        dataset = LabelDataset(labels, seed=seed)
        order = "in order" if seed is None else "shuffled"
        with clock(f"dataset, {order}"):
            consume(islice(dataset, NUM_MASKS), NUM_MASKS)
        for num_workers in (0, 1, 2):
            measure_loader(dataset, f"loader, {order}, {num_workers} workers", num_workers)
    measure_decoding(labels)


def measure_decoding(labels: Labels) -> None:
    rows = [frame.row for frame in islice(labels.stream(labels.videos[0]), 500)]
    with clock("decode_mask alone", len(rows)):
        for row in rows:
            decode_mask(row.mask, row.height, row.width)


def measure_random_access(labels: Labels) -> None:
    """Of an hour, warm: all has been read once."""
    video = labels.videos[0]
    num_frames = len(labels.indices(video))
    for num in (1, BATCH, 64):
        chosen = np.random.default_rng(0).integers(0, num_frames, (512 // num, num))
        for indices in chosen:
            labels.labels_at(video, indices)
        with clock(f"labels_at, {num} random frames at a time", chosen.size):
            for indices in chosen:
                labels.labels_at(video, indices)


def measure_loader(dataset: LabelDataset, what: str, num_workers: int) -> None:
    with clock(what):
        batches = iter(DataLoader(dataset, batch_size=BATCH, num_workers=num_workers))
        consume(islice(batches, NUM_MASKS // BATCH), NUM_MASKS // BATCH)
        if num_workers:
            batches._shutdown_workers()  # their CPU seconds count once they have ended


def consume(items: Iterator, expected: int) -> None:
    assert sum(1 for _ in items) == expected


@contextmanager
def clock(what: str, num_masks: int = NUM_MASKS) -> Iterator[None]:
    start_s, start_cpu_s = time.perf_counter(), cpu_s()
    yield
    wall_s, used_s = time.perf_counter() - start_s, cpu_s() - start_cpu_s
    print(f"{what}: {num_masks / used_s:.0f} masks per CPU second, {num_masks / wall_s:.0f} per second")


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


if __name__ == "__main__":
    main()
