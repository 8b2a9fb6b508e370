"""What one shard came to: counts over its rows, and the record of a shard that needed no work."""

from __future__ import annotations

from dataclasses import dataclass, field

from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.tasks import DriftFigures, ShardResult, ShardTask
from gsvnet.store.schema import FrameRow


@dataclass
class Tally:
    """Counts over the rows of a shard, in the order of frames. min_agreement: chunks below it are counted."""

    video_id: str = ""
    min_agreement: float | None = None

    num_frames: int = 0
    num_lost: int = 0
    num_damaged: int = 0
    num_keyframes: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    drift: DriftFigures = field(default_factory=DriftFigures)

    def add(self, row: FrameRow) -> None:
        """Count one more row."""
        self.first_s = row.time_s if self.num_frames == 0 else self.first_s
        self.last_s = row.time_s
        self.num_frames += 1
        self.num_lost += row.is_lost
        self.num_damaged += row.status == "damaged"
        self.num_keyframes += row.is_keyframe
        if row.drift_agreement is not None:
            self.drift += DriftFigures(
                num_chunks=1,
                sum_agreement=row.drift_agreement,
                least=row.drift_agreement,
                least_video=self.video_id,
                least_frame=row.frame_index,
                least_s=row.time_s,
                num_below=self.min_agreement is not None and row.drift_agreement < self.min_agreement,
            )

    @property
    def media_s(self) -> float:
        """Length of the shard in seconds of video; the last frame counts as long as the mean one."""
        if self.num_frames < 2:
            return 0.0
        return (self.last_s - self.first_s) * self.num_frames / (self.num_frames - 1)


def already_labeled(task: ShardTask, clock: StageClock) -> ShardResult:
    """The record of a shard whose labels another run published before this one began with it.

    num_frames: as planned, so that progress adds up to its total; keyframes, bytes and stages are the other run's.
    media_s: by pts; 0 for the last shard of a video, whose end no plan knows.
    """
    video, shard = task.video, task.shard
    ticks = 0 if shard.end_pts is None else shard.end_pts - shard.start_pts
    return ShardResult(
        video_id=video.id,
        shard_index=shard.index,
        num_frames=shard.num_frames,
        num_lost=0,
        num_keyframes=0,
        num_bytes=0,
        media_s=float(ticks * video.time_base),
        seconds=clock.wall(),
        core_seconds=clock.cores(),
        published=False,
    )
