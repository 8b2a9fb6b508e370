"""Faults on purpose, one after another, chosen by a seeded die. Each is over before or soon after the next begins."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.clusters import QUICK_CHECKS, RayCluster, RunningNode
from tests.disks import fill
from tests.soak.job import RepeatedJob
from tests.soak.proxy import FAIR, FaultyProxy, Weather

CHECKS = QUICK_CHECKS | {"health_check_timeout_ms": 3000}  # a node that gets little of a busy machine is not dead
GIVEN_UP_S = 10.0  # after about so long a node that is held is: three checks
SETTLED_S = 12.0  # a driver gets so long to start, before it may be killed again

WEIGHTS = {
    "actor killed": 5,
    "actor frozen": 2,
    "node killed": 2,
    "node frozen": 1,
    "node cut off": 2,
    "driver killed": 2,
    "driver told to stop": 1,
    "store throttles": 2,
    "store fails": 2,
    "store cuts answers": 2,
    "store loses answers": 2,
    "store is slow": 1,
    "store is down": 1,
    "spool disk full": 1,
}
WEATHERS = {
    "store throttles": Weather(throttled=0.4),
    "store fails": Weather(failing=0.3),
    "store cuts answers": Weather(cut=0.3),
    "store loses answers": Weather(answer_lost=0.3),
    "store is slow": Weather(delay_s=0.4),
    "store is down": Weather(is_down=True),
}


class Chaos:
    """Injects faults in a thread until it is stopped. counts: of what was done. num_hit: actors that were exposed.

    spool_disk: a small disk of its own that may be filled, or None. can_cut: nodes are apart.
    """

    def __init__(
        self,
        *,
        cluster: RayCluster,
        proxy: FaultyProxy,
        job: RepeatedJob,
        spool_disk: Path | None,
        can_cut: bool,
        seed: int,
        pause_s: tuple[float, float],
    ) -> None:
        self.cluster, self.proxy, self.job, self.spool_disk = cluster, proxy, job, spool_disk
        self.counts, self.num_hit, self.errors = Counter[str](), 0, list[str]()
        self._random, self._pause_s = random.Random(seed), pause_s
        self._num_nodes, self._usual = len(cluster.nodes), cluster.nodes[-1].node
        self._fair_again_s = 0.0
        self._held: RunningNode | None = None  # the last one: its actors are counted in num_hit already
        self._faults: dict[str, Callable[[], bool]] = {
            "actor killed": self._kill_actor,
            "actor frozen": self._freeze_actor,
            "node killed": self._kill_node,
            "node frozen": lambda: self._hold_node(cluster.stop, cluster.cont),
            "driver killed": lambda: self._end_driver(signal.SIGKILL),
            "driver told to stop": lambda: self._end_driver(signal.SIGTERM),
            **{name: lambda weather=weather: self._change(weather) for name, weather in WEATHERS.items()},  # type: ignore[misc]
        }
        if can_cut:
            self._faults["node cut off"] = lambda: self._hold_node(cluster.cut, cluster.mend)
        if spool_disk is not None:
            self._faults["spool disk full"] = self._fill_spool
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def left_out(self) -> list[str]:
        """Faults that cannot be had here."""
        return sorted(WEIGHTS.keys() - self._faults.keys())

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the fault that is under way; the store is well again and all nodes are up."""
        self._end.set()
        self._thread.join()
        self.proxy.weather = FAIR
        self._heal()

    def _run(self) -> None:
        todo: list[str] = []
        while not self._end.wait(self._random.uniform(*self._pause_s)):
            if time.monotonic() > self._fair_again_s:
                self.proxy.weather = FAIR
            try:
                self._heal()
                todo = todo or self._draw()
                name = next((name for name in todo if self._faults[name]()), None)
            except Exception:  # the soak goes on without this fault, and says so
                self.errors.append(traceback.format_exc())
                todo = todo[1:]
                continue
            if name is not None:
                todo.remove(name)
                self.counts[name] += 1

    def _draw(self) -> list[str]:
        """A round of faults in random order, the likelier more often."""
        names = [name for name in self._faults for _ in range(WEIGHTS[name])]
        self._random.shuffle(names)
        first = list(dict.fromkeys(names))  # at the beginning each kind once
        return names if self.counts else first

    def _heal(self) -> None:
        """As many nodes as in the beginning: those that died come back. What was on one that died by itself is hit."""
        for node in [node for node in self.cluster.nodes if not _is_up(node)]:
            self.num_hit += 0 if node is self._held else node.node.cpus
            self.cluster.kill(node)
        while len(self.cluster.nodes) < self._num_nodes:
            self._add_node()

    def _add_node(self) -> None:
        """Start one more node, in three tries: on a busy machine one may take too long, or find a port taken."""
        for is_last in (False, False, True):
            try:
                self.cluster.add(self._usual)
            except RuntimeError:
                self.cluster.kill(self.cluster.nodes[-1])
                if is_last:
                    raise
            else:
                return

    def _some_actor(self) -> psutil.Process | None:
        actors = self.cluster.actors()
        return self._random.choice(actors) if actors else None

    def _some_node(self) -> RunningNode:
        node = self._random.choice(self.cluster.nodes[1:])
        self.num_hit += len(node.actors())
        return node

    def _kill_actor(self) -> bool:
        actor = self._some_actor()
        if actor is None:
            return False
        self.num_hit += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            actor.kill()
        return True

    def _freeze_actor(self) -> bool:
        actor = self._some_actor()
        if actor is None:
            return False
        self.num_hit += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            actor.suspend()
            self._end.wait(self._random.uniform(1, 6))
            actor.resume()
        return True

    def _kill_node(self) -> bool:
        self.cluster.kill(self._some_node())
        self._end.wait(self._random.uniform(0, 4))
        return True

    def _hold_node(self, hold: Callable[[RunningNode], None], let_go: Callable[[RunningNode], None]) -> bool:
        """Hold a node for some seconds; when that was long enough to be given up, it dies by itself soon after."""
        self._held = node = self._some_node()
        hold(node)
        try:
            self._end.wait(self._random.uniform(1, 2 * GIVEN_UP_S))
        finally:
            let_go(node)
        self._end.wait(3)
        return True

    def _end_driver(self, number: int) -> bool:
        if self.job.age_s < SETTLED_S or not self.cluster.actors():
            return False
        self.num_hit += len(self.cluster.actors())
        return self.job.send(number)

    def _change(self, weather: Weather) -> bool:
        """Another weather for some seconds; other faults may come meanwhile."""
        self.proxy.weather = weather
        self._fair_again_s = time.monotonic() + self._random.uniform(2, 8)
        return True

    def _fill_spool(self) -> bool:
        assert self.spool_disk is not None
        with fill(self.spool_disk):
            self._end.wait(self._random.uniform(2, 6))
        return True


def _is_up(node: RunningNode) -> bool:
    with contextlib.suppress(psutil.Error):  # it may end between the two questions
        return node.process.is_running() and node.process.status() != psutil.STATUS_ZOMBIE
    return False
