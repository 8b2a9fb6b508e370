from __future__ import annotations

from fractions import Fraction

import pytest

from gsvnet.chunks import Shard, Video
from gsvnet.errors import DecodeError, ModelError, NoSpace, StoreError
from gsvnet.labeling.local import run_local
from gsvnet.labeling.tasks import ShardResult, ShardTask

VIDEO = Video(
    id="v", uri="s3://b/v.mp4", identity="", height=2, width=2, rotation=0, time_base=Fraction(1), num_frames=9
)


def task(index):
    shard = Shard(video_id="v", index=index, first_frame=index, num_frames=1, start_pts=index, end_pts=None)
    return ShardTask(video=VIDEO, shard=shard, uri="s3://key:hush@b/v.mp4")


class Worker:
    """Raises what is planned for a shard, one error per attempt; then labels it."""

    model_hash = "h"
    frames_done = 0
    notes = ("slow here",)

    def __init__(self, errors):
        self.errors, self.calls = {index: list(planned) for index, planned in errors.items()}, []
        self.prepared, self.closed = [], False

    def prepare(self, work):
        self.prepared.append((len(self.calls), work.shard.index))

    def close(self):
        self.closed = True

    def build(self, weights, *, device, num_threads):
        assert (device, num_threads) == ("cpu", 2)
        return self

    def __call__(self, work):
        index = work.shard.index
        self.calls.append(index)
        if self.errors.get(index):
            raise self.errors[index].pop(0)
        return ShardResult(
            video_id="v",
            shard_index=index,
            num_frames=1,
            num_lost=0,
            num_keyframes=1,
            num_bytes=1,
            media_s=0.0,
            seconds={},
            published=True,
        )


def run(errors, *, num_shards=3, max_attempts=3):
    worker, results, failures = Worker(errors), [], []
    label_with(worker, results, failures, num_shards=num_shards, max_attempts=max_attempts)
    return worker.calls, results, failures


def label_with(worker, results, failures, *, num_shards, max_attempts):
    run_local(
        map(task, range(num_shards)),
        spec=worker,
        model=None,
        device="cpu",
        num_threads=2,
        max_attempts=max_attempts,
        on_result=lambda r: results.append(r.shard_index),
        on_failure=failures.append,
    )


def test_shards_are_labeled_in_order():
    assert run({}) == ([0, 1, 2], [0, 1, 2], [])


def test_the_worker_hears_of_each_shard_one_call_ahead():
    worker = Worker({})
    label_with(worker, [], [], num_shards=3, max_attempts=1)
    assert worker.prepared == [(0, 1), (1, 2)]  # (calls before, shard)


def test_a_passing_error_costs_an_attempt():
    assert run({1: [StoreError("try again"), OSError("again")]}) == ([0, 1, 1, 1, 2], [0, 1, 2], [])


def test_a_lasting_error_is_given_up_after_the_attempts_and_the_others_go_on():
    calls, results, [failure] = run({1: [StoreError(f"number {n}") for n in range(9)]}, max_attempts=2)
    assert (calls, results) == ([0, 1, 1, 2], [0, 2])
    assert (failure.shard_index, failure.error, failure.message, failure.attempts) == (1, "StoreError", "number 1", 2)


def test_a_video_that_does_not_decode_is_not_tried_again():
    calls, results, [failure] = run({0: [DecodeError("stopped", uri="s3://b/v.mp4")]})
    assert (calls, results) == ([0, 1, 2], [1, 2])
    assert (failure.error, failure.message, failure.attempts) == ("DecodeError", "s3://b/v.mp4: stopped", 1)


@pytest.mark.parametrize("error", [NoSpace("disk full"), ModelError("does not fit")], ids=repr)
def test_what_stops_a_whole_job_is_raised_at_once(error):
    with pytest.raises(type(error), match=str(error)):
        run({1: [error]})


@pytest.mark.parametrize("error", [NoSpace("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_job_that_ends_early_leaves_nothing_prepared(error):
    worker = Worker({1: [error]})
    with pytest.raises(type(error)):
        label_with(worker, [], [], num_shards=3, max_attempts=1)
    assert worker.closed


def test_failures_hold_no_credentials():
    _, _, [failure] = run({0: [RuntimeError("403 for s3://key:hush@b/v.mp4")]}, max_attempts=1)
    assert failure.message == "403 for s3://b/v.mp4"


def test_what_a_worker_has_to_say_is_passed_on(tmp_path):
    said = []
    run_local([], spec=Worker({}), model=None, device="cpu", num_threads=2, max_attempts=1,
              on_result=said.append, on_failure=said.append, on_note=said.append)  # fmt: skip
    assert said == ["slow here"]
