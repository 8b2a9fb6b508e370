"""What the product makes of one video: planned and decoded in one go and in pieces, in a process that may die."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsvnet.errors import StoreError, VideoError
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.process import limited_memory
from gsvnet.video.decode import Frame, read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.motion import read_motion
from tests.video.media import read_number

MOST_CPU_S, LONGEST_S = 60, 240  # others may want the cores
PLANNING_BYTES = 1792 << 20  # as `labeling/ray/plan.py` gives to a planning task
_VIEW = View(72, 96)
_PIECE, _MOST_PIECES, _LARGE_PX = 7, 12, 10_000_000
_MOST_FRAMES = 2000  # that are told one by one
_RULE = PlanRule(interval=5, shard_seconds=0.7, shard_frames=20, motion="auto")

Seen = tuple[str, int, str]  # status, the number that the picture shows, a digest of its pixels


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a video. refused: by which error, and what it said; crash: an error that is none of ours.

    frames, in_pieces: by pts, as far as `_MOST_FRAMES`; num_frames: of the plan. peak_mib: of the process.
    """

    frames: dict[int, Seen]
    in_pieces: dict[int, Seen]
    num_frames: int
    refused: str = ""
    crash: str = ""
    peak_mib: int = 0
    planning_mib: int = 0
    seconds: float = 0.0


def look_at_all(paths: Iterable[Path], *, num_processes: int) -> Iterator[tuple[Path, Look]]:
    """A look at each file, each in a process of its own, as they come in. Call it where no thread runs yet."""
    waiting, running = iter(paths), dict[int, tuple[Path, Path, float]]()
    while True:
        for path in waiting:
            answer = path.with_name(path.name + ".json")
            running[_start(path, answer)] = path, answer, time.monotonic()
            if len(running) >= num_processes:
                break
        if not running:
            return
        process, status, usage = os.wait4(-1, 0)
        path, answer, since_s = running.pop(process)
        yield path, _receive(answer, status, usage.ru_maxrss // 1024, time.monotonic() - since_s)


def _start(path: Path, answer: Path) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))  # these end the process,
        signal.setitimer(signal.ITIMER_REAL, LONGEST_S)  # also in the middle of FFmpeg
        answer.write_text(json.dumps(_look(str(path))))
        code = 0
    finally:
        os._exit(code)


def _receive(answer: Path, status: int, peak_mib: int, seconds: float) -> Look:
    found = {"frames": {}, "in_pieces": {}, "num_frames": 0}
    died = ""
    if os.WIFSIGNALED(status):
        signal_number = os.WTERMSIG(status)
        hung = signal_number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL)
        died = "hung" if hung else f"killed by {signal.Signals(signal_number).name}"
    elif status:
        died = f"ended with {status}"
    if answer.exists() and not died:
        found = json.loads(answer.read_text())
        for name in ("frames", "in_pieces"):
            found[name] = {int(pts): tuple(seen) for pts, seen in found[name].items()}
    with suppress(FileNotFoundError):
        answer.unlink()
    return Look(**found | {"crash": died or found.get("crash", ""), "peak_mib": peak_mib, "seconds": seconds})


def _look(path: str) -> dict:
    answer: dict = {"frames": {}, "in_pieces": {}, "num_frames": 0}
    try:
        warnings.simplefilter("error")
        with limited_memory(PLANNING_BYTES):
            plan = plan_video(path, rule=_RULE)
            pts = index_video(path).pts
        answer |= {"num_frames": plan.video.num_frames, "planning_mib": _peak_mib()}
        assert len(pts) == plan.video.num_frames
        answer["frames"] = _see(_read(path, pts, 0, len(pts)))
        if plan.video.height * plan.video.width > _LARGE_PX:  # these take a second each
            return answer | {"in_pieces": answer["frames"]}
        size = max(_PIECE, len(pts) // _MOST_PIECES | 1)
        for start in range(0, len(pts), size):
            answer["in_pieces"] |= _see(_read(path, pts, start, min(start + size, len(pts))))
        _follow_motion(path, pts)
    except (VideoError, StoreError, MemoryError) as error:
        answer["refused"] = f"{type(error).__name__}: {error}"
    except BaseException:
        answer["crash"] = traceback.format_exc()
    return answer


def _read(path: str, pts: np.ndarray, start: int, stop: int) -> Iterator[Frame]:
    """The frames of a range, all that were planned; others only behind the last one, for headers lie."""
    end_pts = int(pts[stop]) if stop < len(pts) else None
    frames = read_frames(
        path, first_frame=start, start_pts=int(pts[start]), end_pts=end_pts, views=lambda index: (_VIEW,)
    )
    index, others = start, 0
    for frame in frames:
        assert frame.index == index, "indices have no gap"
        others += index < len(pts) and frame.pts != pts[index]
        index += 1
        yield frame
    if index != stop and not (index > stop and end_pts is None):
        raise StoreError(f"{index - start} rows where {stop - start} were planned")  # as the writer of a shard does
    assert not others or end_pts is None, f"{others} rows have other times than was planned"


def _follow_motion(path: str, pts: np.ndarray) -> None:
    """Read the codec's vectors of some frames in the middle, where it has any."""
    first, stop = len(pts) // 2, min(len(pts) // 2 + 10, len(pts) - 1)
    motions = read_motion(path, first_frame=first, start_pts=int(pts[first]), end_pts=int(pts[stop]), max_distance=3)
    assert [motion.pts for motion in motions] == pts[first:stop].tolist()


def _see(frames: Iterable[Frame]) -> dict[int, Seen]:
    seen: dict[int, Seen] = {}
    for frame in frames:
        if len(seen) < _MOST_FRAMES:
            digest, number = "", -1
            if not frame.is_lost:
                image = frame.images[0]
                digest, number = hashlib.sha1(image.tobytes()).hexdigest()[:12], read_number(image)
            seen[frame.pts] = frame.status, number, digest
    return seen


def _peak_mib() -> int:
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0
