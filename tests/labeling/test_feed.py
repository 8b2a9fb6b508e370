from __future__ import annotations

import threading
import time

import pytest

from gsvnet.labeling.feed import Peekable, without_waiting


def wait_for(condition):
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


def test_items_come_in_order_and_none_stands_where_the_next_is_not_made():
    gate = threading.Event()

    def slowly():
        yield 1
        gate.wait()
        yield 2

    feed = without_waiting(slowly(), most=4)
    seen = []
    wait_for(lambda: seen.append(next(feed)) or seen[-1] == 1)
    assert [next(feed) for _ in range(3)] == [None] * 3
    gate.set()
    assert [item for item in feed if item is not None] == [2]


def test_no_more_than_asked_for_are_made_ahead():
    made = []
    feed = without_waiting((made.append(n) or n for n in range(100)), most=3)
    next(feed)
    wait_for(lambda: len(made) >= 4)  # three wait, one is in the thread's hand
    time.sleep(0.3)
    assert len(made) <= 5
    assert [item for item in feed if item is not None][-1] == 99


def test_an_error_arrives_after_the_items_before_it():
    def broken():
        yield 1
        raise OSError("no route")

    seen: list = []
    with pytest.raises(OSError, match="no route"):
        seen.extend(without_waiting(broken(), most=4))
    assert [item for item in seen if item is not None] == [1]


def test_a_closed_feed_stops_and_closes_its_source():
    ended = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            ended.set()

    feed = without_waiting(endless(), most=2)
    next(feed)
    feed.close()
    assert ended.wait(60)


def test_a_look_at_the_first_item_waits_for_it_and_leaves_it_there():
    items = Peekable(iter([None, None, "a", None, "b"]))
    assert [items.peek(stop=threading.Event()) for _ in range(2)] == ["a", "a"]
    assert list(items) == ["a", None, "b"]


def test_a_look_ends_where_nothing_comes_or_nobody_waits():
    assert Peekable(iter([None])).peek(stop=threading.Event()) is None
    told = threading.Event()
    told.set()
    assert Peekable(iter(["a"])).peek(stop=told) is None
