"""What a job says at its end: a table for people, `_report.json` for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rich.console import Console
from rich.markup import escape

from gsvnet.labeling.bottleneck import Load, describe_load, measure_load
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """One run of a job. Counts are of this run, `..._in_output` of the whole output.

    media_s: seconds of video labeled. stage_s: busy seconds per stage, summed over workers and threads; core_s: of
    processor time; "total" of both: of workers that had a shard. threads: per actor.
    """

    out: str
    model: str
    model_hash: str
    keyframe_interval: int
    device: str
    precision: str
    num_actors: int
    videos: int
    shards_in_output: int
    shards_labeled: int
    shards_skipped: int
    frames: int
    frames_lost: int
    label_bytes: int
    media_s: float
    wall_s: float
    stage_s: dict[str, float]
    core_s: dict[str, float]
    threads: int
    failures: tuple[ShardFailure, ...]
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 complete, 3 complete but some shards or videos failed, 1 stopped before the end."""
        return 1 if self.stopped else 3 if self.failures else 0

    @property
    def frames_per_s(self) -> float:
        """Frames labeled per second of wall time: with the start of the workers, without planning."""
        return self.frames / self.wall_s if self.wall_s else 0.0

    @property
    def load(self) -> Load:
        """How busy the workers were, and with what."""
        return measure_load(self.stage_s, self.core_s, threads=self.threads, device=self.device)

    def to_dict(self) -> dict:
        """JSON-ready form with the derived figures.

        limit: the stage that held up the others. limited_by: "cores" or its own "threads". limit_share: how much of
        these it used, 0..1. load: see `Load`.
        """
        load = self.load
        return asdict(self) | {
            "frames_per_s": round(self.frames_per_s, 3),
            "times_realtime": round(self.media_s / self.wall_s, 3) if self.wall_s else 0.0,
            "limit": load.limit,
            "limited_by": "cores" if load.cores_limit else "threads",
            "limit_share": round(load.limit_share, 3),
            "load": asdict(load),
            "exit_code": self.exit_code,
        }


def measure(progress: JobProgress) -> dict:
    """The fields of JobReport that come from progress."""
    return {
        "shards_labeled": progress.num_labeled,
        "frames": progress.frames,
        "frames_lost": progress.lost,
        "label_bytes": progress.bytes,
        "media_s": round(progress.media_s, 3),
        "wall_s": round(progress.elapsed_s, 3),
        "stage_s": {stage: round(seconds, 3) for stage, seconds in progress.seconds.items()},
        "core_s": {stage: round(seconds, 3) for stage, seconds in progress.core_seconds.items()},
        "failures": tuple(progress.failures),
    }


def count(number: int, noun: str) -> str:
    """ "1 shard", "2 shards"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_in_words(num_bytes: int) -> str:
    """ "812 bytes", "3.4 kB", "1.2 GB"."""
    units = ("kB", "MB", "GB", "TB")
    power = min(len(str(num_bytes)) - 1, 3 * len(units)) // 3
    return f"{num_bytes / 1000**power:.1f} {units[power - 1]}" if power else f"{num_bytes} bytes"


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
        lines["frames"] = f"{report.frames}{lost}"
        per_frame = f"{report.label_bytes / report.frames:.0f} bytes a frame"
        lines["labels"] = f"{size_in_words(report.label_bytes)}, {per_frame}"
        speed = f"{report.frames_per_s:.1f} frames/s, {report.media_s / report.wall_s:.2f}x realtime"
        lines["speed"] = f"{speed} on {report.num_actors} x {report.device}, {report.precision}"
        lines |= describe_load(report.load, device=report.device)
    if report.stopped:
        lines["stopped"] = "before the end; the same command goes on"
    if report.failures:
        lines["failed"] = f"{len(report.failures)}, listed in {report.out}/_failed; the same command tries again"
    return lines
