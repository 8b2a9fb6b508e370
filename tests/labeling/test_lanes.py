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
    machine(0.9, 0.9)
    with pytest.raises(VideoError, match=r"72x96 need about [\d.]+ MB of memory and [\d.]+ MB are there"):
        lanes_that_fit(build_arseg(), **SIZE, num_lanes=2)


@pytest.mark.parametrize(("free", "lanes"), [(5, 4), (3.5, 3), (1.2, 1), (0, 1)])
def test_memory_that_others_hold_takes_lanes_and_is_no_fault_of_the_video(machine, monkeypatch, free, lanes):
    monkeypatch.setattr(memory.os, "sched_getaffinity", lambda _: range(4))
    machine(32, free)
    assert lanes_that_fit(build_arseg(), **SIZE, num_lanes=4) == lanes


def test_networks_that_do_not_say_what_they_take_use_all_lanes(machine, tiny_model):
    machine(0, 0)
    assert lanes_that_fit(load_model(str(tiny_model)), **SIZE, num_lanes=3) == 3


@pytest.mark.skipif(not memory._MEMINFO.exists(), reason="memory is read from /proc")
def test_memory_is_that_of_this_machine():
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [group.limit() for group in memory._memory_groups()]
    assert total_bytes() == pytest.approx(min([machine, *(limit for limit in limits if limit)]), rel=0.01)
    assert 2**26 < free_bytes() <= 1.5 * total_bytes()


@pytest.fixture
def group_files(tmp_path, monkeypatch):
    """group_files(groups, files): a machine whose /proc/self/cgroup says so and whose groups have these files."""
    for name, file in {
        "_GROUPS": "cgroup",
        "_GROUP_FILES": "groups",
        "_MEMINFO": "meminfo",
        "_STATUS": "status",
    }.items():
        monkeypatch.setattr(memory, name, tmp_path / file)

    def write(groups, files):
        machine = {"meminfo": "MemTotal:  9000 kB\nMemAvailable:  5000 kB\n", "status": "VmRSS:\t     10 kB\n"}
        for name, text in machine.items() | {"cgroup": groups}.items() | files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


CACHE = "anon 600000\ninactive_file 300000\ntotal_inactive_file 310000\nactive_file 5\n"


def group(folder, limit, used="900000", names=("max", "current")):
    values = zip(names, (limit, used))
    return {f"{folder}/memory.{name}": value for name, value in values} | {f"{folder}/memory.stat": CACHE}


V1 = ("limit_in_bytes", "usage_in_bytes")


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/\n", group("groups", "1000000"), 400_000),
        ("0::/job/step\n", group("groups/job/step", "max") | group("groups/job", "1000000"), 400_000),
        ("0::/job\n", group("groups/job", "1000000") | group("groups", "2000000"), 400_000),
        ("0::/not/seen/from/inside\n", group("groups", "1000000"), 400_000),
        ("5:cpu,memory:/slurm/job\n", group("groups/memory/slurm/job", "1000000", names=V1), 410_000),
        ("5:memory:/docker\n0::/\n", group("groups/memory", "1000000", names=V1), 410_000),
    ],
    ids=["own", "parent", "least", "unseen", "version 1", "mixed"],
)
def test_the_limit_of_a_container_or_job_counts_and_its_file_cache_is_free(group_files, groups, files, free):
    group_files(groups, files)
    assert (total_bytes(), free_bytes()) == (1_000_000, free + 10_240)


def test_without_a_limit_the_machines_memory_counts(group_files):
    group_files("0::/job\n", group("groups/job", "max") | group("groups", "max"))
    assert (total_bytes(), free_bytes()) == (9000 * 1024, 5010 * 1024)


def test_where_nothing_tells_all_lanes_are_used(tmp_path, monkeypatch):
    for name in ("_GROUPS", "_MEMINFO", "_STATUS"):
        monkeypatch.setattr(memory, name, tmp_path / "none")
    assert lanes_that_fit(build_arseg(), **SIZE, num_lanes=3) == 3
