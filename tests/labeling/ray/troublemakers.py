"""A stand-in worker that sleeps, dies or raises as told, and what tests look for in a run's events."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from gsvnet.errors import NoSpace, NotAVideo, StoreUnavailable
from gsvnet.labeling.tasks import ShardResult


@dataclass(frozen=True, kw_only=True)
class FakeSpec:
    """Builds FakeWorkers. trouble: shard index -> what happens; "<trouble> once": only the first time.

    meet: no shard goes on before so many processes have begun one.
    """

    folder: Path
    seconds: float = 0.0
    trouble: dict[int, str] = field(default_factory=dict)
    one_hash_per_process: bool = False
    published: bool = True
    meet: int = 1

    def build(self, weights, *, device, num_threads):
        if weights == "unbuildable":
            raise RuntimeError("no such layer: stem")
        if weights == "unreachable once" and not self.folder.with_suffix(".met").exists():
            self.folder.with_suffix(".met").touch()
            raise StoreUnavailable("503 SlowDown")
        return FakeWorker(self, f"{weights}-{os.getpid()}" if self.one_hash_per_process else weights)


class FakeWorker:
    notes = ()

    def __init__(self, spec, model_hash):
        self.spec, self.model_hash = spec, model_hash

    def prepare(self, task):
        self.spec.folder.with_suffix(f".prepared{task.shard.index}").touch()

    def __call__(self, task):
        index = task.shard.index
        started = self.spec.folder / f"{index}.{os.getpid()}.{time.monotonic_ns()}"
        was_tried = any(self.spec.folder.glob(f"{index}.*"))
        started.touch()
        assert wait_until(lambda: len(pids_in(self.spec.folder)) >= self.spec.meet, 120), "nobody came"
        trouble = self.spec.trouble.get(index, "")
        if not (trouble.endswith("once") and was_tried):
            cause_trouble(trouble.removesuffix(" once"), task)
        time.sleep(self.spec.seconds)
        return ShardResult(
            video_id=task.video.id,
            shard_index=index,
            num_frames=10,
            num_lost=0,
            num_keyframes=2,
            num_bytes=1,
            media_s=1.0,
            seconds={},
            published=self.spec.published,
        )


def cause_trouble(trouble, task):
    if trouble == "kill":
        time.sleep(0.1)  # so that the answer before is on its way
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble == "hang":
        time.sleep(60)
    if trouble == "raise":
        raise ValueError(f"cannot use {task.uri}")
    if trouble == "video":
        raise NotAVideo("no video stream", uri=task.video.uri)
    if trouble == "space":
        raise NoSpace("2 GB are free")
    if trouble == "outage":
        raise StoreUnavailable("503 SlowDown")


def of_type(events, kind):
    return [e for e in events if isinstance(e, kind)]


def done(events):
    return sorted(e.shard_index for e in of_type(events, ShardResult))


def pids_in(folder):
    """The processes that have begun shards."""
    return {path.name.split(".")[1] for path in folder.iterdir()}


def num_starts(folder, index):
    return len(list(folder.glob(f"{index}.*")))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=60.0):
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.02)
    return condition()
