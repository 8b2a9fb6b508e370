"""A labeling process behaves: beside others on its cores, and with its memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from gsvnet.process import yield_idle_cores


def test_waiting_threads_sleep_unless_the_user_wants_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    yield_idle_cores()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    yield_idle_cores()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_freed_memory_is_used_again_instead_of_fetched_from_the_kernel():
    script = """
import resource, sys
from gsvnet.process import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    bytearray(b"x") * 2**26  # 64 MB, every page touched
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", script, mode], capture_output=True, check=True).stdout)
        for mode in ("keep", "default")
    }
    assert faults["keep"] < 0.2 * faults["default"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_memory_is_limited_in_a_block_and_not_after_it():
    """In a process of its own: one that has freed much gets memory without asking the kernel for any."""
    script = """
from gsvnet.process import limited_memory
def is_given(num_bytes):
    try:
        return bool(bytearray(num_bytes))
    except MemoryError:
        return False
with limited_memory(200 << 20):
    print(is_given(100 << 20), is_given(300 << 20))
print(is_given(300 << 20))
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    assert said.split() == ["True", "False", "True"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_what_is_freed_between_shards_goes_back_once_it_is_much():
    script = """
from pathlib import Path
from gsvnet.process import keep_freed_memory, return_freed_memory
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
keep_freed_memory()
for megabytes in (400, 1500):
    held = [bytearray(b"x") * 2**20 for _ in range(megabytes)]
    last = bytearray(2**20)  # above all of them: the heap cannot shrink
    del held
    before = resident_mb()
    return_freed_memory()
    print(before, resident_mb())
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    little, little_after, much, much_after = map(int, said.split())
    assert little_after > little - 20
    assert much > 1500
    assert much_after < 200
