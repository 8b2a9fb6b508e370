from __future__ import annotations

import pytest

from gsvnet.labeling.completeness import state_of_output
from gsvnet.store.job import FailureRecord, write_failure, write_plan


def shard(video, index, count):
    return {"video_id": video, "index": index, "first_frame": index, "num_frames": 1, "start_pts": index,
            "end_pts": None if index == count - 1 else index + 1, "restarts": []}  # fmt: skip


@pytest.fixture
def state(tmp_path, label_config):
    """state(known=, asked=, committed=, stored=, failed=): of an output with these plans and failures."""

    def _state(*, known, asked=None, committed=(), stored=None, failed=()):
        out = str(tmp_path)
        for name, count in (known if stored is None else stored).items():
            video = {"id": name, "uri": name, "identity": "1", "height": 1, "width": 1, "rotation": 0,
                     "time_base": "1/10", "num_frames": count}  # fmt: skip
            shards = [shard(name, index, count) for index in range(count)]
            write_plan(out, name, {"video": video, "shards": shards, "problems": [], "numbers_from": "scan"})
        for name, index in failed:
            record = FailureRecord(video=name, uri=name, shard=index, error="E", message="m", attempts=1)
            write_failure(out, record)
        config = label_config(out=out)
        return state_of_output(config, asked=known if asked is None else asked, known=known, committed=set(committed))

    return _state


BOTH = (("a", "000000"), ("a", "000001"))


def test_an_output_is_complete_when_every_shard_has_its_labels(state):
    assert state(known={"a": 2}, committed=BOTH) == "complete"


def test_a_shard_without_labels_or_record_is_missing(state):
    assert state(known={"a": 2}, committed=BOTH[:1]) == "partial"


@pytest.mark.parametrize("failed", [("a", "000001"), ("a", None)])
def test_what_is_recorded_as_given_up_settles_an_output(state, failed):
    assert state(known={"a": 2}, committed=BOTH[:1], failed=[failed]) == "settled"


def test_a_record_is_void_once_the_labels_exist(state):
    assert state(known={"a": 2}, committed=BOTH, failed=[("a", "000001"), ("a", None)]) == "complete"


def test_videos_of_other_runs_count(state):
    assert state(known={"a": 2}, stored={"a": 2, "b": 1}, committed=BOTH) == "partial"


def test_a_video_that_was_named_but_has_no_plan_yet_is_missing(state):
    assert state(known={"a": 2}, asked={"a", "b"}, committed=BOTH) == "partial"


def test_a_video_that_could_not_be_planned_is_settled(state):
    assert state(known={"a": 2}, asked={"a", "b"}, committed=BOTH, failed=[("b", None)]) == "settled"
