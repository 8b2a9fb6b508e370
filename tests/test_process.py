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
