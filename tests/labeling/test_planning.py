from __future__ import annotations

import itertools
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gsvnet.errors import SourceUnavailable, StoreError, StoreUnavailable
from gsvnet.labeling import planning
from gsvnet.labeling.plan import PlanRule
from gsvnet.labeling.planning import (
    PlanRequest,
    failed_video,
    in_order,
    in_share,
    plan_in_threads,
    share_of,
    try_again_later,
)
from gsvnet.store.layout import plan_uri
from gsvnet.video.source import video_id

RULE = PlanRule(interval=5, shard_seconds=60.0, shard_frames=12)


@pytest.fixture
def clips(drive, tmp_path) -> list[str]:
    return [shutil.copy(drive, tmp_path / f"{name}.mp4") and str(tmp_path / f"{name}.mp4") for name in "abcdef"]


@pytest.fixture
def request_(tmp_path) -> PlanRequest:
    return PlanRequest(out=str(tmp_path / "out"), rule=RULE)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(planning, "RETRY_AFTER_S", (0.0, 0.0))


def fail(monkeypatch, uri, errors):
    """Planning `uri` raises these errors, one a time, then goes well."""
    errors, plan = iter(errors), planning.stored_or_new_plan

    def plan_or_fail(out, name, **options):
        if name == uri and (error := next(errors, None)):
            raise error
        return plan(out, name, **options)

    monkeypatch.setattr(planning, "stored_or_new_plan", plan_or_fail)


def test_plans_come_in_the_order_of_the_videos_and_are_kept(clips, request_):
    planned = list(plan_in_threads(request_, clips))
    assert [p.uri for p in planned] == clips
    assert all(p.plan.video.num_frames == 60 for p in planned)
    assert all(Path(plan_uri(request_.out, video_id(uri))).is_file() for uri in clips)


def test_plans_are_made_without_an_output(clips):
    planned = list(plan_in_threads(PlanRequest(out=None, rule=RULE), clips))
    assert [p.plan.video.uri for p in planned] == clips


def test_videos_are_read_only_as_far_ahead_as_said():
    taken = []
    answers = in_order(lambda item: item, (taken.append(i) or i for i in itertools.count()), 2, 8)
    assert list(itertools.islice(answers, 20)) == list(range(20))
    assert len(taken) <= 28
    answers.close()


def test_a_process_ends_though_a_video_is_still_being_planned():
    program = "import time; from gsvnet.labeling.planning import in_order; import threading as t\n"
    program += (
        "t.Thread(target=lambda: list(in_order(time.sleep, 9 * [600], 2, 8)), daemon=True).start(); time.sleep(0.5)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)


def test_what_is_not_begun_when_the_reader_leaves_is_not_done():
    gate, begun = threading.Event(), []
    answers = in_order(lambda item: begun.append(item) or (item and gate.wait(120)), range(50), 2, 8)
    next(answers)
    answers.close()
    gate.set()
    time.sleep(0.2)
    assert len(begun) <= 4


def test_an_answer_is_handed_out_before_the_items_end():
    def items():
        until_s = time.monotonic() + 60
        for number in itertools.count():
            yield number
            time.sleep(0.01)
            if time.monotonic() > until_s:
                pytest.fail("the first answer was there")

    assert next(in_order(lambda item: item, items(), 1, 10**6)) == 0


def test_an_unusable_video_is_a_failure_among_the_plans(clips, request_, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    planned = list(plan_in_threads(request_, [clips[0], str(text), clips[1]]))
    assert [p.failure and p.failure.error for p in planned] == [None, "NotAVideo", None]
    assert planned[1].failure.shard_index is None


def test_an_error_nobody_thought_of_is_of_that_video_and_shows_no_credentials(clips, request_, monkeypatch):
    fail(monkeypatch, clips[1], [RuntimeError("GET https://key:secret@host/a.mp4?sig=hush failed")])
    failure = list(plan_in_threads(request_, clips[:3]))[1].failure
    assert (failure.error, failure.message) == ("RuntimeError", f"{clips[1]}: GET https://host/a.mp4 failed")


def test_an_output_that_cannot_be_read_stops_all(clips, request_, monkeypatch):
    fail(monkeypatch, clips[2], [StoreError("cannot write")])
    with pytest.raises(StoreError, match="cannot write"):
        list(plan_in_threads(request_, clips))


def test_planning_waits_for_an_output_that_does_not_answer(clips, request_, monkeypatch, hold_clock):
    clock = hold_clock(planning)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + 600)
    fail(monkeypatch, clips[1], 2 * [StoreUnavailable("503")])
    assert all(p.plan for p in plan_in_threads(request_, clips[:3]))
    fail(monkeypatch, clips[1], 9 * [StoreUnavailable("503")])
    with pytest.raises(StoreUnavailable, match="503"):
        list(plan_in_threads(request_, clips[:3]))


def test_videos_whose_store_does_not_answer_are_asked_for_again_after_the_others(
    clips, request_, monkeypatch, no_pauses
):
    fail(monkeypatch, clips[1], 2 * [SourceUnavailable("503")])
    planned = list(plan_in_threads(request_, clips[:4]))
    assert [p.uri for p in planned] == [clips[0], clips[2], clips[3], clips[1]]
    assert all(p.plan for p in planned)


def test_after_three_rounds_such_a_video_is_a_failure_and_the_next_run_tries_again(
    clips, request_, monkeypatch, no_pauses
):
    fail(monkeypatch, clips[1], 3 * [SourceUnavailable("503")])
    last = list(plan_in_threads(request_, clips[:3]))[-1]
    assert (last.uri, last.failure.error, last.is_outage) == (clips[1], "SourceUnavailable", True)
    assert all(p.plan for p in plan_in_threads(request_, clips[:3]))


def test_when_no_video_can_be_read_for_long_planning_ends(clips, request_, monkeypatch, hold_clock):
    clock = hold_clock(planning)
    clock.sleep = lambda seconds: None

    def unavailable(*_, **__):
        clock.now += 700
        raise SourceUnavailable("no answer")

    monkeypatch.setattr(planning, "stored_or_new_plan", unavailable)
    with pytest.raises(SourceUnavailable, match="no video could be read for 1800 s: no answer"):
        list(plan_in_threads(request_, clips))


def outcomes(uris):
    """Videos whose names begin with "out" are in an outage."""
    for uri in uris:
        is_out = uri.startswith("out")
        yield (
            failed_video(uri, error="SourceUnavailable", message="503")
            if is_out
            else failed_video(uri, error="NotAVideo", message="no")
        )


def test_time_that_plans_wait_to_be_taken_is_no_outage(hold_clock, no_pauses):
    clock = hold_clock(planning)
    clock.sleep = lambda seconds: None
    taken = []
    for planned in try_again_later(outcomes, ["a", "b", "out", "c"], outage_timeout_s=1800):
        taken.append(planned.uri)
        clock.now += 3600
    assert taken == ["a", "b", "c", "out"]


def test_a_few_videos_out_of_reach_do_not_stop_a_job_whose_others_are_planned(hold_clock, no_pauses):
    clock = hold_clock(planning)
    clock.sleep = lambda seconds: None

    def slowly(uris):
        for planned in outcomes(uris):
            clock.now += 1000 * planned.is_outage
            yield planned

    planned = try_again_later(slowly, ["a", "out-1", "out-2"], outage_timeout_s=2500)
    assert [p.uri for p in planned] == ["a", "out-1", "out-2"]


def test_one_listing_tells_which_plans_to_read(clips, request_, monkeypatch):
    list(plan_in_threads(request_, clips[:2]))
    looked_for = []
    plan = planning.stored_or_new_plan
    monkeypatch.setattr(
        planning,
        "stored_or_new_plan",
        lambda out, uri, **options: looked_for.append(options["is_stored"]) or plan(out, uri, **options),
    )
    planned = list(plan_in_threads(request_, clips[:4]))
    assert sorted(looked_for) == [False, False, True, True]
    assert all(p.plan for p in planned)


def test_requests_travel_and_hide_their_secrets(request_):
    request = PlanRequest(out="s3://b/o", rule=RULE, storage_options={"secret": "hush"})
    assert pickle.loads(pickle.dumps(request)) == request
    assert "hush" not in repr(request)


def test_each_video_is_in_one_share_which_never_changes():
    names = [f"drive-{i:012x}" for i in range(2000)]
    shares = [share_of(name, 4) for name in names]
    assert [sum(in_share(name, k, 4) for k in range(4)) for name in names] == [1] * 2000
    assert [share_of(name, 4) for name in names[:8]] == [0, 2, 1, 1, 2, 3, 3, 3]
    assert min(shares.count(k) for k in range(4)) > 430
