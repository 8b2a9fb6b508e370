"""An iterator that is read without waiting: its items are made in a thread while the reader does other things."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
_LOOK_EVERY_S, _PEEK_EVERY_S = 0.2, 0.02
_END_S = 5.0
_END = object()


def without_waiting(items: Iterable[Item], *, most: int) -> Generator[Item | None, None, None]:
    """The same items in order, with None wherever the next one is not made yet. An error arrives where it happened.

    most: items made before they are asked for. Close the generator to stop early.
    """
    made: queue.Queue = queue.Queue(maxsize=most)
    closed = threading.Event()

    def hand_over(item: object) -> bool:
        while not closed.is_set():
            try:
                made.put(item, timeout=_LOOK_EVERY_S)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not hand_over(item):
                    return
            hand_over(_END)
        except BaseException as error:
            hand_over(_Failed(error))
        finally:
            getattr(items, "close", lambda: None)()

    thread = threading.Thread(target=make, name="gsvnet-feed", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = made.get_nowait()
            except queue.Empty:
                yield None
                continue
            if item is _END:
                return
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        closed.set()
        thread.join(timeout=_END_S)  # what it uses may be gone soon; it hears of the end with its next item


class _Failed:
    """What the thread raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Peekable(Iterator[Item | None]):
    """An iterator whose first item can be looked at before it is taken. None among the items means: not made yet."""

    def __init__(self, items: Iterator[Item | None]) -> None:
        self._items = items
        self._first: Item | None = None

    def __next__(self) -> Item | None:
        first, self._first = self._first, None
        return next(self._items) if first is None else first

    def peek(self, *, stop: threading.Event) -> Item | None:
        """The first item, waited for; None where there is none, or once `stop` is set."""
        while self._first is None and not stop.is_set():
            try:
                self._first = next(self._items)
            except StopIteration:
                return None
            if self._first is None:
                stop.wait(_PEEK_EVERY_S)
        return self._first
