"""Labels from small logits: ours against F.interpolate + argmax, on one thread each and real logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.benchmark.material import read_chunks
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.running import run_model, torch_threads, wait_for
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import measure_in_turns, medians
from gsvnet.nn.upsample import upsample_labels

INTERVAL = 5
CLEAR_MARGIN = 1e-6  # in float64; below it two classes are equal to float32


def measure_upsampling(setting: Setting) -> Row:
    """Row upsample: one chunk's labels, in the model's own corner convention; the other one in `detail`."""
    chunks = read_chunks(setting.video, setting.model, interval=INTERVAL, num_chunks=1, threads=setting.threads).chunks
    outputs = run_model(setting.model, chunks, precision="fp32")
    maps = {"keyframe": outputs[0].logits, "other frame": outputs[-1].logits}
    own = outputs[0].align_corners
    with torch_threads(1):  # as labels are made: every thread of a worker makes those of other frames
        figures = {
            align: {name: compare(logits, setting, align_corners=align) for name, logits in maps.items()}
            for align in (own, not own)
        }
    seconds = {way: _of_chunk(figures[own], way) for way in ("ours", "argmax", "channels-last max")}
    compared = [figure for grids in figures.values() for figure in grids.values()]
    differing = sum(figure["differing"] for figure in compared)
    return Row(
        name="upsample",
        ratio=seconds["argmax"] / seconds["ours"],
        unit="times as fast",
        seconds=seconds,
        detail={
            "note": f"one thread, per frame at L={INTERVAL}; {differing} differing labels in {len(compared)} maps, "
            f"{sum(figure['unclear_pixels'] for figure in compared)} pixels too close to call left out",
            "differing": differing,
            "classes": len(setting.model.classes),
            "over_channels_last_max": seconds["channels-last max"] / seconds["ours"],
            "align_corners": {str(align).lower(): grids for align, grids in figures.items()},
        },
    )


def compare(logits: Tensor, setting: Setting, *, align_corners: bool) -> dict[str, Any]:
    """Seconds of each way to label one map of logits (1, C, h, w) at the clip's size, and how labels differ."""
    logits = logits.float().contiguous().to(setting.device)
    channels_last = logits.contiguous(memory_format=torch.channels_last)
    enlarge = partial(F.interpolate, size=setting.size, mode="bilinear", align_corners=align_corners)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: upsample_labels(logits, setting.size, align_corners=align_corners),
        "argmax": lambda: enlarge(logits).argmax(1),
        "channels-last max": lambda: enlarge(channels_last).max(1).indices,
    }

    def run(label: Callable[[], Tensor]) -> None:
        label()
        wait_for(setting.device)

    with torch.inference_mode():
        turns = measure_in_turns({name: partial(run, way) for name, way in ways.items()}, rounds=setting.rounds)
        exact = enlarge(logits.double())
        best, winner = exact.max(1)
        clear = best - exact.scatter_(1, winner[:, None], -torch.inf).amax(1) > CLEAR_MARGIN
        labels, reference = ways["ours"](), ways["argmax"]()
    return {
        "grid": list(logits.shape[-2:]),
        "seconds": medians(turns.wall),
        "cpu_seconds": medians(turns.cpu),
        "differing": int(((labels != reference) & clear).sum()),
        "differing_from_float64": {"ours": int((labels != winner).sum()), "argmax": int((reference != winner).sum())},
        "unclear_pixels": int((~clear).sum()),
    }


def _of_chunk(grids: dict[str, dict[str, Any]], way: str) -> float:
    """Seconds per frame over a chunk."""
    keyframe, other = (grids[name]["seconds"][way] for name in ("keyframe", "other frame"))
    return (keyframe + (INTERVAL - 1) * other) / INTERVAL
