"""Drawn streets as labelled clips: every frame has a truth, so confidence can be measured away from keyframes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsvnet.classes import CAMVID
from gsvnet.evaluation.dataset import Clip, ScoredClips
from gsvnet.evaluation.drawn import draw_frames
from gsvnet.synthetic import SceneConfig

_FIRST_SEED = 300_000  # training and the demo drive in other streets
_FPS = 15
_SIZE = 360, 480


def draw_calibration_clips(
    folder: Path, *, num_clips: int, keyframe_interval: int, size: tuple[int, int] = _SIZE, seed: int = 0
) -> ScoredClips:
    """Clips of `keyframe_interval` frames at 15 Hz, written into `folder`; the last frame of each is scored.

    size: (height, width) in pixels. Each clip is another street. The same arguments draw the same clips.
    """
    clips = tuple(_draw_clip(folder, seed + number, keyframe_interval, size) for number in range(num_clips))
    return ScoredClips(
        dataset="drawn streets",
        split=f"{num_clips} clips",
        classes=CAMVID,
        clips=clips,
        keyframe_interval=keyframe_interval,
        step_ms=1000 / _FPS,
    )


def _draw_clip(folder: Path, number: int, num_frames: int, size: tuple[int, int]) -> Clip:
    rng = np.random.default_rng([number, 3])
    config = SceneConfig(
        height=size[0],
        width=size[1],
        seed=_FIRST_SEED + number,
        fps=_FPS,
        speed_m_s=float(rng.uniform(4, 14)),
        cars=float(rng.uniform(0.5, 1.5)),
        people=float(rng.uniform(0.5, 2)),
    )
    frames = draw_frames(config, range(2 * _FPS, 2 * _FPS + num_frames), folder / f"street-{number}")
    return Clip(name=f"street {number}", frames=tuple(frames), scored=(num_frames - 1,))
