"""Whether decode, networks, encode and write overlap: end-to-end time beside that of the longest of them.

The networks are replaced by a wait, as for an accelerator, as long as all other work takes on the cores: the hardest
case, where nothing may be late. With perfect overlap the whole takes as long as the wait.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from gsvnet.benchmark.labeling import ClipLabeler, ClipRun, label_setting, loop_clip
from gsvnet.benchmark.material import read_chunks
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.running import run_model
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.waiting import WaitingSegmenter

INTERVAL = 5
FRAMES, REAL_FRAMES = 100, 40
WAITS = (0.5, 1.0, 2.0)  # times as long as the work on the cores; the row is about 1


def measure_overlap(setting: Setting, *, frames: int = FRAMES, real_frames: int = REAL_FRAMES) -> Row:
    """Row overlap; in `detail` other waits, and how busy the cores are with the real networks."""
    setting = replace(setting, video=loop_clip(setting.video, max(frames, real_frames), setting.folder))
    waiting = make_waiting(setting, interval=INTERVAL)
    labeler = ClipLabeler(
        waiting,
        setting.video,
        interval=INTERVAL,
        precision="fp32",
        threads=setting.threads,
        folder=setting.folder / "waiting",
    )
    labeler.label(INTERVAL)
    rounds = [_one_round(waiting, labeler, frames) for _ in range(setting.rounds)]
    seconds = {name: median(r[name] for r in rounds) for name in rounds[0]}
    ratios = {
        wait: median(r[f"end to end, wait x{wait:g}"] / r[f"longest, wait x{wait:g}"] for r in rounds) for wait in WAITS
    }
    busy = measure_busy_share(setting, real_frames)
    return Row(
        name="overlap",
        ratio=ratios[1.0],
        unit="of the longest stage",
        seconds={"end to end": seconds["end to end, wait x1"], "longest stage": seconds["longest, wait x1"]},
        detail={
            "note": f"{frames} frames; wait half as long: {ratios[0.5]:.3g}, twice: {ratios[2.0]:.3g}; "
            f"real networks: {min(busy.values()):.2f} of the cores busy",
            "ratios": {f"wait x{wait:g}": ratio for wait, ratio in ratios.items()},
            "busy_share": busy,
            "seconds": seconds,
        },
    )


def make_waiting(setting: Setting, *, interval: int) -> WaitingSegmenter:
    """The setting's network as one that waits, and answers with its logits of the clip's first chunk."""
    model = setting.model
    chunks = read_chunks(setting.video, model, interval=interval, num_chunks=1, threads=setting.threads).chunks
    return WaitingSegmenter(model, run_model(model, chunks, precision="fp32"))


def measure_busy_share(setting: Setting, frames: int) -> dict[str, float]:
    """Share of the cores that labeling with the real networks keeps busy, by precision."""
    shares = {}
    for precision in ("fp32", "bf16"):
        labeler = label_setting(setting, setting.video, interval=INTERVAL, precision=precision)
        labeler.label(INTERVAL)
        shares[precision] = labeler.label(frames).cores_busy / setting.threads
    return shares


def _one_round(waiting: WaitingSegmenter, labeler: ClipLabeler, frames: int) -> dict[str, float]:
    """Seconds without a wait, and for each wait of the whole and of the longest part."""
    run = partial(_label, waiting, labeler, frames)
    alone_s, _ = run(frame_s=0.0)
    seconds: dict[str, Any] = {"no wait": alone_s}
    for wait in WAITS:
        whole_s, waited_s = run(frame_s=wait * alone_s / frames)
        seconds[f"end to end, wait x{wait:g}"] = whole_s
        seconds[f"longest, wait x{wait:g}"] = max(alone_s, waited_s)
    return seconds


def _label(waiting: WaitingSegmenter, labeler: ClipLabeler, frames: int, *, frame_s: float) -> tuple[float, float]:
    """Seconds of the whole, and waited in it."""
    waiting.wait.frame_s, waiting.wait.total_s = frame_s, 0.0
    run: ClipRun = labeler.label(frames)
    return run.seconds, waiting.wait.total_s
