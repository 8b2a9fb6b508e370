from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from gsvnet.chunks import Shard, Video
from gsvnet.labeling.tasks import ShardTask


def _make_tasks(num_shards: int, *, video_id: str = "drive", frames_per_shard: int = 10) -> list[ShardTask]:
    num_frames = num_shards * frames_per_shard
    video = Video(
        id=video_id,
        uri=f"s3://bucket/{video_id}.mp4",
        identity="1 byte",
        height=36,
        width=64,
        rotation=0,
        time_base=Fraction(1, 10),
        num_frames=num_frames,
    )
    starts = range(0, num_frames, frames_per_shard)
    return [
        ShardTask(
            video=video,
            uri=f"s3://key:secret@bucket/{video_id}.mp4?token=hush",
            shard=Shard(
                video_id=video_id,
                index=index,
                first_frame=start,
                num_frames=frames_per_shard,
                start_pts=start,
                end_pts=start + frames_per_shard,
            ),
        )
        for index, start in enumerate(starts)
    ]


@pytest.fixture
def make_tasks() -> Callable[..., list[ShardTask]]:
    return _make_tasks
