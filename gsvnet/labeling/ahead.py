"""Decoding ahead: batches are made in a thread before they are asked for, also those of the shard that comes next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key")


class ReadAhead(Generic[Key, Item]):
    """The items of one key after the other, made by `make(key)` in threads of their own.

    At most `depth` items are being made or wait, over all keys together, so that two shards take no more memory than
    one. A key's items are begun when the items before are all made.
    """

    def __init__(self, make: Callable[[Key], Iterable[Item]], depth: int) -> None:
        if depth < 1:
            raise ValueError(f"depth is {depth}; at least 1 item must be held")
        self._make, self._room = make, _Room(depth)
        self._lock = threading.Lock()
        self._running: Key | None = None
        self._next: Key | None = None
        self._prepared: tuple[Key, _Stream[Item]] | None = None
        self._streams: list[_Stream[Item]] = []  # that may still be running

    def prepare(self, key: Key) -> None:
        """Begin with `key` as soon as the items before are made, or when they are asked for. Any thread may call."""
        with self._lock:
            if key == self._running:  # said too late
                return
            self._next = key
            if self._running is not None:
                self._start_next()

    def items(self, key: Key) -> Generator[Item, None, None]:
        """The items of `key` in order. Errors arrive where the item would have. Close the generator to stop early."""
        with self._lock:
            stream, self._running = self._take(key), key
            self._start_next()
        try:
            yield from stream
        finally:
            with self._lock:
                self._running = None
            stream.close()

    def close(self) -> None:
        """Throw away what was prepared, which would wait forever to be asked for. Not while items are being read.

        Waits for all threads, also for one whose reader was interrupted as it began: one that still runs when Python
        ends would take the process down with it (torch is not made for that).
        """
        with self._lock:
            self._prepared = self._next = None
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.close()

    def _take(self, key: Key) -> _Stream[Item]:
        """What was prepared if it is of this key; else it is thrown away, or its items would take all the room."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[0] == key:
            return prepared[1]
        if prepared is not None:
            prepared[1].close()
        return self._start(key)

    def _start_next(self) -> None:
        if self._next is not None and self._next != self._running and self._prepared is None:
            self._prepared = self._next, self._start(self._next)
        self._next = None

    def _start(self, key: Key) -> _Stream[Item]:
        self._streams = [stream for stream in self._streams if not stream.ended]
        after = self._streams[-1].thread if self._streams else None
        stream = _Stream(lambda: self._make(key), room=self._room, after=after)
        self._streams.append(stream)  # before it starts: an interrupt may come while it does
        stream.thread.start()
        return stream


class _Room:
    """How many items may be held, and the condition under which that is counted."""

    def __init__(self, depth: int) -> None:
        self.left, self.changed = depth, threading.Condition()


class _Stream(Generic[Item]):
    """The items of one iterable, made in a daemon thread. Once started it begins when the thread `after` has ended."""

    def __init__(self, make: Callable[[], Iterable[Item]], *, room: _Room, after: threading.Thread | None) -> None:
        self._make, self._room, self._after = make, room, after
        self._items: deque[Item] = deque()
        self.ended = self._closed = False
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._produce, name="gsvnet-decode", daemon=True)

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._room.changed:
                self._room.changed.wait_for(lambda: self._items or self.ended)
                if not self._items:
                    break
                item = self._items.popleft()
                self._give_room(1)
            yield item
            del item  # the next one is waited for without holding this one
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop at the next item, close the iterable and wait for both; what was made is dropped."""
        with self._room.changed:
            self._closed = True
            self._room.changed.notify_all()
        with suppress(RuntimeError):  # never started
            self.thread.join()
        with self._room.changed:
            self._give_room(len(self._items))
            self._items.clear()

    def _produce(self) -> None:
        if self._after is not None:
            self._after.join()
            self._after = None
        source: Iterator[Item] | None = None
        try:
            while self._has_room():
                source = source or iter(self._make())
                self._hand_over(next(source))
        except BaseException as error:
            self._error = None if isinstance(error, StopIteration) else error
            with self._room.changed:
                self._give_room(1)
        finally:
            getattr(source, "close", lambda: None)()
            with self._room.changed:
                self.ended = True
                self._room.changed.notify_all()

    def _has_room(self) -> bool:
        """True when another item may be made; False when nobody wants it any more."""
        with self._room.changed:
            self._room.changed.wait_for(lambda: self._room.left > 0 or self._closed)
            if self._closed:
                return False
            self._room.left -= 1
            return True

    def _hand_over(self, item: Item) -> None:
        with self._room.changed:
            self._items.append(item)
            self._room.changed.notify_all()

    def _give_room(self, count: int) -> None:
        self._room.left += count
        self._room.changed.notify_all()
