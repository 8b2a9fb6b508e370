"""A day of labels as a job leaves it: 1,440 shards of a minute at 30 fps, 19 classes, drawn masks of 1024x2048."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gsvnet.classes import CITYSCAPES
from gsvnet.store.codec import encode_and_count
from gsvnet.store.job import open_job, write_plan
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter

FPS, SHARD_FRAMES, INTERVAL = 30, 1800, 5
DAY_SHARDS = 24 * 60


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A drawn mask (encoded), its size and its pixel counts."""

    mask: bytes
    size: tuple[int, int]
    pixels: np.ndarray


def draw_masks(num: int = 24, *, height: int = 1024, width: int = 2048, seed: int = 0) -> list[Drawn]:
    """Masks with contours as a network's have them: street scenes of Cityscapes ids, blurred borders."""
    from gsvnet.classes import CAMVID, find_counterparts
    from gsvnet.synthetic import SceneConfig, StreetScene

    scene = StreetScene(SceneConfig(height=height, width=width, seed=seed, cars=2, people=2))
    table = np.full(256, 255, np.uint8)
    for target, source in find_counterparts(CAMVID, CITYSCAPES).items():
        table[source] = target
    return [
        Drawn(mask=mask, size=(height, width), pixels=pixels)
        for mask, pixels in (encode_and_count(table[scene.labels(7 * i)], len(CITYSCAPES)) for i in range(num))
    ]


def write_days(
    out: str | Path, drawn: list[Drawn], *, spool: Path, num_shards: int = DAY_SHARDS, shards_per_video: int = 60
) -> None:
    """Write an output of `num_shards` minutes; every video is `shards_per_video` of them long."""
    job = open_job(str(out), {"keyframe_interval": INTERVAL}, classes=CITYSCAPES, model_hash="a" * 64)
    rng = np.random.default_rng(0)
    for number in range(num_shards):
        video_number, shard = divmod(number, shards_per_video)
        video = f"front-{video_number:012x}"
        if shard == 0:
            shards = range(min(shards_per_video, num_shards - number))
            plan = [{"first_frame": i * SHARD_FRAMES, "num_frames": SHARD_FRAMES} for i in shards]
            write_plan(str(out), video, {"shards": plan})
        footer = ShardFooter(
            job=job.fingerprint,
            video=video,
            uri=f"s3://videos/{video}.mp4",
            identity="1000:etag:abc",
            time_base="1/15360",
            shard=shard,
            first_frame=shard * SHARD_FRAMES,
            model_hash="a" * 64,
            classes=CITYSCAPES,
            precision="bf16",
            device="cuda",
            threads=2,
        )
        confidence = rng.uniform(0.5, 1, SHARD_FRAMES)
        by_class = np.random.default_rng(number).uniform(0.3, 1, (2, SHARD_FRAMES, len(CITYSCAPES)))
        with ShardWriter(shard_uri(str(out), video, f"{shard:06d}"), footer=footer, spool_dir=spool) as writer:
            for i in range(SHARD_FRAMES):
                index, map_ = footer.first_frame + i, drawn[(number + i // 10) % len(drawn)]
                class_confidence, drift_iou = np.where(map_.pixels > 0, by_class[:, i], np.nan)
                starts_chunk = i % INTERVAL == 0
                writer.append(
                    FrameRow(
                        frame_index=index,
                        pts=index * 512,
                        time_s=index / FPS,
                        is_keyframe=starts_chunk,
                        keyframe_distance=i % INTERVAL,
                        height=map_.size[0],
                        width=map_.size[1],
                        pixels=map_.pixels,
                        confidence=confidence[i],
                        confidence_p05=confidence[i] / 2,
                        mask=map_.mask,
                        keyframe_interval=INTERVAL,
                        drift_agreement=by_class[1, i].mean() if starts_chunk else None,
                        drift_iou=drift_iou if starts_chunk else None,
                        class_confidence=class_confidence,
                    )
                )
