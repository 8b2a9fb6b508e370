"""What propagation gains end to end: keyframe intervals against each other, beside the arithmetic's own ratio."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gsvnet.benchmark.labeling import ClipLabeler, label_setting, loop_clip
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import medians, time_in_turns
from gsvnet.evaluation.cost import measure_cost

FRAMES = {1: 20, 2: 16, 3: 18, 4: 100, 5: 40, 8: 64, 12: 288}
"""Frames of one run by interval: whole chunks, and for rows so many that filling the pipeline is a small part."""
IN_ROWS = (1, 4, 12)
SPEEDS = {"fp32": "fp32", "fast": "bf16"}


def measure_speedup(setting: Setting, frames: Mapping[int, int] = FRAMES) -> tuple[Row, ...]:
    """Rows speedup_l4_fp32, speedup_l4_fast, speedup_l12_fp32, speedup_l12_fast."""
    clip = loop_clip(setting.video, max(frames.values()), setting.folder)
    macs = {interval: count_mac_ratio(setting, interval) for interval in frames}
    rows = {}
    for speed, precision in SPEEDS.items():
        labelers = {i: label_setting(setting, clip, interval=i, precision=precision) for i in frames}
        frame_s = _time_intervals(labelers, frames, rounds=setting.rounds)
        for interval in IN_ROWS[1:]:
            rows[f"speedup_l{interval}_{speed}"] = _row(f"speedup_l{interval}_{speed}", interval, frame_s, macs)
    order = sorted(rows, key=lambda name: int(name.split("_")[1].removeprefix("l")))
    return tuple(rows[name] for name in order)


def count_mac_ratio(setting: Setting, interval: int) -> float:
    """How many times fewer multiply-accumulates per frame an interval takes than keyframes alone."""
    height, width = setting.size
    cost = measure_cost(setting.model, height=height, width=width, keyframe_interval=interval)
    return cost.keyframe_macs / cost.average_macs


def _time_intervals(labelers: Mapping[int, ClipLabeler], frames: Mapping[int, int], *, rounds: int) -> dict[int, float]:
    """Seconds per frame by interval; those that no row is about run once."""
    for interval, labeler in labelers.items():
        labeler.label(interval)  # the first chunk of a worker is slow
    seconds = {}
    for intervals, times in ((IN_ROWS, rounds), ([i for i in labelers if i not in IN_ROWS], 1)):
        runs = {str(i): partial(labelers[i].label, frames[i]) for i in intervals}
        seconds.update(medians(time_in_turns(runs, rounds=times, warm_up=0)))
    return {i: seconds[str(i)] / frames[i] for i in sorted(labelers)}


def _row(name: str, interval: int, frame_s: Mapping[int, float], macs: Mapping[int, float]) -> Row:
    ratio = frame_s[1] / frame_s[interval]
    table: dict[str, Any] = {
        f"L={i}": {
            "frame_s": seconds,
            "frames_per_s": 1 / seconds,
            "speedup": frame_s[1] / seconds,
            "mac_ratio": macs[i],
            "share_of_mac_ratio": frame_s[1] / seconds / macs[i],
        }
        for i, seconds in frame_s.items()
    }
    return Row(
        name=name,
        ratio=ratio,
        unit="times the frames per second of L=1",
        seconds={"L=1": frame_s[1], f"L={interval}": frame_s[interval]},
        detail={
            "note": f"per frame; {ratio / macs[interval]:.2f} of the MAC ratio {macs[interval]:.2f}",
            "mac_ratio": macs[interval],
            "share_of_mac_ratio": ratio / macs[interval],
            "intervals": table,
            "intervals_run_once": [f"L={i}" for i in frame_s if i not in IN_ROWS],
        },
    )
