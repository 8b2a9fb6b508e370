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
from gsvnet.labeling.pipeline import BATCHES_IN_POOL, RowPool
from gsvnet.models.segmenter import LogitsBatch

FRAMES = 4  # of a batch


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
    """Makes rows in `seconds` each."""

    def __init__(self, seconds=0.0):
        self.seconds, self.clock = seconds, StageClock()

    def label(self, output, places):
        time.sleep(self.seconds)
        return [Row(places[0, position].index) for position in output.position.tolist()]

    def lost(self, place):
        return Row(place.index)


def segmenter(seconds=0.0):
    """Yields the frames of a batch in two pieces, the second piece first."""

    def segment(batch):
        time.sleep(seconds)
        for half in ((2, 3), (0, 1)):
            kept = torch.tensor([n for n in half if n not in batch.lost])
            yield LogitsBatch(chunk=torch.zeros_like(kept), position=kept, logits=torch.zeros(len(kept), 2, 1, 1))

    return segment


def indices(rows):
    return [row.frame_index for row in rows]


def test_rows_come_in_frame_order_and_lost_frames_keep_their_place():
    batches = [Batch(0), Batch(4, lost=(1, 3)), Batch(8)]
    assert indices(RowPool(2, "cpu").rows(batches, segmenter(), Maker())) == list(range(12))


def test_an_error_of_the_networks_ends_the_rows():
    def segment(batch):
        raise ZeroDivisionError("in the network")
        yield

    with pytest.raises(ZeroDivisionError, match="in the network"):
        list(RowPool(1, "cpu").rows([Batch(0)], segment, Maker()))


def test_an_error_while_rows_are_made_ends_them_too():
    class Broken(Maker):
        def label(self, output, places):
            raise KeyError("no such frame")

    with pytest.raises(KeyError):
        list(RowPool(1, "cpu").rows([Batch(0)], segmenter(), Broken()))


def test_stages_overlap():
    """Decoding, networks and rows take 80 ms a batch each: ten batches take little longer than one of the stages."""

    def decode(_):
        for n in range(10):
            time.sleep(0.08)
            yield Batch(n * FRAMES)

    began = time.monotonic()
    rows = RowPool(1, "cpu").rows(ReadAhead(decode, 2).items("v"), segmenter(0.08), Maker(0.04))
    assert indices(rows) == list(range(40))
    assert time.monotonic() - began < 1.6  # 0.96 at best, 2.4 one after the other


def test_a_slow_consumer_holds_up_all_stages():
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
        segmented += 1
        assert segmented - consumed / FRAMES <= BATCHES_IN_POOL + 2
        yield from segmenter()(batch)

    for _ in RowPool(2, "cpu").rows(ReadAhead(decode, 2).items("v"), segment, Maker()):
        time.sleep(0.002)
        consumed += 1
    assert consumed == 120
    assert most <= 4  # two ahead, one with the networks, one on its way between
