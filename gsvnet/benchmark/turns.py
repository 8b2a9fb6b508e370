"""Seconds of several ways to do the same, run in turns: a change of the machine's pace meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Seconds by name, one for each round. wall: as the clock on the wall. cpu: of all threads of this process."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]


def measure_in_turns(runs: Mapping[str, Callable[[], Any]], *, rounds: int = 3, warm_up: int = 1) -> Turns:
    """Wall and CPU seconds of every run, round by round (a, b, a, b, ...), after `warm_up` rounds that do not count.

    A run on a GPU waits for the device before it returns.
    """
    assert rounds >= 1, "nothing would be measured"
    turns = Turns(wall={name: [] for name in runs}, cpu={name: [] for name in runs})
    for number in range(-warm_up, rounds):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if number >= 0:
                turns.wall[name].append(time.perf_counter() - wall)
                turns.cpu[name].append(time.process_time() - cpu)
    return turns


def time_in_turns(
    runs: Mapping[str, Callable[[], Any]], *, rounds: int = 3, warm_up: int = 1
) -> dict[str, list[float]]:
    """Wall seconds of every run, round by round: the first half of `measure_in_turns`."""
    return measure_in_turns(runs, rounds=rounds, warm_up=warm_up).wall


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The middle of each list of seconds."""
    return {name: median(values) for name, values in seconds.items()}
