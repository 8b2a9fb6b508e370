from __future__ import annotations

import threading
import time

import pytest

from gsvnet.labeling.ahead import ReadAhead


class Source:
    """items(key) yields (key, 0), (key, 1), ... and notes what was made; `close` is set when it was closed."""

    def __init__(self, *, num=3):
        self.num, self.made, self.closed = num, [], threading.Event()

    def __call__(self, key):
        try:
            for n in range(self.num):
                if key == "broken":
                    raise ZeroDivisionError("while making")
                self.made.append((key, n))
                yield key, n
        finally:
            self.closed.set()


def settled(source, least):
    """What was made, once that is `least` items and no more come."""
    limit_s = time.monotonic() + 60
    while len(source.made) < least and time.monotonic() < limit_s:
        time.sleep(0.01)
    seen = -1
    while seen != len(source.made):
        seen = len(source.made)
        time.sleep(0.3)
    return source.made


def num_threads():
    return sum(thread.name == "gsvnet-decode" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends():
    assert list(ReadAhead(Source(num=50), 3).items("a")) == [("a", n) for n in range(50)]
    assert num_threads() == 0


def test_no_more_than_depth_items_are_made_ahead():
    source = Source(num=20)
    items = ReadAhead(source, 2).items("a")
    assert next(items) == ("a", 0)
    assert settled(source, 3) == [("a", 0), ("a", 1), ("a", 2)]
    items.close()
    assert num_threads() == 0


def test_the_next_keys_items_are_made_while_the_last_ones_are_worked_on():
    source = Source()
    ahead = ReadAhead(source, 2)
    ahead.prepare("b")
    first = ahead.items("a")
    assert [next(first) for _ in range(3)] == [("a", n) for n in range(3)]
    assert settled(source, 5)[3:] == [("b", 0), ("b", 1)]
    assert list(first) == []
    assert list(ahead.items("b")) == [("b", n) for n in range(3)]
    assert len(source.made) == 6


def test_one_can_be_told_late_what_comes_next():
    source = Source()
    ahead = ReadAhead(source, 4)
    items = ahead.items("a")
    next(items)
    ahead.prepare("b")
    assert settled(source, 5)[3:] == [("b", 0), ("b", 1)]
    assert list(items) == [("a", 1), ("a", 2)]


def test_two_keys_take_no_more_room_than_one():
    source = Source(num=2)
    ahead = ReadAhead(source, 3)
    ahead.prepare("b")
    items = ahead.items("a")
    next(items)
    assert settled(source, 4) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]  # one is out, three wait
    assert ahead._room.left == 0


@pytest.mark.parametrize("key", ["a", "c"], ids=["tried again", "another one"])
def test_what_was_prepared_in_vain_is_thrown_away(key):
    source = Source()
    ahead = ReadAhead(source, 2)
    ahead.prepare("b")
    assert len(list(ahead.items("a"))) == 3
    assert [x for x in settled(source, 5) if x[0] == "b"] == [("b", 0), ("b", 1)]
    assert list(ahead.items(key)) == [(key, n) for n in range(3)]
    assert num_threads() == 0
    assert ahead._room.left == 2


def test_errors_of_a_prepared_key_arrive_where_it_is_asked_for():
    ahead = ReadAhead(Source(), 2)
    ahead.prepare("broken")
    assert len(list(ahead.items("a"))) == 3
    with pytest.raises(ZeroDivisionError, match="while making"):
        next(ahead.items("broken"))
    assert len(list(ahead.items("a"))) == 3
    assert ahead._room.left == 2


def test_closing_early_closes_the_source():
    source = Source(num=1000)
    items = ReadAhead(source, 1).items("a")
    next(items)
    items.close()
    assert source.closed.is_set()
    assert num_threads() == 0


def test_what_is_prepared_ends_with_the_reader_which_may_still_be_asked():
    source = Source()
    ahead = ReadAhead(source, 2)
    ahead.prepare("b")
    next(ahead.items("a"))  # and no more: an error in the consumer
    assert num_threads() == 1
    ahead.close()
    assert (num_threads(), ahead._room.left) == (0, 2)
    assert list(ahead.items("b")) == [("b", n) for n in range(3)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_thread_whose_reader_was_interrupted_as_it_began_ends_with_the_reader(monkeypatch, when):
    start = threading.Thread.start

    def interrupted(thread):
        if when == "after":
            start(thread)
        raise KeyboardInterrupt

    source = Source(num=1000)
    ahead = ReadAhead(source, 2)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(ahead.items("a"))
    ahead.close()
    assert num_threads() == 0


def test_an_error_in_the_consumer_stops_the_thread():
    ahead = ReadAhead(Source(num=1000), 2)

    def consume():
        for item in ahead.items("a"):
            raise KeyError(item)

    with pytest.raises(KeyError):
        consume()
    assert num_threads() == 0


def test_depth_must_hold_an_item():
    with pytest.raises(ValueError, match="depth is 0"):
        ReadAhead(Source(), 0)
