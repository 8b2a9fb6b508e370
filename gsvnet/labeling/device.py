"""What labeling does differently on a GPU: copies that overlap, streams beside the networks', time by the GPU's clock.

On a CPU all of it does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from gsvnet.labeling.tasks import Device
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch

_ON_CPU = ("num_frames", "valid", "next_valid", "index", "next_index", "before_index", "after_index")
_per_thread = threading.local()


def pin(chunks: ChunkBatch) -> ChunkBatch:
    """The same batch in page-locked memory, from which copies to a GPU overlap with its work.

    torch keeps such memory for the next batch, and hands it out again only when copies from it are done.
    """
    return _convert(chunks, lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory())


def to_device(chunks: ChunkBatch, device: str) -> ChunkBatch:
    """The batch on `device`; which frames are valid stays on the CPU, where networks ask: a copy back would wait for
    all that the GPU was told to do.
    """
    return chunks if device == "cpu" else _convert(chunks, lambda tensor: tensor.to(device, non_blocking=True))


def _convert(chunks: ChunkBatch, change: Any) -> ChunkBatch:
    parts = {f.name: getattr(chunks, f.name) for f in fields(chunks)}
    pixels = {name: part for name, part in parts.items() if isinstance(part, Tensor) and name not in _ON_CPU}
    return replace(chunks, **{name: change(part) for name, part in pixels.items()})


def mark(device: Device, *, timed: bool = False) -> torch.cuda.Event | None:
    """A point in the networks' stream, for `beside_networks` or (timed) `seconds_between`; None on a CPU."""
    if device == "cpu":
        return None
    event = torch.cuda.Event(enable_timing=timed)
    event.record()
    return event


def seconds_between(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
    """Seconds of the GPU between two timed marks; waits for the second one."""
    end.synchronize()
    return begin.elapsed_time(end) / 1000


@contextmanager
def beside_networks(output: LogitsBatch, ready: torch.cuda.Event | None) -> Iterator[None]:
    """Let this thread work on `output` in a stream of its own: it waits for `ready`, not for the networks' next batch.

    ready: `mark` made right after the output. Kernels are launched long before they run, so in the networks' own
    stream a copy to the CPU would wait for all that was launched since.
    """
    if ready is None:
        yield
        return
    stream: torch.cuda.Stream | None = getattr(_per_thread, "stream", None)
    if stream is None:
        stream = _per_thread.stream = torch.cuda.Stream()
    stream.wait_event(ready)
    for tensor in (output.logits, output.gain, output.sides):
        if tensor is not None:
            tensor.record_stream(stream)
    with torch.cuda.stream(stream):
        yield
