"""Tasks and a worker that only sleeps, for drivers in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from gsvnet.chunks import Shard, Video
from gsvnet.labeling.tasks import ShardResult, ShardTask

SHARDS_PER_VIDEO = 60


def make_tasks(num_shards: int) -> Iterator[ShardTask]:
    """Shards of hour-long videos, one after the other."""
    for start in range(0, num_shards, SHARDS_PER_VIDEO):
        name = f"drive{start}"
        uri = f"s3://bucket/{name}.mp4"
        video = Video(
            id=name,
            uri=uri,
            identity="1 byte",
            height=36,
            width=64,
            rotation=0,
            time_base=Fraction(1, 10),
            num_frames=10 * SHARDS_PER_VIDEO,
        )
        for index in range(min(SHARDS_PER_VIDEO, num_shards - start)):
            shard = Shard(
                video_id=name,
                index=start + index,
                first_frame=10 * index,
                num_frames=10,
                start_pts=10 * index,
                end_pts=10 * index + 10,
            )
            yield ShardTask(video=video, shard=shard, uri=uri)


@dataclass(frozen=True, kw_only=True)
class SleepSpec:
    """Builds workers that sleep `seconds` per shard."""

    seconds: float = 0.0

    def build(self, weights, *, device, num_threads):
        """A worker whose notes say which GPUs its process may see."""
        return SleepWorker(self.seconds, weights)


class SleepWorker:
    frames_done = 0

    def __init__(self, seconds, model_hash):
        self.seconds, self.model_hash = seconds, model_hash
        self.notes = (os.environ.get("CUDA_VISIBLE_DEVICES", ""),)

    def prepare(self, task):
        pass

    def __call__(self, task):
        time.sleep(self.seconds)
        return ShardResult(
            video_id=task.video.id,
            shard_index=task.shard.index,
            num_frames=10,
            num_lost=0,
            num_keyframes=2,
            num_bytes=1,
            media_s=1.0,
            seconds={},
            published=True,
        )
