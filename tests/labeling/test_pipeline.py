from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field

import pytest
import torch

from gsvnet.labeling.ahead import ReadAhead
from gsvnet.labeling.batching import FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.pipeline import Lanes, RowPool
from gsvnet.models.segmenter import LogitsBatch

FRAMES = 4  # of a batch

both = pytest.mark.parametrize("start", [Lanes, lambda n: RowPool(n, "cpu")], ids=["lanes", "row pool"])


@dataclass(eq=False)
class Batch:
    """A stand-in for DecodedBatch: frames `first` to `first + 3`, one chunk."""

    first: int
    lost: tuple[int, ...] = ()
    places: list[FramePlace] = field(init=False)

    def __post_init__(self):
        self.places = [
            FramePlace(index=self.first + n, pts=0, keyframe=0, chunk=0, position=None if n in self.lost else n)
            for n in range(FRAMES)
        ]


@dataclass(frozen=True)
class Row:
    frame_index: int


class Maker:
    """Makes rows."""

    def __init__(self):
        self.clock = StageClock()

    def label(self, output, places):
        return [Row(places[0, position].index) for position in output.position.tolist()]

    def lost(self, place):
        return Row(place.index)


def in_halves(batch):
    """Yields the frames of a batch in two pieces, the second piece first."""
    for half in ((2, 3), (0, 1)):
        kept = torch.tensor([n for n in half if n not in batch.lost])
        yield LogitsBatch(chunk=torch.zeros_like(kept), position=kept, logits=torch.zeros(len(kept), 2, 1, 1))


def indices(rows):
    return [row.frame_index for row in rows]


@both
def test_rows_come_in_frame_order_and_lost_frames_keep_their_place(start):
    batches = [Batch(0), Batch(4, lost=(1, 3)), Batch(8)]
    assert indices(start(2).rows(batches, in_halves, Maker())) == list(range(12))


@both
def test_an_error_of_the_networks_ends_the_rows(start):
    def segment(batch):
        raise ZeroDivisionError("in the network")
        yield

    with pytest.raises(ZeroDivisionError, match="in the network"):
        list(start(1).rows([Batch(0)], segment, Maker()))


@both
def test_an_error_while_rows_are_made_ends_them_too(start):
    class Broken(Maker):
        def label(self, output, places):
            raise KeyError("no such frame")

    with pytest.raises(KeyError):
        list(start(1).rows([Batch(0)], in_halves, Broken()))


def test_stages_overlap():
    """Rows of one batch are made while the networks are at the next and the one after is decoded, eight times."""
    together = threading.Barrier(3, timeout=60)

    def decode(_):
        for n in range(10):
            if n >= 2:
                together.wait()
            yield Batch(n * FRAMES)

    def segment(batch):
        if 1 <= batch.first // FRAMES <= 8:
            together.wait()
        yield from in_halves(batch)

    class Meeting(Maker):
        def label(self, output, places):
            if places[0, 0].index // FRAMES <= 7 and 0 in output.position:
                together.wait()
            return super().label(output, places)

    rows = RowPool(1, "cpu").rows(ReadAhead(decode, 2).items("v"), segment, Meeting())
    assert indices(rows) == list(range(40))


def test_lanes_work_side_by_side_with_one_torch_thread_each():
    together = threading.Barrier(2, timeout=60)

    def segment(batch):
        together.wait()
        assert torch.get_num_threads() == 1
        yield from in_halves(batch)

    assert indices(Lanes(2).rows([Batch(0), Batch(4)], segment, Maker())) == list(range(8))


@both
def test_a_thread_keeps_its_one_torch_thread_whatever_others_ask_for_meanwhile(start):
    """Smoothing is work without torch; the next shard's caller sets its own number of threads."""
    pipeline = start(1)
    assert pipeline.submit(int).result() == 0
    torch.set_num_threads(2)
    assert {pipeline.submit(torch.get_num_threads).result() for _ in range(3)} == {1}


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_where_memory_is_short_fewer_lanes_are_at_work(at_once):
    lanes, running, most = Lanes(3), [], 0
    lanes.at_once = at_once
    lock, together = threading.Lock(), threading.Barrier(at_once, timeout=60)

    def segment(batch):
        nonlocal most
        with lock:
            running.append(batch.first)
            most = max(most, len(running))
        if batch.first < at_once * FRAMES:
            together.wait()
        time.sleep(0.02)
        with lock:
            running.remove(batch.first)
        yield from in_halves(batch)

    assert indices(lanes.rows([Batch(n * FRAMES) for n in range(8)], segment, Maker())) == list(range(32))
    assert most == at_once


def test_nothing_of_a_failed_shard_runs_on_in_a_lane():
    running = []

    def segment(batch):
        if batch.first == 0:
            raise ZeroDivisionError
        running.append(batch.first)
        time.sleep(0.2)
        running.remove(batch.first)
        yield from in_halves(batch)

    with pytest.raises(ZeroDivisionError):
        list(Lanes(2).rows([Batch(n * FRAMES) for n in range(4)], segment, Maker()))
    assert running == []


@both
def test_a_slow_consumer_holds_up_all_stages(start):
    """However long the video and however slow the store: few batches exist at once."""
    alive: weakref.WeakSet[Batch] = weakref.WeakSet()
    most, segmented, consumed = 0, 0, 0
    lock = threading.Lock()

    def decode(_):
        nonlocal most
        for n in range(30):
            batch = Batch(n * FRAMES)
            with lock:
                alive.add(batch)
                most = max(most, len(alive))
            yield batch
            del batch

    def segment(batch):
        nonlocal segmented
        with lock:
            segmented += 1
            assert segmented - consumed / FRAMES <= 4
        yield from in_halves(batch)

    for _ in start(2).rows(ReadAhead(decode, 2).items("v"), segment, Maker()):
        time.sleep(0.002)
        consumed += 1
    assert consumed == 120
    # two ahead, one on its way between; three in the lanes and two that these are done with, or one with the networks
    assert most <= (8 if start is Lanes else 6)
