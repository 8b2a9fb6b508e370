"""Whether decode, networks, encode and write overlap: end-to-end time beside that of the longest of them.

The networks are replaced by a wait, as for an accelerator, as long as all other work takes on the cores: the hardest
case, where nothing may be late. With perfect overlap the whole takes as long as the wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

from gsvnet.benchmark.labeling import ClipLabeler, label_setting, loop_clip
from gsvnet.benchmark.material import read_chunks
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.running import run_model
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.waiting import WaitingSegmenter
from gsvnet.labeling.pipeline import RowPool

INTERVAL = 5
FRAMES, REAL_FRAMES = 200, 40  # so many that the first chunk and the last rows, which overlap with nothing, are little
OTHER_WAITS = (0.5, 2.0)  # times as long as the work on the cores; the row is about 1


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
    labeler.worker.pipeline = RowPool(setting.threads, "cpu")  # as beside a GPU, which the wait stands for
    labeler.label(INTERVAL)
    run = partial(_label, waiting, labeler, frames)
    rounds = [_one_round(run, frames) for _ in range(setting.rounds)]
    seconds = {name: median(one[name] for one in rounds) for name in rounds[0]}
    ratio = median(one["end to end"] / one["longest stage"] for one in rounds)
    others = {}
    for wait in OTHER_WAITS:
        whole_s, waited_s = run(frame_s=wait * seconds["no wait"] / frames)
        others[f"wait x{wait:g}"] = whole_s / max(seconds["no wait"], waited_s)
    busy = measure_busy_share(setting, real_frames)
    return Row(
        name="overlap",
        ratio=ratio,
        unit="of the longest stage",
        seconds=seconds,
        detail={
            "note": f"{frames} frames; {min(busy.values()):.2f} of the cores busy with the real networks",
            "other_waits": others,
            "busy_share": busy,
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


def _one_round(run: Callable[..., tuple[float, float]], frames: int) -> dict[str, float]:
    """Seconds without a wait, with one that is as long, and of the longer of the two."""
    alone_s, _ = run(frame_s=0.0)
    whole_s, waited_s = run(frame_s=alone_s / frames)
    return {"end to end": whole_s, "longest stage": max(alone_s, waited_s), "no wait": alone_s}


def _label(waiting: WaitingSegmenter, labeler: ClipLabeler, frames: int, *, frame_s: float) -> tuple[float, float]:
    """Seconds of the whole, and waited in it."""
    waiting.wait.frame_s, waiting.wait.total_s = frame_s, 0.0
    return labeler.label(frames).seconds, waiting.wait.total_s
