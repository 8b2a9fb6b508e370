"""The overlap of networks and rows: while the networks label a batch, threads make rows of the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from gsvnet.labeling.batching import DecodedBatch, FramePlace
from gsvnet.labeling.clock import Seconds, timing
from gsvnet.labeling.device import beside_networks, mark, seconds_between
from gsvnet.labeling.rows import RowMaker
from gsvnet.labeling.tasks import Device
from gsvnet.models.segmenter import LogitsBatch
from gsvnet.store.schema import FrameRow

BATCHES_IN_POOL = 1  # beside the one that the networks are at

Segment = Callable[[DecodedBatch], Iterator[LogitsBatch]]


class RowPool:
    """Threads that make rows, one torch thread each: the pool as a whole uses the cores."""

    def __init__(self, num_threads: int, device: Device) -> None:
        self.device = device
        self._threads = ThreadPoolExecutor(
            num_threads, thread_name_prefix="gsvnet-rows", initializer=torch.set_num_threads, initargs=(1,)
        )

    def rows(self, batches: Iterable[DecodedBatch], segment: Segment, maker: RowMaker) -> Iterator[FrameRow]:
        """Rows of all frames in order. `segment` runs in the caller's thread."""
        waiting: deque[_BatchInPool] = deque()
        try:
            for batch in batches:
                waiting.append(self._label(batch, segment, maker))
                del batch  # the next one is waited for without this one's pixels
                while len(waiting) > BATCHES_IN_POOL:
                    yield from waiting.popleft().rows()
            while waiting:
                yield from waiting.popleft().rows()
        finally:
            for batch_in_pool in waiting:
                batch_in_pool.cancel()

    def _label(self, batch: DecodedBatch, segment: Segment, maker: RowMaker) -> _BatchInPool:
        """Run the networks; what they yield goes to the pool at once."""
        places = {(place.chunk, place.position): place for place in batch.places if place.position is not None}
        lost = [maker.lost(place) for place in batch.places if place.position is None]
        futures = []
        begin = mark(self.device, timed=True)
        outputs = segment(batch)
        while True:
            with timing() as took:
                output = next(outputs, None)
            maker.clock.add("segment", took if begin is None else Seconds(cores=took.cores))
            if output is None:
                break
            if output.role == "labels":
                futures.append(self._threads.submit(_make_rows, maker, output, places, mark(self.device)))
        marks = None if begin is None else (begin, mark(self.device, timed=True))
        return _BatchInPool(lost=lost, futures=futures, marks=marks, maker=maker)


def _make_rows(
    maker: RowMaker,
    output: LogitsBatch,
    places: Mapping[tuple[int, int], FramePlace],
    ready: torch.cuda.Event | None,
) -> list[FrameRow]:
    with beside_networks(output, ready):
        return maker.label(output, places)


@dataclass(frozen=True, kw_only=True)
class _BatchInPool:
    """One batch whose rows are being made. marks: on a GPU, where its networks began and ended."""

    lost: list[FrameRow]
    futures: list[Future[list[FrameRow]]]
    marks: tuple | None
    maker: RowMaker

    def rows(self) -> list[FrameRow]:
        """All rows of the batch in frame order, when they are done."""
        rows = [row for future in self.futures for row in future.result()]
        if self.marks is not None:
            self.maker.clock.add("segment", Seconds(wall=seconds_between(*self.marks)))
        return sorted([*rows, *self.lost], key=lambda row: row.frame_index)

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()
