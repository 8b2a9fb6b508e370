"""The output that the recipes run on: two videos with a scene change each, people, lost frames, low confidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.drawn import Drawn, write_video

DAY, NIGHT = "day-0123456789ab", "night-ba9876543210"
SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, PEDESTRIAN = 0, 1, 3, 4, 5, 8, 9
LOST = {60, 61, 62, 63, 120}
MISSING = range(160, 170)  # a shard that was given up
LOW = {*range(100, 115), *range(130, 133)}


def draw_day(index: int) -> np.ndarray | None:
    """Frames of 12x20 pixels: sky over road, from frame 80 on houses over pavement; people in frames 30 to 49."""
    if index in LOST:
        return None
    labels = np.full((12, 20), SKY if index < 80 else BUILDING, np.uint8)
    labels[6:] = ROAD if index < 80 else PAVEMENT
    labels[6, : index % 4] = CAR  # a little always moves
    if 30 <= index < 50:
        labels[8, : index - 29] = PEDESTRIAN
    labels[0, 0] = 255
    return labels


def draw_night(index: int) -> np.ndarray:
    """Frames of 10x16 pixels: road all over, from frame 30 on trees."""
    labels = np.full((10, 16), ROAD if index < 30 else TREE, np.uint8)
    labels[2, : 1 + index % 3] = PEDESTRIAN
    return labels


def drift_of(index: int) -> tuple[float, list[float]] | None:
    """Agreement and IoU per class, binary fractions, at every second keyframe; there is no IoU of what is not there."""
    if index % 10:
        return None
    share = index * 7 % 64 / 64
    return 1 - share / 4, [1 - share if label in (ROAD, PEDESTRIAN) else np.nan for label in range(11)]


def by_class(labels: np.ndarray, index: int) -> list[float]:
    """Confidence per class of what is there."""
    return [(index * 11 % 32 + label) / 64 if (labels == label).any() else np.nan for label in range(11)]


def draw_frame(labels: np.ndarray | None, index: int, confidence: float) -> Drawn:
    if labels is None:
        return Drawn(labels=None, time_s=index / 2)
    uncertain = (labels == PEDESTRIAN).astype(np.uint8) if index % 5 else None
    return Drawn(
        labels=labels,
        time_s=index / 2,
        confidence=confidence,
        drift=drift_of(index),
        by_class=by_class(labels, index),
        uncertain=uncertain,
    )


def make_frames() -> dict[str, dict[int, Drawn]]:
    """The frames of each video by index, two a second; confidences differ from frame to frame."""
    day = {
        i: draw_frame(draw_day(i), i, (0.3 if i in LOW else 0.9) + i * 2**-12) for i in range(200) if i not in MISSING
    }
    night = {i: draw_frame(draw_night(i), i, 0.8 + i * 2**-12) for i in range(60)}
    return {DAY: day, NIGHT: night}


def write_output(out: str, *, spool: Path, storage_options: dict | None = None) -> dict[str, dict[int, Drawn]]:
    """Write `make_frames` in shards of ten; the frames."""
    frames = make_frames()
    for video, some in frames.items():
        for shard in sorted({index // 10 for index in some}):
            write_video(
                out,
                video,
                [some[index] for index in range(shard * 10, shard * 10 + 10)],
                spool=spool,
                first_frame=shard * 10,
                first_shard=shard,
                storage_options=storage_options,
            )
    return frames
