"""How many lanes of a worker the memory allows."""

from __future__ import annotations

import os

import pytest

from gsvnet.errors import VideoError
from gsvnet.labeling import memory
from gsvnet.labeling.memory import free_bytes, lanes_that_fit, total_bytes
from gsvnet.models.checkpoints import load_model
from tests.tiny_arseg import build_arseg

SIZE = {"height": 72, "width": 96, "interval": 5, "num_chunks": 2}
CORES = len(os.sched_getaffinity(0))


@pytest.fixture
def machine(monkeypatch):
    """machine(total, free): a machine with that many times the memory that a batch takes."""
    needed = build_arseg().peak_bytes(72, 96, 5, num_chunks=2)

    def make(total, free):
        monkeypatch.setattr(memory, "total_bytes", lambda: int(total * needed))
        monkeypatch.setattr(memory, "free_bytes", lambda: int(free * needed))

    return make


@pytest.mark.parametrize(("total", "lanes"), [(100, CORES), (CORES, CORES), (1.5, 1), (1, 1)])
def test_a_worker_with_all_cores_uses_as_many_lanes_as_fit(machine, total, lanes):
    machine(total, total)
    assert lanes_that_fit(build_arseg(), **SIZE, num_lanes=CORES) == lanes


def test_a_worker_with_some_of_the_cores_has_that_share_of_the_memory(machine, monkeypatch):
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda _: range(8))
    machine(8, 8)
    assert lanes_that_fit(build_arseg(), **SIZE, num_lanes=4) == 4
    machine(4, 4)
    assert lanes_that_fit(build_arseg(), **SIZE, num_lanes=4) == 2


def test_a_video_for_which_there_is_no_room_is_refused_with_both_numbers(machine):
    machine(10, 0.9)
    with pytest.raises(VideoError, match=r"72x96 need about [\d.]+ MB of memory and [\d.]+ MB are free"):
        lanes_that_fit(build_arseg(), **SIZE, num_lanes=2)


def test_networks_that_do_not_say_what_they_take_use_all_lanes(machine, tiny_model):
    machine(0, 0)
    assert lanes_that_fit(load_model(str(tiny_model)), **SIZE, num_lanes=3) == 3


@pytest.mark.skipif(not memory._MEMINFO.exists(), reason="memory is read from /proc")
def test_memory_is_that_of_this_machine():
    total, free = total_bytes(), free_bytes()
    assert total == pytest.approx(min(total, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), rel=0.01)
    assert 2**26 < free <= 1.5 * total


def test_in_a_container_its_limit_counts_and_its_file_cache_is_free(tmp_path, monkeypatch):
    for name, text in {
        "container/memory.max": "1000000",
        "container/memory.current": "900000",
        "container/memory.stat": "anon 600000\ninactive_file 300000\nactive_file 5\n",
        "meminfo": "MemTotal:       9000 kB\nMemAvailable:   5000 kB\n",
        "status": "VmRSS:\t     10 kB\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, file in {"_CONTAINER": "container", "_MEMINFO": "meminfo", "_STATUS": "status"}.items():
        monkeypatch.setattr(memory, name, tmp_path / file)
    assert (total_bytes(), free_bytes()) == (1_000_000, 400_000 + 10_240)
    (tmp_path / "container/memory.max").write_text("max")
    assert (total_bytes(), free_bytes()) == (9000 * 1024, 5010 * 1024)


def test_where_nothing_tells_all_lanes_are_used(tmp_path, monkeypatch):
    for name in ("_CONTAINER", "_MEMINFO", "_STATUS"):
        monkeypatch.setattr(memory, name, tmp_path / "none")
    assert lanes_that_fit(build_arseg(), **SIZE, num_lanes=3) == 3
