"""Where a job stands, from its output alone: no Ray, no network, nothing of the run that may be at work."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from gsvnet.chunks import shard_name
from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.store.committed import Committed
from gsvnet.store.filesystem import StorageOptions, read_bytes
from gsvnet.store.job import FailureRecord, list_failures, list_plans, read_job, read_plan
from gsvnet.store.json_object import read_json
from gsvnet.store.layout import SUCCESS, derived_uri, list_label_pages, split_shard_path
from gsvnet.store.read import open_labels
from gsvnet.uris import redact_uri
from gsvnet.words import interval_in_words

READING_THREADS = 32
SPEED_OVER_S = 3600.0
AT_WORK_S = 900.0  # without a new label for so long, nobody seems to be at work


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What an output holds, of all runs.

    videos, shards, frames: planned so far. ..._done: with labels. num_failed: shards and videos given up; failures: the
    first 1,000. complete: nothing is missing (`_SUCCESS`). frames_per_s: over the last hour in which labels appeared,
    by the objects' times; None where these are too few to tell. quiet_s: since the last label. last_exit_code: of the
    last run that wrote a report. copy_of: the output that `gsvnet compact` copied.
    """

    out: str
    fingerprint: str
    model_hash: str
    family: str
    keyframe_interval: int
    interval_text: str
    videos: int
    videos_done: int
    shards: int
    shards_done: int
    frames: int
    frames_done: int
    label_bytes: int
    num_failed: int
    failures: tuple[FailureRecord, ...]
    complete: bool
    frames_per_s: float | None
    quiet_s: float | None
    last_exit_code: int | None
    copy_of: str | None = None

    @property
    def at_work(self) -> bool:
        """Labels appeared lately, and some are missing that no run which ended has given up."""
        has_ended = self.last_exit_code is not None and self.shards_done + self._num_given_up >= self.shards
        is_open = self.copy_of is None and not self.complete and not has_ended
        return is_open and self.quiet_s is not None and self.quiet_s < AT_WORK_S

    @property
    def to_go_s(self) -> float | None:
        """Seconds that the frames missing of the planned videos take at this speed; None where nobody is at work.

        A shard that was given up counts as one of mean length.
        """
        if not self.at_work or not self.frames_per_s:
            return None
        given_up = self._num_given_up * self.frames / max(1, self.shards)
        return max(0.0, self.frames - self.frames_done - given_up) / self.frames_per_s

    @property
    def _num_given_up(self) -> int:
        return sum(failure.shard is not None for failure in self.failures)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form with the derived figures."""
        return asdict(self) | {"at_work": self.at_work, "to_go_s": self.to_go_s}


def read_status(out: str, storage_options: StorageOptions = None, *, now: float | None = None) -> JobStatus:
    """Read an output's status: one listing of labels, plans and failures each, and one request per plan and failure.

    now: seconds since 1970, else the clock's. Raises StoreError when there is no output of this program.
    """
    job = read_job(out, storage_options)
    labels = _read_labels(out, storage_options)
    copied = job.compacted is not None
    plans = _read_copied(out, storage_options) if copied else _read_plans(out, storage_options, labels.committed)
    complete_videos = {plan.video for plan in plans if plan.shards_done == plan.shards}
    failures = list_failures(out, storage_options, committed=labels.committed, complete_videos=complete_videos)
    shards_done, frames_done = sum(p.shards_done for p in plans), sum(p.frames_done for p in plans)
    shards_per_s = None if copied else measure_speed(labels.times.tolist())
    settings = job.fields.get("model_settings")
    now = time.time() if now is None else now
    return JobStatus(
        out=redact_uri(out),
        fingerprint=job.fingerprint,
        model_hash=job.model_hash,
        family=str(settings.get("family", "")) if isinstance(settings, dict) else "",
        keyframe_interval=int(job.fields.get("keyframe_interval", 0)),
        interval_text=interval_in_words(job.fields),
        videos=len(plans),
        videos_done=len(complete_videos),
        shards=sum(plan.shards for plan in plans),
        shards_done=shards_done,
        frames=sum(plan.frames for plan in plans),
        frames_done=frames_done,
        label_bytes=labels.num_bytes,
        num_failed=len(failures),
        failures=tuple(failures[:1000]),
        complete=read_bytes(derived_uri(out, SUCCESS), storage_options) is not None,
        frames_per_s=shards_per_s * frames_done / shards_done if shards_per_s and shards_done else None,
        quiet_s=max(0.0, now - max(labels.times)) if labels.times else None,
        last_exit_code=_read_exit_code(out, storage_options),
        copy_of=str(job.compacted.get("source")) if job.compacted is not None else None,
    )


def measure_speed(times: Sequence[float]) -> float | None:
    """Shards per second over the last hour before the newest; None for fewer than two moments.

    The first one in that hour only starts the clock: when it was begun is not known.
    """
    newest = max(times, default=0.0)
    recent = sorted(t for t in times if t >= newest - SPEED_OVER_S)
    return (len(recent) - 1) / (newest - recent[0]) if recent and newest > recent[0] else None


@dataclass(frozen=True, kw_only=True)
class _Labels:
    """Eight bytes and a bit per shard. times: when each object appeared, in seconds since 1970."""

    committed: Committed
    times: array
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    video: str
    shards: int
    frames: int
    shards_done: int
    frames_done: int


def _read_labels(out: str, storage_options: StorageOptions) -> _Labels:
    committed, times, num_bytes = Committed(), array("d"), 0
    for page in list_label_pages(out, storage_options):
        for file in page:
            committed.add(*split_shard_path(file.path))
            times.append(file.modified)
            num_bytes += file.size
    return _Labels(committed=committed, times=times, num_bytes=num_bytes)


def _read_plans(out: str, storage_options: StorageOptions, committed: Committed) -> list[_Plan]:
    def read(video: str) -> _Plan | None:
        plan = read_plan(out, video, storage_options)
        if plan is None:
            return None
        try:
            frames = [int(shard["num_frames"]) for shard in plan["shards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the stored plan of {video} is not of this version: {error!r}") from error
        done = [number for index, number in enumerate(frames) if committed.has(video, index)]
        return _Plan(video=video, shards=len(frames), frames=sum(frames), shards_done=len(done), frames_done=sum(done))

    with ThreadPoolExecutor(READING_THREADS) as pool:
        return [plan for plan in pool.map(read, list_plans(out, storage_options)) if plan is not None]


def _read_copied(out: str, storage_options: StorageOptions) -> list[_Plan]:
    """What is planned and there of each video of a compacted output, by its plans and footers."""
    labels = open_labels(out, storage_options)
    sources = {video: labels.sources(video) for video in labels.videos}
    shards = {(video, shard_name(source.footer.shard)) for video, found in sources.items() for source in found}
    plans = _read_plans(out, storage_options, Committed(shards))
    for video in sources.keys() - {plan.video for plan in plans}:
        num_frames, num_shards = sum(source.num_rows for source in sources[video]), len(sources[video])
        plans.append(
            _Plan(video=video, shards=num_shards, frames=num_frames, shards_done=num_shards, frames_done=num_frames)
        )
    return plans


def _read_exit_code(out: str, storage_options: StorageOptions) -> int | None:
    try:
        data = read_json(derived_uri(out, "_report.json"), storage_options)
        return None if data is None else int(data["exit_code"])
    except (CorruptLabels, ValueError, KeyError, TypeError):
        return None
