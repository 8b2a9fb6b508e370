from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from gsvnet.chunks import STRETCH_FRAMES, Shard
from gsvnet.classes import CAMVID
from gsvnet.errors import NotNumbers
from gsvnet.labeling.batching import batch_chunks, views_by_need
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.drift import Arrival, DriftMaker, Measured, join_drift
from gsvnet.labeling.ledger import shard_tasks
from gsvnet.labeling.pipeline import Lanes, RowPool
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.labeling.rows import RowMaker
from gsvnet.labeling.worker import LabelWorkerSpec
from gsvnet.models.checkpoints import load_model
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch
from gsvnet.models.transfer import with_drift, with_min_agreement, with_references
from gsvnet.video.decode import Frame

INTERVAL, GRID, NUM_CLASSES = 4, (2, 3), 3
NEEDS = FrameNeeds(keyframe_size=(4, 6), frame_size=GRID, next_frame=True)


def shard(first_frame, num_frames, *, is_last=False, restarts=()):
    """A frame lasts 10 ticks."""
    stop = first_frame + num_frames
    return Shard(
        video_id="v",
        index=0,
        first_frame=first_frame,
        num_frames=num_frames,
        start_pts=first_frame * 10,
        end_pts=None if is_last else stop * 10,
        restarts=restarts,
    )


def batches_of(where, *, num_chunks=2, lost=(), interval=INTERVAL):
    """Every pixel holds the frame's index."""
    views = views_by_need(where, interval=interval, needs=NEEDS)

    def decode():
        for index in range(where.first_frame, where.first_frame + where.num_frames + (where.end_pts is not None)):
            if index in lost:
                yield Frame(index=index, pts=index * 10, images=(), status="decode_error")
                continue
            images = tuple(np.full((v.height, v.width, 3), index, np.uint8) for v in views(index))
            yield Frame(index=index, pts=index * 10, images=images, status="ok")

    return batch_chunks(
        decode(), shard=where, interval=interval, needs=NEEDS, num_chunks=num_chunks, label_following=True
    )


def ones_first(counts, size=GRID):
    """Logits (N, 3, h, w) of class 1 in the first so many cells, of class 0 in the others."""
    is_one = torch.arange(size[0] * size[1]).view(size) < torch.as_tensor(counts).view(-1, 1, 1)
    return nn.functional.one_hot(is_one.long(), NUM_CLASSES).movedim(-1, 1).float()


def stands_still(batch):
    """A network that sees class 1 in i % 6 of 6 cells of frame i; what it brings to the next keyframe does not move."""
    chunks = batch.chunks
    own = chunks.frames[:, 0, 0, 0, 0] % 6
    for p in range(chunks.valid.shape[1]):
        here = chunks.valid[:, p].nonzero()[:, 0]
        if len(here):
            yield LogitsBatch(chunk=here, position=torch.full_like(here, p), logits=ones_first(own[here]))
    there = chunks.next_valid.nonzero()[:, 0]
    if len(there):
        yield LogitsBatch(chunk=there, position=torch.zeros_like(there), logits=ones_first(own[there]), role="arrival")


def rows_of(where, segment=stands_still, *, pipeline=None, **batching):
    clock = StageClock()
    maker = RowMaker(size=(4, 6), time_base=Fraction(1, 10), num_classes=NUM_CLASSES, clock=clock, interval=INTERVAL)
    items = (pipeline or Lanes(1)).rows(
        batches_of(where, **batching), segment, DriftMaker(maker=maker, grid=GRID, num_classes=NUM_CLASSES)
    )
    return list(join_drift(items, num_classes=NUM_CLASSES, clock=clock, end_pts=where.end_pts))


def agreement_of(rows):
    return {row.frame_index: row.drift_agreement for row in rows if row.drift_agreement is not None}


def expected(*keyframes):
    """Agreement of each chunk of a network that stands still; `keyframes`: in turn."""
    return {a: pytest.approx(1 - abs(a % 6 - b % 6) / 6) for a, b in pairwise(keyframes)}


@pytest.mark.parametrize("pipeline", [Lanes(2), RowPool(2, "cpu")], ids=["lanes", "row pool"])
@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_a_chunk_agrees_with_the_keyframe_after_it_wherever_batches_end(pipeline, num_chunks):
    rows = rows_of(shard(0, 20, is_last=True), pipeline=pipeline, num_chunks=num_chunks)
    assert [row.frame_index for row in rows] == list(range(20))
    assert agreement_of(rows) == expected(0, 4, 8, 12, 16)


def spoiled(value, label):
    """`stands_still` with `value` as the logit of class `label` everywhere."""

    def segment(batch):
        for output in stands_still(batch):
            if output.role == "arrival" or value == -torch.inf:
                output.logits[:, label] = value
            yield output

    return segment


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_no_drift_is_told_of_what_is_no_number(value):
    with pytest.raises(NotNumbers, match="NaN or infinity"):
        rows_of(shard(0, 20, is_last=True), spoiled(value, 0))


def test_a_class_that_is_ruled_out_does_not_change_drift():
    rows = rows_of(shard(0, 20, is_last=True), spoiled(-torch.inf, 2))
    assert agreement_of(rows) == expected(0, 4, 8, 12, 16)


def test_classes_are_compared_one_by_one():
    [first, *_] = rows_of(shard(2, 8, is_last=True))  # keyframes 2 and 6: two cells of six and none
    assert first.drift_iou.tolist()[:2] == [pytest.approx(4 / 6), 0.0]
    assert np.isnan(first.drift_iou[2])  # of which nothing is there


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_it_does_not_depend_on_where_a_video_is_cut(num_chunks):
    cut = [row for where in (shard(0, 8), shard(8, 4), shard(12, 8, is_last=True)) for row in rows_of(where)]
    whole = rows_of(shard(0, 20, is_last=True), num_chunks=num_chunks)
    assert [row.frame_index for row in cut] == list(range(20))
    assert [(row.drift_agreement, str(row.drift_iou)) for row in cut] == [
        (row.drift_agreement, str(row.drift_iou)) for row in whole
    ]


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_nothing_is_compared_across_a_cut(num_chunks):
    rows = rows_of(shard(0, 16, is_last=True, restarts=(6,)), num_chunks=num_chunks)
    assert agreement_of(rows) == expected(0, 4) | expected(6, 10, 14)


def test_a_cut_may_be_where_the_shard_ends():
    rows = rows_of(shard(0, 8, restarts=(8,)))
    assert (len(rows), agreement_of(rows)) == (8, expected(0, 4))


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
def test_a_keyframe_that_was_lost_is_not_compared(num_chunks):
    rows = rows_of(shard(0, 16), num_chunks=num_chunks, lost={4, 16})
    assert agreement_of(rows) == expected(5, 8, 12)
    assert [row.frame_index for row in rows] == list(range(16))


def test_the_next_shards_keyframe_has_no_row_here_also_if_batches_end_with_the_shard():
    assert [row.frame_index for row in rows_of(shard(8, 8), num_chunks=2)] == list(range(8, 16))


def test_frames_that_nobody_planned_are_rows_all_the_same():
    where = replace(shard(0, 4), end_pts=60)
    rows = rows_of(replace(where, num_frames=5))
    assert [row.frame_index for row in rows] == list(range(6))


def test_a_keyframes_finer_labels_are_brought_to_the_grid():
    def segment(batch):
        for output in stands_still(batch):
            is_keyframe = output.role == "labels" and (output.position == 0).all()
            logits = nn.functional.interpolate(output.logits, scale_factor=3, mode="nearest")
            yield replace(output, logits=logits, align_corners=False) if is_keyframe else output

    assert agreement_of(rows_of(shard(0, 12, is_last=True), segment)) == expected(0, 4, 8)


def test_keyframes_that_a_network_chose_inside_a_chunk_begin_chunks():
    """Frame 2 of each chunk is a keyframe too, to which the one before it arrives."""

    def segment(batch):
        chunks = batch.chunks
        for c in range(len(chunks.valid)):
            here = chunks.valid[c].nonzero()[:, 0]
            if not len(here):
                continue
            shown, start = chunks.frames[c, :, 0, 0, 0] % 6, here // 2 * 2
            of_chunk = torch.full_like(here, c)
            yield LogitsBatch(chunk=of_chunk, position=here, logits=ones_first(shown[start]), start=start)
            from_here = torch.tensor([p for p in (0, 2) if chunks.valid[c, p] and (p == 0 or chunks.next_valid[c])])
            if len(from_here):
                yield LogitsBatch(
                    chunk=torch.full_like(from_here, c),
                    position=from_here,
                    logits=ones_first(shown[from_here]),
                    role="arrival",
                )

    rows = rows_of(shard(0, 12, is_last=True), segment)
    assert [row.frame_index for row in rows if row.is_keyframe] == [0, 2, 4, 6, 8, 10]
    assert agreement_of(rows) == expected(0, 2, 4, 6, 8, 10)


def test_where_there_are_two_sides_these_are_compared_over_the_chunk():
    """Of the chunk at 0, frame 1 has two sides that differ in one place of six, and frame 2 in three of five."""
    one = torch.zeros(2, *GRID, dtype=torch.uint8)
    other = torch.tensor([[[1, 0, 0], [0, 0, 0]], [[1, 1, 1], [0, 0, 255]]], dtype=torch.uint8)

    def segment(batch):
        for output in stands_still(batch):
            is_two_sided = output.role == "labels" and batch.chunks.first_frame == 0 and 1 <= output.position[0] <= 2
            n = int(output.position[0]) - 1
            yield replace(output, sides=torch.stack([one[n], other[n]])[None]) if is_two_sided else output

    rows = rows_of(shard(0, 12, is_last=True), segment, num_chunks=1)
    assert agreement_of(rows) == {0: pytest.approx(7 / 11)} | expected(4, 8)
    assert rows[0].drift_iou.tolist()[:2] == [pytest.approx(7 / 11), 0.0]


def test_no_more_rows_are_held_than_a_chunk():
    """A row is given as soon as the next keyframe is there."""
    taken = []

    def items():
        for index in range(12):
            taken.append(index)
            yield Measured(item=row(index), own=np.zeros(GRID, np.uint8) if index % 4 == 0 else None)
            if index % 4 == 0:
                yield Arrival(frame_index=index, labels=np.zeros(GRID, np.uint8))

    def row(index):
        [made] = rows_of(shard(0, 1, is_last=True))
        return replace(made, frame_index=index)

    for found in join_drift(items(), num_classes=NUM_CLASSES, clock=StageClock(), end_pts=None):
        assert len(taken) <= found.frame_index // 4 * 4 + 5


# --- shards of a video ---


class Watches(nn.Module):
    """Labels by how bright a frame is; what it brings to the next keyframe does not move."""

    classes = CAMVID

    def __init__(self):
        super().__init__()
        self.levels = nn.Parameter(torch.linspace(0, 255, len(CAMVID)))

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(24, 32), frame_size=(12, 16), next_frame=True)

    def segment(self, chunks):
        for c, p in chunks.valid.nonzero().tolist():
            place = {"chunk": torch.tensor([c]), "position": torch.tensor([p])}
            yield LogitsBatch(**place, logits=self.look(chunks.keyframes[c] if p == 0 else chunks.frames[c, p]))
            if p == 0 and chunks.next_valid[c]:
                yield LogitsBatch(**place, logits=self.look(chunks.frames[c, 0]), role="arrival")

    def look(self, image):
        return -(image.float().mean(0)[None, None] - self.levels.view(1, -1, 1, 1)).abs()


@pytest.fixture
def label(drive, tmp_path):
    """label(...): the rows of `drive`, and the figures of its shards added up."""

    def run(*, interval=5, shard_frames=60, batch_chunks=2, model=None, **changes):
        rule = PlanRule(
            interval=interval, shard_seconds=60.0, shard_frames=shard_frames, smooth=changes.get("smooth", 0)
        )
        spec = LabelWorkerSpec(
            out=str(tmp_path / f"{shard_frames}-{batch_chunks}"),
            spool_dir=str(tmp_path / "spool"),
            keyframe_interval=interval,
            batch_chunks=batch_chunks,
            precision="fp32",
            fingerprint="f" * 64,
            **{"drift": True} | changes,
        )
        worker, rows = spec.build(model or Watches().eval(), device="cpu", num_threads=1), []
        for task in shard_tasks(str(drive), plan_video(str(drive), rule=rule)):
            rows += worker._rows(task, StageClock())
        worker.close()
        return [row for row in rows if row.drift_agreement is not None], len(rows)

    return run


def in_words(found):
    return [(row.frame_index, row.drift_agreement, str(row.drift_iou)) for row in found[0]], found[1]


def test_a_video_drifts_as_much_however_it_is_cut_and_batched(label):
    whole = in_words(label())
    assert [index for index, *_ in whole[0]] == list(range(0, 55, 5))
    assert all(0.3 < agreement < 1 for _, agreement, _ in whole[0])
    assert in_words(label(shard_frames=15, batch_chunks=1)) == whole
    assert in_words(label(shard_frames=20, batch_chunks=3)) == whole


@pytest.mark.parametrize("references", ["before", pytest.param("both", marks=pytest.mark.slow)])
def test_gsvnets_drift_does_not_depend_on_the_cut_either(label, tiny_model, references):
    model = with_drift(with_references(load_model(str(tiny_model)), references))
    whole = in_words(label(model=model))
    assert [index for index, *_ in whole[0]] == list(range(0, 55, 5))
    assert all(0.3 < agreement < 1 for _, agreement, _ in whole[0])
    assert in_words(label(model=model, shard_frames=15)) == whole


@pytest.mark.slow
def test_drift_of_intervals_that_a_network_chose_does_not_depend_on_the_cut_either(label, tiny_model):
    model = with_min_agreement(with_drift(load_model(str(tiny_model))), 0.6)
    whole = in_words(label(model=model, interval=STRETCH_FRAMES))
    starts = [index for index, *_ in whole[0]]
    assert len({b - a for a, b in pairwise(starts)}) > 1
    assert in_words(label(model=model, interval=STRETCH_FRAMES, shard_frames=24, batch_chunks=1)) == whole


def test_drift_is_that_of_labels_before_they_are_smoothed(label):
    pytest.importorskip("cv2")
    assert in_words(label(smooth=2, shard_frames=20)) == in_words(label())


def test_drift_that_nobody_asks_for_is_not_measured(label):
    assert label(drift=False) == ([], 60)
