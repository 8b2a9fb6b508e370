"""Runs alternate, warm-up does not count, medians are medians."""

from __future__ import annotations

from gsvnet.benchmark import turns


class _Clock:
    """A clock that only the runs move: wall seconds, and CPU seconds at twice that (two threads)."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 2 * self.now


def measure(monkeypatch, seconds: dict[str, list[float]], **options):
    clock, calls = _Clock(), []
    monkeypatch.setattr(turns, "time", clock)

    def take(name: str) -> None:
        calls.append(name)
        clock.now += seconds[name][calls.count(name) - 1]

    runs = {name: (lambda name=name: take(name)) for name in seconds}
    return turns.measure_in_turns(runs, **options), calls


def test_runs_alternate_and_the_warm_up_does_not_count(monkeypatch):
    measured, calls = measure(monkeypatch, {"a": [8.0, 1.0, 2.0], "b": [16.0, 4.0, 0.5]}, rounds=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert measured.wall == {"a": [1.0, 2.0], "b": [4.0, 0.5]}


def test_cpu_seconds_stand_beside_wall_seconds(monkeypatch):
    measured, _ = measure(monkeypatch, {"a": [1.0]}, rounds=1, warm_up=0)
    assert (measured.wall, measured.cpu) == ({"a": [1.0]}, {"a": [2.0]})


def test_medians():
    assert turns.medians({"a": [3.0, 1.0, 8.0], "b": [2.0, 4.0]}) == {"a": 3.0, "b": 3.0}
