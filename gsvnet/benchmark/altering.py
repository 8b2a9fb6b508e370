"""What altering resolutions gains end to end: AR-Seg at L=12 against its high-resolution network on every frame."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gsvnet.benchmark.footage import read_truth
from gsvnet.benchmark.labeling import ClipLabeler, ClipRun, loop_clip
from gsvnet.benchmark.material import read_keyframes
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.standin_arseg import build_arseg_stand_in
from gsvnet.benchmark.turns import time_in_turns
from gsvnet.classes import CAMVID
from gsvnet.evaluation.cost import Cost, measure_cost
from gsvnet.models.arseg import ARSeg
from gsvnet.models.transfer import image_network_of

INTERVAL = 12
FAMILIES = {"cpu": "arseg-bisenetv1", "cuda": "arseg-pspnet18up"}
PER_FRAME = "per frame"
FRAMES = {
    "cpu": {PER_FRAME: 24, "codec": 60, "proxy": 48},
    "cuda": {PER_FRAME: 60, "codec": 60, "proxy": 48},
}
"""Frames of one run. With codec motion a chunk also ends at an I-frame, so 60 frames of a clip with one every 30 have
six keyframes, not five. Every run has what it costs to begin and to publish a shard, so the network on every frame,
too, runs over enough frames to hide that: fewer where one takes seconds.
"""
FITTED_FRAMES = 4


def measure_altering(setting: Setting, frames: Mapping[str, int] | None = None) -> tuple[Row, ...]:
    """Rows arseg_codec and arseg_proxy, by where the motion comes from. frames: of one run of each; None: FRAMES."""
    frames = frames or FRAMES[setting.device]
    model, is_fitted = _make_model(setting)
    clip = loop_clip(setting.video, max(frames.values()), setting.folder)
    precision = "fp32" if setting.device == "cpu" else "bf16"
    labelers = {
        name: ClipLabeler(
            image_network_of(model) if name == PER_FRAME else model,
            clip,
            interval=1 if name == PER_FRAME else INTERVAL,
            precision=precision,
            threads=setting.threads,
            folder=setting.folder / name.replace(" ", "-"),
            device=setting.device,
            motion=None if name == PER_FRAME else name,  # type: ignore[arg-type]
        )
        for name in frames
    }
    runs: dict[str, list[ClipRun]] = {name: [] for name in frames}
    for name, labeler in labelers.items():
        labeler.label(2 if name == PER_FRAME else INTERVAL)  # the first chunk of a worker is slow

    def run(name: str) -> None:
        runs[name].append(labelers[name].label(frames[name]))

    time_in_turns({name: partial(run, name) for name in frames}, rounds=setting.rounds, warm_up=0)
    middle = {name: sorted(found, key=lambda r: r.frame_s)[len(found) // 2] for name, found in runs.items()}
    about = {"network": FAMILIES[setting.device], "precision": precision, "fitted": is_fitted}
    height, width = setting.size
    cost = measure_cost(model, height=height, width=width, keyframe_interval=INTERVAL)
    return tuple(_row(name, middle, cost, about) for name in frames if name != PER_FRAME)


def _make_model(setting: Setting) -> tuple[ARSeg, bool]:
    """The network, and whether it knows the clip; of a video without truth its labels are noise."""
    family = FAMILIES[setting.device]
    reader = image_network_of(build_arseg_stand_in(family))
    indices, keyframes = read_keyframes(setting.video, reader, num=FITTED_FRAMES, threads=setting.threads)
    truth = read_truth(setting.video, CAMVID, indices)
    if truth is None:
        return build_arseg_stand_in(family), False
    return build_arseg_stand_in(family, keyframes.keyframes, list(truth)), True


def mac_share(cost: Cost, run: ClipRun) -> float:
    """Multiply-accumulates over those of the keyframe network on every frame, with as many keyframes as really ran."""
    share = run.keyframes / run.frames
    return share + (1 - share) * cost.frame_macs / cost.keyframe_macs


def _row(name: str, runs: Mapping[str, ClipRun], cost: Cost, about: Mapping[str, Any]) -> Row:
    ours, theirs = runs[name], runs[PER_FRAME]
    macs = mac_share(cost, ours)
    ratio = ours.frame_s / theirs.frame_s
    motion_s = ours.wall.get("motion", 0.0) / ours.frames
    return Row(
        name=f"arseg_{name}",
        ratio=ratio,
        unit="of the time of its keyframe network on every frame",
        seconds={f"L={INTERVAL}": ours.frame_s, PER_FRAME: theirs.frame_s},
        detail={
            "note": f"{about['network']}, {about['precision']}, per frame; MACs {macs:.3f} with "
            f"{ours.keyframes} keyframes in {ours.frames} frames; motion {1000 * motion_s:.3g} ms a frame",
            **about,
            "mac_share": macs,
            "keyframes": ours.keyframes,
            "frames": {n: run.frames for n, run in runs.items()},
            "motion_s": motion_s,
            "frames_per_s": 1 / ours.frame_s,
            "core_s": {n: {stage: s / run.frames for stage, s in run.cores.items()} for n, run in runs.items()},
        },
    )
