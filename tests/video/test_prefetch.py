from __future__ import annotations

import threading
import time

import pytest

from gsvnet.video.decode import prefetch


def _threads() -> int:
    return sum(thread.name == "gsvnet-prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends():
    assert list(prefetch(iter(range(50)), depth=3)) == list(range(50))
    assert _threads() == 0


def test_no_more_than_depth_items_are_made_ahead():
    made = []

    def source():
        for n in range(20):
            made.append(n)
            yield n

    items = prefetch(source(), depth=2)
    assert next(items) == 0
    time.sleep(0.2)
    assert made == [0, 1, 2]
    items.close()
    assert _threads() == 0


def test_errors_arrive_after_the_items_before_them():
    def source():
        yield 1
        raise ZeroDivisionError("at the second item")

    items = prefetch(source(), depth=4)
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError, match="at the second item"):
        next(items)
    assert _threads() == 0


def test_closing_early_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = prefetch(source(), depth=1)
    next(items)
    items.close()
    assert closed.is_set()
    assert _threads() == 0


def test_an_error_in_the_consumer_stops_the_thread():
    def consume():
        for item in prefetch(iter(range(1000)), depth=2):
            raise KeyError(item)

    with pytest.raises(KeyError):
        consume()
    assert _threads() == 0


def test_depth_must_hold_an_item():
    with pytest.raises(ValueError, match="depth is 0"):
        next(prefetch([1], depth=0))
