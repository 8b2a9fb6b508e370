"""What a job says at its end: a table for people, `_report.json` for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure

STAGES = ("decode", "segment", "upsample", "encode", "write")


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """One run of a job. Counts are of this run, `..._in_output` of the whole output.

    media_s: seconds of video labeled. stage_s: busy seconds per stage, summed over workers and threads.
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
    failures: tuple[ShardFailure, ...]
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 complete, 3 complete but some shards or videos failed, 1 stopped before the end."""
        return 1 if self.stopped else 3 if self.failures else 0

    @property
    def frames_per_s(self) -> float:
        """Frames labeled per second of wall time, planning and start-up not counted."""
        return self.frames / self.wall_s if self.wall_s else 0.0

    @property
    def limit(self) -> str:
        """The busiest stage: where more hardware would help first."""
        return max(STAGES, key=lambda stage: self.stage_s.get(stage, 0.0)) if self.stage_s else ""

    def to_dict(self) -> dict:
        """JSON-ready form with the derived figures."""
        return asdict(self) | {
            "frames_per_s": round(self.frames_per_s, 3),
            "times_realtime": round(self.media_s / self.wall_s, 3) if self.wall_s else 0.0,
            "limit": self.limit,
            "exit_code": self.exit_code,
        }


def measure(progress: JobProgress) -> dict:
    """The fields of JobReport that come from progress."""
    return {
        "shards_labeled": len(progress.results),
        "frames": progress.frames,
        "frames_lost": progress.lost,
        "label_bytes": progress.bytes,
        "media_s": round(progress.media_s, 3),
        "wall_s": round(progress.elapsed_s, 3),
        "stage_s": {stage: round(seconds, 3) for stage, seconds in progress.seconds.items()},
    }


def show(report: JobReport, console: Console) -> None:
    """Print the summary table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    skipped = f" ({report.shards_skipped} were there already)" if report.shards_skipped else ""
    table.add_row("output", report.out)
    table.add_row("videos", f"{report.videos}")
    table.add_row("shards", f"{report.shards_labeled} labeled{skipped}")
    if report.frames:
        size = f"{report.label_bytes / 1e6:.1f} MB, {report.label_bytes / report.frames:.0f} bytes a frame"
        lost = f", {report.frames_lost} lost in decoding" if report.frames_lost else ""
        table.add_row("frames", f"{report.frames}{lost}")
        table.add_row("labels", size)
        speed = f"{report.frames_per_s:.1f} frames/s, {report.media_s / report.wall_s:.2f}x realtime"
        table.add_row("speed", f"{speed} on {report.num_actors} x {report.device}, {report.precision}")
        total = sum(report.stage_s.get(stage, 0) for stage in STAGES) or 1.0
        shares = " · ".join(f"{stage} {100 * report.stage_s.get(stage, 0) / total:.0f} %" for stage in STAGES)
        table.add_row("busy", shares)
    if report.stopped:
        table.add_row("[yellow]stopped[/yellow]", "before the end; the same command goes on")
    if report.failures:
        table.add_row("[red]failed[/red]", f"{len(report.failures)}, listed in {report.out}/_failed")
    console.print(table)
