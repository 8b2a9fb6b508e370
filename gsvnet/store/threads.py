"""Many pieces of work by a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(work: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int) -> Iterator[Result]:
    """`work` of each item, in their order; few are under way or wait to be fetched. The first error ends all."""
    left = iter(items)
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(left, 2 * num_threads))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(left, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
