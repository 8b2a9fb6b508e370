"""From batches to rows, several at once: on a CPU side by side; one after the other beside a GPU, and of networks that
keep things in themselves while they run.

Both have `rows(batches, segment, maker)`, which gives the rows of all frames in order (or what else `maker` makes of
them) and holds few batches at a time; and `submit`, which runs other things in the same threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

from gsvnet.labeling.batching import DecodedBatch, FramePlace
from gsvnet.labeling.clock import Seconds, StageClock, timing
from gsvnet.labeling.device import beside_networks, mark, seconds_between
from gsvnet.labeling.tasks import Device
from gsvnet.models.segmenter import LogitsBatch

BATCHES_IN_POOL = 1  # beside the one that the networks are at

Segment = Callable[[DecodedBatch], Iterator[LogitsBatch]]
Answer = TypeVar("Answer")


class Numbered(Protocol):
    """A row, or what becomes one."""

    @property
    def frame_index(self) -> int:
        """Where in the video it is."""
        ...


Item = TypeVar("Item", bound=Numbered)


class Maker(Protocol[Item]):
    """Makes rows, or what becomes one; see RowMaker."""

    @property
    def clock(self) -> StageClock:
        """Where stages are timed."""
        ...

    def label(self, output: LogitsBatch, places: Mapping[tuple[int, int], FramePlace]) -> list[Item]:
        """Of the frames in `output`, as many as its role lets it; places: by (chunk, position)."""
        ...

    def lost(self, place: FramePlace) -> Item:
        """Of a frame that did not come out of the decoder."""
        ...


class Lanes:
    """For a CPU: as many lanes as threads, each with one torch thread, and each takes a batch from networks to rows.

    The threads of one network wait for each other at every layer, and for whatever else their cores do. Batches do not
    depend on each other, so lanes never wait: on two cores labeling got 1.2 times as fast at L=12.
    """

    def __init__(self, num_threads: int) -> None:
        self.num_lanes = self.at_once = num_threads  # at_once: how many lanes are used; fewer where memory is short
        self._threads = _start_threads(num_threads, "gsvnet-lane")

    def rows(
        self, batches: Iterable[DecodedBatch], segment: Segment, maker: Maker[Item]
    ) -> Generator[Item, None, None]:
        """Rows of all frames in order. `segment` runs in the lanes; if all are used, one batch more waits its turn."""
        waiting: deque[Future[list[Item]]] = deque()
        most = self.at_once if self.at_once < self.num_lanes else self.num_lanes + 1
        try:
            for batch in batches:
                waiting.append(self._threads.submit(_label_here, batch, segment, maker))
                del batch  # the next one is waited for without this one's pixels
                while len(waiting) >= most:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)  # nothing of a shard that failed runs beside its next attempt

    def submit(self, function: Callable[..., Answer], *arguments: object) -> Future[Answer]:
        """Run a function in these threads, after what they were given before."""
        return self._threads.submit(function, *arguments)

    def close(self) -> None:
        """End the threads; also one that Python was interrupted in starting, for which it would wait forever."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class RowPool:
    """For a GPU, or a network that must not run twice at once: it runs in the caller's thread, threads make rows of
    what it says meanwhile.
    """

    def __init__(self, num_threads: int, device: Device) -> None:
        self.device = device
        self._threads = _start_threads(num_threads, "gsvnet-rows")

    def rows(
        self, batches: Iterable[DecodedBatch], segment: Segment, maker: Maker[Item]
    ) -> Generator[Item, None, None]:
        """Rows of all frames in order. `segment` runs in the caller's thread."""
        waiting: deque[_BatchInPool[Item]] = deque()
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

    def submit(self, function: Callable[..., Answer], *arguments: object) -> Future[Answer]:
        """Run a function in these threads, after what they were given before."""
        return self._threads.submit(function, *arguments)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _label(self, batch: DecodedBatch, segment: Segment, maker: Maker[Item]) -> _BatchInPool[Item]:
        """Run the networks; what they yield goes to the pool at once."""
        places, lost, futures = _places(batch), _lost_rows(batch, maker), []
        begin = mark(self.device, timed=True)
        outputs = segment(batch)
        while True:
            with timing() as took:
                output = next(outputs, None)
            maker.clock.add("segment", took if begin is None else Seconds(cores=took.cores))
            if output is None:
                break
            futures.append(self._threads.submit(_make_rows, maker, output, places, mark(self.device)))
        marks = None if begin is None else (begin, mark(self.device, timed=True))
        return _BatchInPool(lost=lost, futures=futures, marks=marks, maker=maker)


def _start_threads(num_threads: int, name: str) -> ThreadPoolExecutor:
    """Threads with one torch thread each: together they use the cores."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix=name, initializer=_use_one_torch_thread)


def _use_one_torch_thread() -> None:
    """Of this thread, for good: at the first operation of a thread that torch does not know yet, it takes the number
    that any thread has set last. So torch gets to know this one first.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)


def _label_here(batch: DecodedBatch, segment: Segment, maker: Maker[Item]) -> list[Item]:
    """All rows of one batch in frame order, made in this thread."""
    places, rows = _places(batch), _lost_rows(batch, maker)
    outputs = segment(batch)
    while True:
        with maker.clock.stage("segment"):
            output = next(outputs, None)
        if output is None:
            return sorted(rows, key=lambda row: row.frame_index)
        rows += maker.label(output, places)


def _places(batch: DecodedBatch) -> dict[tuple[int, int], FramePlace]:
    """Frames by (chunk, position)."""
    return {(place.chunk, place.position): place for place in batch.places if place.position is not None}


def _lost_rows(batch: DecodedBatch, maker: Maker[Item]) -> list[Item]:
    return [maker.lost(place) for place in batch.places if place.position is None]


def _make_rows(
    maker: Maker[Item],
    output: LogitsBatch,
    places: Mapping[tuple[int, int], FramePlace],
    ready: torch.cuda.Event | None,
) -> list[Item]:
    with beside_networks(output, ready):
        return maker.label(output, places)


@dataclass(frozen=True, kw_only=True)
class _BatchInPool(Generic[Item]):
    """One batch whose rows are being made. marks: on a GPU, where its networks began and ended."""

    lost: list[Item]
    futures: list[Future[list[Item]]]
    marks: tuple | None
    maker: Maker[Item]

    def rows(self) -> list[Item]:
        """All rows of the batch in frame order, when they are done."""
        rows = [row for future in self.futures for row in future.result()]
        if self.marks is not None:
            self.maker.clock.add("segment", Seconds(wall=seconds_between(*self.marks)))
        return sorted([*rows, *self.lost], key=lambda row: row.frame_index)

    def cancel(self) -> None:
        for future in self.futures:
            future.cancel()
