from __future__ import annotations

import os
import signal

from gsvnet.labeling.workplace import stop_on_sigterm


def test_the_first_sigterm_stops_and_the_second_cuts():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_sigterm() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.is_set(), stop.cut.is_set()) == (True, False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.cut.is_set()
    assert signal.getsignal(signal.SIGTERM) is before
