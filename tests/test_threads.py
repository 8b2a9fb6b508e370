"""Threads of torch behave beside others."""

from __future__ import annotations

import os

from gsvnet.threads import yield_idle_cores


def test_waiting_threads_sleep_unless_the_user_wants_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    yield_idle_cores()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    yield_idle_cores()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
