"""Out of memory: run fewer chunks at a time, and go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from gsvnet.labeling.parts import take_chunks
from gsvnet.models.contract import check_outputs
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch

Segment = Callable[[ChunkBatch], Iterator[LogitsBatch]]

_SIGNS = ("out of memory", "can't allocate memory", "_ALLOC_FAILED")  # CUDA, torch on a CPU, cuBLAS and cuDNN


class BackOff:
    """Runs batches whole while they fit into memory; after each that does not, at most half as many chunks at a time.

    Halving is for good: what did not fit once would not fit again. Several threads may run batches at once.
    most_chunks: how many run at a time since; None: as many as there are.
    """

    def __init__(self) -> None:
        self.most_chunks: int | None = None
        self._notes: list[str] = []
        self._lock = threading.Lock()

    def take_notes(self) -> list[str]:
        """What happened since this was last asked, one line each."""
        notes, self._notes = self._notes, []
        return notes

    def segment(self, chunks: ChunkBatch, run: Segment, *, before: int = 0, after: int = 0) -> Iterator[LogitsBatch]:
        """What `run` yields of the chunks, every frame once; parts that do not fit run again in halves.

        run: called with a part, may raise before and while it yields. before, after: as in FrameNeeds. Raises what
        `run` raises; out of memory only where a single chunk does not fit. ModelError where it does not yield every
        frame once.
        """
        given: set[tuple[int, int, str]] = set()
        first, num_chunks = 0, len(chunks.valid)
        while first < num_chunks:
            size = min(self.most_chunks or num_chunks, num_chunks - first)
            try:
                part = take_chunks(chunks, first, first + size, before=before, after=after)
                for output in check_outputs(part, run(part)):
                    if new := _only_new(replace(output, chunk=output.chunk + first), given):
                        yield new
                first += size
                continue
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            # outside of the handler: the error's traceback holds the tensors that filled the memory
            self._halve(size)
            free_cached_memory()

    def _halve(self, size: int) -> None:
        """Run at most half of `size` chunks from now on; nothing is new where another thread has said so before."""
        with self._lock:
            if self.most_chunks is None or self.most_chunks > size // 2:
                self.most_chunks = size // 2
                self._notes.append(f"{size} chunks at a time were out of memory; {size // 2} from now on")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was too small, on a GPU or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in _SIGNS)


def free_cached_memory() -> None:
    """Give back what torch keeps of a GPU's memory for later use: in pieces that may be too small now."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _only_new(output: LogitsBatch, given: set[tuple[int, int, str]]) -> LogitsBatch | None:
    """The frames of an output that were not given before, which are given now; None where there are none."""
    keys = [(c, p, output.role) for c, p in zip(output.chunk.tolist(), output.position.tolist())]
    new = [n for n, key in enumerate(keys) if key not in given]
    given.update(keys)
    if len(new) == len(keys):
        return output
    if not new:
        return None
    parts = ((field.name, getattr(output, field.name)) for field in fields(output))
    rows: dict[str, Any] = {name: part[new] for name, part in parts if isinstance(part, Tensor)}
    return replace(output, **rows)
