"""The product's own worker on a clip: what every end-to-end row measures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import cast

from gsvnet.benchmark.material import import_extra
from gsvnet.benchmark.setting import Setting
from gsvnet.choices import MotionWish
from gsvnet.chunks import Shard
from gsvnet.labeling.calibrate import default_cpu_chunks
from gsvnet.labeling.network import sample_needs
from gsvnet.labeling.plan import PlanRule, find_reach, plan_video
from gsvnet.labeling.tasks import Device, Reach, ShardTask
from gsvnet.labeling.worker import LabelWorkerSpec
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.video.index import index_video

GPU_CHUNKS = 8


@dataclass(frozen=True, kw_only=True)
class ClipRun:
    """One shard labeled. seconds: from the call, networks being ready, to the published object.

    keyframes: how many of the frames were. wall, cores: of each stage, on the clock and of the processor.
    """

    frames: int
    keyframes: int
    seconds: float
    wall: dict[str, float]
    cores: dict[str, float]

    @property
    def frame_s(self) -> float:
        """Seconds per frame."""
        return self.seconds / self.frames

    @property
    def cores_busy(self) -> float:
        """How many cores were at work, on average."""
        return self.cores["total"] / self.seconds


class ClipLabeler:
    """Labels stretches of a clip, each call another shard, with one worker.

    motion: where a network's motion is to come from; None for networks that read none.
    """

    def __init__(
        self,
        model: VideoSegmenter,
        video: Path,
        *,
        interval: int,
        precision: str,
        threads: int,
        folder: Path,
        device: str = "cpu",
        out: str | None = None,
        storage_options: dict | None = None,
        motion: MotionWish | None = None,
    ) -> None:
        self._needs = sample_needs(model)
        rule = PlanRule(interval=interval, shard_seconds=10**6, shard_frames=10**6, motion=motion)
        self._plan, self._uri = plan_video(str(video), rule=rule), str(video)
        self._index = index_video(str(video))
        self._pts = self._index.pts.tolist()
        self._numbers = count()
        spec = LabelWorkerSpec(
            out=out or str(folder / "-".join([f"L{interval}", precision, *([motion] if motion else [])])),
            spool_dir=str(folder / "spool"),
            drift=self._needs.next_frame,
            keyframe_interval=interval,
            batch_chunks=GPU_CHUNKS if device == "cuda" else default_cpu_chunks(model, interval),
            precision=precision,
            fingerprint="0" * 64,
            storage_options=storage_options,
        )
        self.worker = spec.build(model, device=cast(Device, device), num_threads=threads)

    def label(self, num_frames: int, *, first_frame: int = 0) -> ClipRun:
        """Label frames [first_frame, first_frame + num_frames), fewer where the clip ends."""
        stop = min(first_frame + num_frames, len(self._pts))
        (whole,) = self._plan.shards
        shard = Shard(
            video_id=self._plan.video.id,
            index=next(self._numbers),
            first_frame=first_frame,
            num_frames=stop - first_frame,
            start_pts=self._pts[first_frame],
            end_pts=self._pts[stop] if stop < len(self._pts) else None,
            restarts=tuple(frame for frame in whole.restarts if first_frame < frame < stop),
        )
        task = ShardTask(
            video=self._plan.video,
            shard=shard,
            uri=self._uri,
            motion=self._plan.shard_motion,
            reach=self._find_reach(shard),
        )
        result = self.worker(task)
        assert result.published
        assert result.num_lost == 0
        return ClipRun(
            frames=result.num_frames,
            keyframes=result.num_keyframes,
            seconds=result.seconds["total"],
            wall=result.seconds,
            cores=result.core_seconds,
        )

    def _find_reach(self, shard: Shard) -> Reach:
        """As planned for whole videos, for a stretch of one."""
        choice, needs = self._plan.motion, self._needs
        distance = choice.max_distance if choice is not None and choice.source == "codec" else None
        return find_reach(shard, self._index, max_distance=distance, before=needs.before, after=needs.after)


def label_setting(setting: Setting, video: Path, *, interval: int, precision: str) -> ClipLabeler:
    """A labeler as the setting says."""
    return ClipLabeler(
        setting.model,
        video,
        interval=interval,
        precision=precision,
        threads=setting.threads,
        folder=setting.folder,
        device=setting.device,
    )


def loop_clip(video: Path, num_frames: int, folder: Path) -> Path:
    """A video of at least `num_frames` frames: the clip again and again, or itself if it is long enough.

    Packets are copied, nothing is encoded anew. The clip must begin with an I-frame.
    """
    av = import_extra("av", "label")
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size]
        if len(packets) >= num_frames:
            return video
        path = folder / f"{video.stem}-looped{video.suffix}"
        times = [(packet.pts, packet.dts) for packet in packets]
        shown = sorted(pts for pts, _ in times)
        period = shown[-1] - shown[0] + (shown[1] - shown[0] if len(shown) > 1 else 1)
        with av.open(str(path), "w") as target:
            copy = target.add_stream_from_template(stream)
            for turn in range(-(-num_frames // len(packets))):
                for packet, (pts, dts) in zip(packets, times):
                    packet.stream, packet.time_base = copy, stream.time_base  # muxing rescales them
                    packet.pts, packet.dts = pts + turn * period, dts + turn * period
                    target.mux(packet)
    return path
