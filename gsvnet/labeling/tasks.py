"""What travels between the driver and its workers: a shard to label, and what became of it.

Everything here is small, picklable and free of heavy imports. A worker is a plain callable; `gsvnet.labeling.local`
calls it in this process, `gsvnet.labeling.ray` in actors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from gsvnet.choices import MotionSource
from gsvnet.chunks import Shard, Video
from gsvnet.errors import (
    ConfigError,
    GsvnetError,
    NoSpace,
    NotNumbers,
    SourceUnavailable,
    StoreUnavailable,
    VideoError,
    WorkerError,
)
from gsvnet.uris import hide_secrets, redact_uri

Device = Literal["cpu", "cuda"]
ErrorKind = Literal["video", "store", "outage", "space", "fatal", "other"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """Frames [first_frame, ...) with start_pts <= pts < end_pts (None: to the end) that have to be decoded."""

    first_frame: int
    start_pts: int
    end_pts: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardMotion:
    """Where the motion of a shard's frames comes from: the video's codec, or a proxy's that encodes its small images.

    max_distance: how many frames away the codec's references lie.
    """

    source: MotionSource
    max_distance: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """One shard to label. uri: as the user gave it, with credentials and query; never shown or stored.

    motion: as planned; None: planned for a network that reads none. A network that does then gets a proxy's.
    reach: what has to be decoded, where that is more than the shard and the frame after it: around it are frames that
    its own motion leads to, or that the network looks at. None: planned for a network to which none of this matters.
    widened: the shard with chunks of its neighbours, whose labels its own are smoothed with; None: they are not.
    """

    video: Video
    shard: Shard
    uri: str = field(repr=False)
    motion: ShardMotion | None = None
    reach: Reach | None = None
    widened: Shard | None = None


@dataclass(frozen=True, kw_only=True)
class DriftFigures:
    """How far chunks agree with the keyframes after them, over all that were measured.

    sum_agreement: of num_chunks; each is a share of the propagation grid, 0..1. least: the lowest, None without any;
    least_video, least_frame, least_s: id, frame index and seconds of the keyframe that begins that chunk. num_below: of
    the chunks, those below the job's --min-agreement.
    """

    num_chunks: int = 0
    sum_agreement: float = 0.0
    least: float | None = None
    least_video: str = ""
    least_frame: int = 0
    least_s: float = 0.0
    num_below: int = 0

    @property
    def agreement(self) -> float | None:
        """Mean over the chunks; None without any."""
        return self.sum_agreement / self.num_chunks if self.num_chunks else None

    @property
    def below_share(self) -> float:
        """Of the chunks, the share below --min-agreement."""
        return self.num_below / self.num_chunks if self.num_chunks else 0.0

    def __add__(self, other: DriftFigures) -> DriftFigures:
        lowest = min((x for x in (self, other) if x.least is not None), key=DriftFigures._place, default=self)
        return replace(
            lowest,
            num_chunks=self.num_chunks + other.num_chunks,
            sum_agreement=self.sum_agreement + other.sum_agreement,
            num_below=self.num_below + other.num_below,
        )

    def _place(self) -> tuple[float, str, int]:
        """By which the lowest is found: of equal ones the first video's first."""
        assert self.least is not None
        return self.least, self.least_video, self.least_frame


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """A labeled shard. Returned by value, so it stays small.

    num_frames: rows. num_lost, num_damaged: rows with status decode_error, damaged. num_bytes: of the Parquet object.
    media_s: seconds of video labeled. seconds: stage (decode, segment, upsample, encode, write, total) -> busy seconds;
    for networks that read motion also how much of decode was spent on it (motion), and smooth, where labels are.
    core_seconds: the same of processor time; total is the whole process's, which is more than its stages know of.
    published: False when another attempt was first: this one's copy was thrown away, or, where the object was there
    before work began, nothing was done, num_frames is the planned number, num_keyframes and num_bytes are 0.
    drift: of its chunks, where that is measured.
    notes: what a person should know though nothing failed (out of memory once, another decoder than asked for).
    node, gpu: address and GPU index of the actor that labeled it, "" where there is none.
    """

    video_id: str
    shard_index: int
    num_frames: int
    num_lost: int
    num_keyframes: int
    num_bytes: int
    media_s: float
    seconds: dict[str, float]
    published: bool
    core_seconds: dict[str, float] = field(default_factory=dict)
    drift: DriftFigures = field(default_factory=DriftFigures)
    num_damaged: int = 0
    notes: tuple[str, ...] = ()
    node: str = ""
    gpu: str = ""


@dataclass(frozen=True, kw_only=True)
class ShardFailure:
    """A shard that was given up. shard_index: None for a whole video. error: class name. attempts: times tried."""

    video_id: str
    shard_index: int | None
    error: str
    message: str
    attempts: int


class Worker(Protocol):
    """Labels one shard per call and publishes its object; returns the record of it.

    model_hash: content hash of the network that it built. frames_done: labeled frames of the running shard, read by
    progress from another thread. notes: what a person should know of it.
    Raises VideoError or StoreError for an error of the shard; NoSpace, ConfigError and WorkerError stop the job;
    anything else counts as one attempt.
    """

    model_hash: str
    frames_done: int
    notes: tuple[str, ...]

    def __call__(self, task: ShardTask) -> ShardResult:
        """Label, encode and publish one shard."""
        ...

    def prepare(self, task: ShardTask) -> None:
        """Hear which shard is called for after the running one or, between calls, after the next. Only a hint."""
        ...

    def close(self) -> None:
        """Hear that no call follows. An actor is killed instead."""
        ...


class WorkerSpec(Protocol):
    """How to build a worker. Small and picklable: it travels to every actor, the weights separately and once."""

    def build(self, weights: Any, *, device: Device, num_threads: int) -> Worker:
        """A worker on `device` with `num_threads` CPU threads for torch, decoding and encoding.

        weights: what the driver put aside (bytes or arrays; read-only, shared by the actors of a node).
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Raised:
    """What a worker raised, in words: exceptions of other packages need not survive pickling.

    error: class name. kind: "video" and "store" are errors of the shard; "outage" (storage does not answer) and "space"
    (no room on the spool disk) are not, the same shard may run later or elsewhere; "fatal" stops the job; "other" may
    also mean that the worker is broken. original: the error itself where it is ours, for the driver to raise.
    """

    error: str
    message: str
    kind: ErrorKind
    original: GsvnetError | None = None
    traceback: str = field(default="", repr=False)


def describe_error(error: Exception, *, traceback: str = "", task: ShardTask | None = None) -> Raised:
    """An exception as data. Credentials and queries are taken out of its texts: the task's, without one of all URLs."""
    return Raised(
        error=type(error).__name__,
        message=_hide_secrets(str(error) or repr(error), task),
        kind=_kind(error),
        original=error if isinstance(error, GsvnetError) else None,
        traceback=_hide_secrets(traceback, task),
    )


_KINDS: tuple[tuple[type[Exception], ErrorKind], ...] = (  # the first that fits
    (ConfigError, "fatal"),
    (WorkerError, "fatal"),
    (NoSpace, "space"),
    (StoreUnavailable, "outage"),
    (SourceUnavailable, "outage"),
    (VideoError, "video"),
    (NotNumbers, "other"),
    (GsvnetError, "store"),
)


def _kind(error: Exception) -> ErrorKind:
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), "other")


def _hide_secrets(text: str, task: ShardTask | None) -> str:
    """Of a task its URI's secrets, of anything else whatever a URL may hold."""
    if task is None:
        return re.sub(r"(?<!\w)\w+://[^\s'\"]+", lambda match: redact_uri(match[0]), text)
    return hide_secrets(text.replace(task.uri, task.video.uri), task.uri)
