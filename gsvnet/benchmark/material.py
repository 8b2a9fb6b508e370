"""What rows measure on: chunks read from the clip, and what the network makes of them."""

from __future__ import annotations

import importlib
from contextlib import closing
from pathlib import Path
from types import ModuleType

import numpy as np

from gsvnet.benchmark.running import keyframes_alone, run_model
from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.labeling.batching import DecodedBatch, batch_chunks, views_by_need
from gsvnet.labeling.plan import PlanRule, VideoPlan, plan_video
from gsvnet.models.prepared import Precision
from gsvnet.models.segmenter import ChunkBatch, VideoSegmenter
from gsvnet.nn.upsample import upsample_labels
from gsvnet.video.decode import read_frames


def plan_whole(video: Path, *, interval: int) -> VideoPlan:
    """The plan of a clip as one shard."""
    return plan_video(str(video), rule=PlanRule(interval=interval, shard_seconds=10**6, shard_frames=10**6))


def read_chunks(video: Path, model: VideoSegmenter, *, interval: int, num_chunks: int, threads: int) -> DecodedBatch:
    """The first chunks of a clip as labeling reads them. Raises ConfigError for a clip that is too short."""
    plan = plan_whole(video, interval=interval)
    if plan.video.num_frames < interval * num_chunks:
        raise ConfigError(f"{video.name} has {plan.video.num_frames} frames; {interval * num_chunks} are needed")
    shard, needs = plan.shards[0], model.needs(plan.video.height, plan.video.width)
    frames = read_frames(
        str(video),
        first_frame=shard.first_frame,
        start_pts=shard.start_pts,
        end_pts=shard.end_pts,
        views=views_by_need(shard, interval=interval, needs=needs),
        rotation=plan.video.rotation,
        threads=threads,
    )
    with closing(frames):
        return next(batch_chunks(frames, shard=shard, interval=interval, needs=needs, num_chunks=num_chunks))


def read_keyframes(video: Path, model: VideoSegmenter, *, num: int, threads: int) -> tuple[list[int], ChunkBatch]:
    """Indices of `num` frames spread over a clip, and chunks of these frames alone."""
    apart = max(1, plan_whole(video, interval=1).video.num_frames // num)
    batch = read_chunks(video, model, interval=apart, num_chunks=num, threads=threads)
    return [i * apart for i in range(num)], keyframes_alone(batch.chunks)


def label_chunks(
    model: VideoSegmenter,
    chunks: ChunkBatch,
    *,
    size: tuple[int, int],
    precision: Precision = "fp32",
    device: str = "cpu",
) -> np.ndarray:
    """Full-size labels (frames, H, W) uint8 of chunks, which are on the model's device, in display order."""
    labels: dict[tuple[int, int], np.ndarray] = {}
    for output in run_model(model, chunks, precision=precision, device=device):
        maps = upsample_labels(output.logits, size, align_corners=output.align_corners).cpu().numpy()
        labels.update(zip(zip(output.chunk.tolist(), output.position.tolist()), maps))
    return np.stack([labels[key] for key in sorted(labels)])


def import_extra(name: str, extra: str) -> ModuleType:
    """The module; raises MissingExtra if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(name.split(".")[0], extra) from error
