from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from gsvnet.labeling.clock import Seconds, StageClock, Timed, thread_seconds, timed_decoding


def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_waiting_counts_on_the_wall_and_not_on_the_cores():
    clock, began_s = StageClock(), time.monotonic()
    with clock.stage("write"):
        time.sleep(0.1)
    assert 0.1 <= clock.wall()["write"] <= time.monotonic() - began_s
    assert clock.cores()["write"] < 0.05


def test_a_stage_counts_the_processor_time_of_its_own_thread_the_total_of_all():
    clock = StageClock()
    other = threading.Thread(target=burn, args=(0.1,))
    other.start()
    with clock.stage("encode"):
        burn(0.1)
    other.join()
    assert 0.1 <= clock.cores()["encode"] < 0.15
    assert clock.cores()["total"] >= 0.2


def test_seconds_of_a_stage_add_up():
    clock = StageClock()
    assert clock.count("decode", Timed(item="batch", took=Seconds(wall=2.0, cores=1.0))) == "batch"
    clock.add("decode", Seconds(wall=1.0, cores=0.5))
    assert (clock.wall()["decode"], clock.cores()["decode"]) == (3.0, 1.5)


def test_items_bring_along_how_long_they_took():
    def slow():
        for n in range(2):
            burn(0.05)
            time.sleep(0.05)
            yield n

    items = list(timed_decoding(slow()))
    assert [item.item for item in items] == [0, 1]
    assert all(item.took.wall >= 0.1 and 0.05 <= item.took.cores < 0.09 for item in items)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_of_the_decoder_count_as_decoding(drive):
    import av

    with av.open(str(drive)) as container:
        container.streams.video[0].thread_type = "FRAME"
        container.streams.video[0].codec_context.thread_count = 2
        before = thread_seconds("av:")
        for n, _ in enumerate(container.decode(video=0)):
            if n == 30:
                names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
                assert sum(name.startswith("av:") for name in names) == 2
        assert thread_seconds("av:") >= before
    assert thread_seconds("no such") == 0.0
