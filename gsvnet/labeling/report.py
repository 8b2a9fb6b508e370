"""What a job says at its end: a table for people, `_report.json` for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.markup import escape

from gsvnet.labeling.bottleneck import Load, describe_load, measure_load
from gsvnet.labeling.progress import JobProgress, format_clock
from gsvnet.labeling.ray.usage import Usage
from gsvnet.labeling.tasks import DriftFigures, ShardFailure
from gsvnet.words import count, size_in_words


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """One run of a job; `to_dict` is what `_report.json` holds, by the same names. Counts are of this run where
    nothing else is said.

    out, model, model_hash, keyframe_interval, precision, threads (per actor): as the job had them. device: "cpu",
    "cuda", "none" where nothing was to do. num_actors: the most that were up at once. basis: what a frame's labels are
    drawn from, see FrameNeeds; only with "keyframe" is keyframe_interval more than the length of chunks.
    videos: planned. shards_planned: to label in this run. shards_labeled: done. shards_skipped: were there already,
    or another run was first. shards_in_output: of all runs, at the end. frames: rows. frames_lost, frames_damaged: of
    these, with status decode_error, damaged. label_bytes: of Parquet. media_s: seconds of video labeled. wall_s: of the
    run, with planning. stage_s: busy seconds per stage, summed over actors and threads; core_s: of processor time;
    "total" of both: of actors that had a shard; "motion" of both, where the network reads any: a part of decode.
    usage: see `Usage`.
    num_failed: shards and videos given up; failures: the first 1,000 of them. videos_failed: of these, whole videos;
    videos_unreachable: of these, because storage did not answer, so that the next run may find them well.
    failed_earlier: shards and videos that earlier runs gave up and this one left alone; in no other count.
    smooth: over how many frames on either side labels were smoothed. drift: how far chunks agree with the keyframes
    after them, where that was measured. min_agreement: that was asked for between them; None: none.
    stopped: before the end, by a signal or an error. max_failed_fraction, partial_ok, gpu_hour_price: as given.
    """

    out: str
    model: str
    model_hash: str
    keyframe_interval: int
    device: str
    precision: str
    threads: int
    num_actors: int
    videos: int
    shards_planned: int
    shards_labeled: int
    shards_skipped: int
    shards_in_output: int
    frames: int
    frames_lost: int
    label_bytes: int
    media_s: float
    wall_s: float
    stage_s: dict[str, float]
    core_s: dict[str, float]
    frames_damaged: int = 0
    usage: Usage = field(default_factory=Usage)
    num_failed: int = 0
    videos_failed: int = 0
    videos_unreachable: int = 0
    failures: tuple[ShardFailure, ...] = ()
    failed_earlier: int = 0
    stopped: bool = False
    max_failed_fraction: float = 0.0
    partial_ok: bool = False
    gpu_hour_price: float | None = None
    basis: str = "keyframe"
    smooth: int = 0
    drift: DriftFigures = field(default_factory=DriftFigures)
    min_agreement: float | None = None

    @property
    def exit_code(self) -> int:
        """1 stopped before the end; 3 more failed than may; else 0."""
        if self.stopped:
            return 1
        return 3 if self.failed_share > self.max_failed_fraction and not self.partial_ok else 0

    @property
    def failed_share(self) -> float:
        """Failures of this run and earlier ones as a share of all known shards; a failed video counts as one shard."""
        known = self.shards_planned + self.shards_skipped + self.videos_failed + self.failed_earlier
        return (self.num_failed + self.failed_earlier) / known if known else 0.0

    @property
    def frames_per_s(self) -> float:
        """Frames labeled per second of wall time."""
        return self.frames / self.wall_s if self.wall_s else 0.0

    @property
    def load(self) -> Load:
        """How busy the workers were, and with what."""
        return measure_load(self.stage_s, self.core_s, threads=self.threads, device=self.device)

    @property
    def gpu_hours(self) -> float:
        """GPUs reserved by actors that were up, times hours."""
        return self.usage.gpu_s / 3600

    @property
    def cost(self) -> float | None:
        """GPU hours at the given price; None without a price or a GPU."""
        return self.gpu_hours * self.gpu_hour_price if self.gpu_hour_price is not None and self.usage.gpu_s else None

    @property
    def gpu_idle_share(self) -> float | None:
        """Of the time that actors were up on CUDA, the share in which none of their networks ran; None on a CPU."""
        if self.device != "cuda" or not self.usage.actor_s:
            return None
        return max(0.0, 1 - self.stage_s.get("segment", 0.0) / self.usage.actor_s)

    def to_dict(self) -> dict:
        """JSON-ready form with the derived figures.

        frames_per_s, times_realtime, failed_share, gpu_hours, gpu_idle_share, cost, exit_code: the properties; the
        exit code 0 may stand beside failures that were allowed. tail_s: as in `usage`. load: see `Load`. limit: the
        stage that held up the others. limited_by: "cores" or its own "threads". limit_share: how much of these it
        used, 0..1. drift: as DriftFigures, with `agreement`, the mean, and `below_share`.
        """
        load = self.load
        return asdict(self) | {
            "frames_per_s": round(self.frames_per_s, 3),
            "times_realtime": round(self.media_s / self.wall_s, 3) if self.wall_s else 0.0,
            "failed_share": round(self.failed_share, 6),
            "gpu_hours": round(self.gpu_hours, 4),
            "gpu_idle_share": None if self.gpu_idle_share is None else round(self.gpu_idle_share, 3),
            "tail_s": round(self.usage.tail_s, 3),
            "cost": None if self.cost is None else round(self.cost, 4),
            "limit": load.limit,
            "limited_by": "cores" if load.cores_limit else "threads",
            "limit_share": round(load.limit_share, 3),
            "load": asdict(load),
            "drift": _drift_to_dict(self.drift),
            "exit_code": self.exit_code,
        }


def _drift_to_dict(drift: DriftFigures) -> dict:
    agreement = None if drift.agreement is None else round(drift.agreement, 6)
    return asdict(drift) | {"agreement": agreement, "below_share": round(drift.below_share, 6)}


def measure(progress: JobProgress) -> dict:
    """The fields of JobReport that come from progress."""
    return {
        "shards_planned": progress.total_shards,
        "shards_labeled": progress.num_labeled,
        "frames": progress.frames,
        "frames_lost": progress.lost,
        "frames_damaged": progress.damaged,
        "label_bytes": progress.bytes,
        "media_s": round(progress.media_s, 3),
        "drift": progress.drift,
        "wall_s": round(progress.elapsed_s, 3),
        "stage_s": {stage: round(seconds, 3) for stage, seconds in progress.seconds.items()},
        "core_s": {stage: round(seconds, 3) for stage, seconds in progress.core_seconds.items()},
        "num_failed": progress.num_failed,
        "videos_failed": progress.num_failed - progress.num_shards_failed,
        "videos_unreachable": progress.num_unreachable,
        "failures": tuple(progress.failures),
    }


def show(report: JobReport, console: Console) -> None:
    """Print the summary, one line per fact; lines are never wrapped, so that logs and scripts can use them."""
    for name, text in describe(report).items():
        colour = {"failed": "red", "stopped": "yellow"}.get(name, "bold")
        console.print(f"[{colour}]{name:<8}[/{colour}] {escape(text)}", highlight=False, soft_wrap=True)


def describe(report: JobReport) -> dict[str, str]:
    """The lines of the summary by name."""
    skipped = f" ({report.shards_skipped} were there already)" if report.shards_skipped else ""
    lines = {
        "output": report.out,
        "videos": f"{report.videos}",
        "shards": f"{report.shards_labeled} labeled{skipped}",
    }
    if report.frames:
        lost = f", {report.frames_lost} lost in decoding" if report.frames_lost else ""
        damaged = f", {report.frames_damaged} damaged" if report.frames_damaged else ""
        lines["frames"] = f"{report.frames}{lost}{damaged}"
        per_frame = f"{report.label_bytes / report.frames:.0f} bytes a frame"
        smoothed = f", smoothed over {count(report.smooth, 'frame')} on either side" if report.smooth else ""
        lines["labels"] = f"{size_in_words(report.label_bytes)}, {per_frame}{smoothed}"
        speed = f"{report.frames_per_s:.1f} frames/s, {report.media_s / report.wall_s:.2f}x realtime"
        lines["speed"] = f"{speed} on {report.num_actors} x {report.device}, {report.precision}"
        lines |= describe_load(report.load, device=report.device, basis=report.basis)
    if report.drift.num_chunks:
        lines["drift"] = _describe_drift(report.drift, report.min_agreement)
    if report.num_actors > 1 or report.cost is not None:
        lines["usage"] = _describe_usage(report)
    if mishaps := _describe_mishaps(report):
        lines["mishaps"] = mishaps
    if report.stopped:
        lines["stopped"] = "before the end; the same command goes on"
    if report.num_failed or report.failed_earlier:
        lines["failed"] = _describe_failures(report)
    return lines


def _describe_drift(drift: DriftFigures, min_agreement: float | None) -> str:
    mean, least = 100 * (drift.agreement or 0.0), 100 * (drift.least or 0.0)
    place = f"{drift.least_video} {format_clock(drift.least_s)}"
    below = (
        "" if min_agreement is None else f"; {100 * drift.below_share:.1f} % of chunks below {100 * min_agreement:g} %"
    )
    return f"{mean:.1f} % of pixels agree where chunks meet, least {least:.0f} % at {place}{below}"


def _describe_usage(report: JobReport) -> str:
    usage = report.usage
    on_gpu = report.gpu_idle_share is not None
    parts = [f"{report.gpu_hours:.2f} GPU hours" if on_gpu else f"{usage.actor_s / 3600:.2f} actor hours"]
    parts += [f"networks idle {100 * (report.gpu_idle_share or 0):.0f} %"] if on_gpu else []
    parts += [f"without a shard {100 * usage.idle_share:.0f} %", f"tail {format_clock(usage.tail_s)}"]
    parts += [] if report.cost is None else [f"cost {report.cost:.2f}"]
    return ", ".join(parts)


def _describe_mishaps(report: JobReport) -> str:
    usage = report.usage
    counts = [
        (usage.retries, "retry", "retries"),
        (usage.actors_lost, "actor lost", "actors lost"),
        (usage.outages, "outage", "outages"),
    ]
    return ", ".join(f"{number} {one if number == 1 else many}" for number, one, many in counts if number)


def _describe_failures(report: JobReport) -> str:
    earlier = f" and {report.failed_earlier} in earlier runs" if report.failed_earlier else ""
    return f"{report.num_failed}{earlier}, listed in {report.out}/_failed; --retry-failed tries again"
