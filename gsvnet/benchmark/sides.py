"""What a second side costs end to end: two-sided propagation against forward, at one interval and at half of it."""

from __future__ import annotations

from functools import partial
from typing import Any

from gsvnet.benchmark.labeling import ClipLabeler, ClipRun, loop_clip
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import time_in_turns
from gsvnet.models.checkpoints import load_model
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.models.transfer import with_drift, with_references

TWO_SIDED, FORWARD, FORWARD_HALF = "two-sided L=12", "forward L=12", "forward L=6"
INTERVALS = {TWO_SIDED: 12, FORWARD: 12, FORWARD_HALF: 6}
FRAMES = 576
"""Of one run: on a CPU six batches of eight chunks of the two-sided network."""


def measure_sides(setting: Setting, num_frames: int = FRAMES) -> tuple[Row, ...]:
    """Rows sides_l12 and sides_l6, of the weights that ship, with drift measured as usual."""
    clip = loop_clip(setting.video, num_frames + 1, setting.folder)
    precision = "fp32" if setting.device == "cpu" else "bf16"
    labelers = {
        name: ClipLabeler(
            _make_model(name),
            clip,
            interval=interval,
            precision=precision,
            threads=setting.threads,
            folder=setting.folder / name.replace(" ", "-"),
            device=setting.device,
        )
        for name, interval in INTERVALS.items()
    }
    runs: dict[str, list[ClipRun]] = {name: [] for name in labelers}
    for name, labeler in labelers.items():
        labeler.label(INTERVALS[name])  # the first chunk of a worker is slow

    def run(name: str) -> None:
        runs[name].append(labelers[name].label(num_frames))

    time_in_turns({name: partial(run, name) for name in labelers}, rounds=setting.rounds, warm_up=0)
    middle = {name: sorted(found, key=lambda r: r.frame_s)[len(found) // 2] for name, found in runs.items()}
    return _row("sides_l12", middle, FORWARD), _row("sides_l6", middle, FORWARD_HALF)


def _make_model(name: str) -> VideoSegmenter:
    model = with_drift(load_model("default"))
    return with_references(model, "both") if name == TWO_SIDED else model


def _row(name: str, runs: dict[str, ClipRun], other: str) -> Row:
    ours, theirs = runs[TWO_SIDED], runs[other]
    cores = {n: {stage: s / run.frames for stage, s in run.cores.items()} for n, run in runs.items()}
    detail: dict[str, Any] = {
        "note": f"per frame; networks alone {cores[TWO_SIDED]['segment'] / cores[other]['segment']:.2f}",
        "keyframes": {n: run.keyframes for n, run in runs.items()},
        "frames": ours.frames,
        "core_s": cores,
    }
    return Row(
        name=name,
        ratio=ours.frame_s / theirs.frame_s,
        unit=f"of the time of {other}",
        seconds={TWO_SIDED: ours.frame_s, other: theirs.frame_s},
        detail=detail,
    )
