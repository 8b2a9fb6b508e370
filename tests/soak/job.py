"""The job under test: `gsvnet label` in a process of its own, started again with the same command until it is done."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

LABEL = (sys.executable, "-m", "gsvnet.cli", "label")


class RepeatedJob:
    """Runs one job after the other. exits: how its processes ended, by exit code (negative: by signal).

    Any thread may `kill` or `terminate` the process that runs at the moment.
    """

    def __init__(self, *, environment: Mapping[str, str], log_folder: Path) -> None:
        self.exits, self.num_started = Counter[int](), 0
        self._environment, self._log_folder = dict(environment), log_folder
        self._process: subprocess.Popen | None = None
        self._started_s = 0.0
        self._lock = threading.Lock()

    @property
    def age_s(self) -> float:
        """Seconds since the process started that runs now; 0 where none runs."""
        process = self._process
        return time.monotonic() - self._started_s if process is not None and process.poll() is None else 0.0

    def finish(self, arguments: Sequence[str], *, limit_s: float) -> bool:
        """Start the job until it exits with 0; whether it did before `time.monotonic()` was `limit_s`."""
        retry: tuple[str, ...] = ()
        while time.monotonic() < limit_s:
            code = self._run([*LABEL, *arguments, *retry], limit_s)
            if code == 0:
                return True
            retry = ("--retry-failed",) if code == 3 else ()
        return False

    def _run(self, command: Sequence[str], limit_s: float) -> int:
        with (self._log_folder / f"driver{self.num_started:03d}.log").open("wb") as log, self._lock:
            self._process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._started_s = time.monotonic()
        self.num_started += 1
        try:
            code = self._process.wait(timeout=max(1.0, limit_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            code = self._process.wait()
        self.exits[code] += 1
        return code

    def send(self, number: int) -> bool:
        """Send a signal to the running process; whether there was one."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            self._process.send_signal(number)
            return True

    def num_said(self, words: str, *, but_not: str) -> int:
        """Lines of all logs in which some words stand and others do not."""
        lines = [line for log in self._log_folder.glob("driver*.log") for line in _lines(log)]
        return sum(words in line and but_not not in line for line in lines)


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


class SpoolWatch:
    """Counts shards that were begun: each has a spool file with a name of its own. Looks every 20 ms, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.names: set[str] = set()
        self._folder, self._end = folder, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SpoolWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            with contextlib.suppress(OSError):
                self.names.update(path.name for path in self._folder.glob(".gsvnet-*"))
