from __future__ import annotations

import pytest

from gsvnet.errors import StoreUnavailable
from gsvnet.labeling.ray import losses, rests
from gsvnet.labeling.ray.fleet import HiredActor
from gsvnet.labeling.tasks import Raised

ERROR = StoreUnavailable("503")
OUTAGE = Raised(error="StoreUnavailable", message="503", kind="outage", original=ERROR)


class Clock:
    now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(rests, "time", clock)
    monkeypatch.setattr(losses, "time", clock)
    return clock


def actor(number=0):
    return HiredActor(number=number, handle=None, asked_s=0.0, answer=None)


def test_rests_double_up_to_a_minute_until_a_shard_finishes(clock):
    waits, tired = rests.Rests(timeout_s=1e9), actor()
    lengths = []
    for _ in range(8):
        waits.begin(tired, OUTAGE)
        lengths.append(tired.rest_s)
        assert 0.5 * tired.rest_s <= tired.rests_until_s - clock.now_s <= tired.rest_s
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60]
    waits.note_finished(tired)
    waits.begin(tired, OUTAGE)
    assert tired.rest_s == 1


def test_an_outage_of_many_actors_is_told_once_and_again_after_a_quiet_minute(clock):
    waits = rests.Rests(timeout_s=1e9)
    told = []
    for number in range(5):
        told.append(waits.begin(actor(number), OUTAGE))
        clock.now_s += 10
    assert [event is not None for event in told] == [True, False, False, False, False]
    clock.now_s += 62
    assert waits.begin(actor(), OUTAGE).reason == "StoreUnavailable: 503"


def test_the_job_ends_when_nothing_got_done_for_too_long(clock):
    waits, tired = rests.Rests(timeout_s=30), actor()
    waits.begin(tired, OUTAGE)
    began_s = clock.now_s
    clock.now_s += 30
    waits.check([])
    clock.now_s += 1
    waits.check([began_s - 5])  # it began before the outage and may still get done
    waits.begin(actor(1), OUTAGE)
    with pytest.raises(StoreUnavailable, match="503") as caught:
        waits.check([began_s + 5])
    assert caught.value is ERROR
    waits.note_finished(tired)
    waits.check([])


def test_shards_that_take_longer_than_the_limit_survive_a_short_outage(clock):
    waits = rests.Rests(timeout_s=30)
    waits.begin(actor(0), OUTAGE)
    clock.now_s += 1
    waits.begin(actor(1), OUTAGE)
    clock.now_s += 1
    begun_again_s = clock.now_s
    clock.now_s += 1000
    waits.check([begun_again_s, begun_again_s + 1])
    waits.begin(actor(0), OUTAGE)
    with pytest.raises(StoreUnavailable, match="503"):
        waits.check([begun_again_s + 1])


def test_a_lost_actor_is_counted_once_its_node_is_known_to_live(clock, make_tasks):
    (task,) = make_tasks(1)
    ledger = losses.Losses(verdict_s=20)
    ledger.put_off("dies", "end of file", held=task)
    clock.now_s += 5
    ledger.put_off("lives", "end of file", held=None)
    clock.now_s += 14
    assert (ledger.due(), ledger.next_verdict_s) == (False, clock.now_s + 1)
    clock.now_s += 6
    verdicts = [(loss.held, with_its_node) for loss, with_its_node in ledger.judge({"lives"})]
    assert verdicts == [(task, True), (None, False)]
    assert ledger.num_counted == 1
    assert ledger.release() == []
