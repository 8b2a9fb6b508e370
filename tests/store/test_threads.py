from __future__ import annotations

import threading

import pytest

from gsvnet.store.threads import map_in_threads


def test_results_come_in_order():
    assert list(map_in_threads(lambda n: n * n, range(20), num_threads=3)) == [n * n for n in range(20)]
    assert list(map_in_threads(abs, [], num_threads=3)) == []


def test_few_items_are_taken_before_their_results():
    taken = []
    results = map_in_threads(abs, (taken.append(n) or n for n in range(100)), num_threads=2)
    next(results)
    assert len(taken) <= 5
    results.close()


def test_the_first_error_ends_all():
    done, gate = [], threading.Event()

    def work(n):
        if n == 0:
            gate.wait(10)
            raise ValueError("zero")
        done.append(n)

    results = map_in_threads(work, range(1000), num_threads=1)
    gate.set()
    with pytest.raises(ValueError, match="zero"):
        next(results)
    assert len(done) < 5
