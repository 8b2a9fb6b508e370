"""Whether decode, networks, encode and write overlap: end-to-end time beside that of the longest of them.

The networks are replaced by a wait, as for an accelerator, as long as they take on these cores or this GPU. With
perfect overlap the whole takes as long as the wait. Beside it stands the hardest case, a wait as short as all other
work takes, where nothing may be late.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median

from gsvnet.benchmark.labeling import ClipLabeler, ClipRun, label_setting, loop_clip
from gsvnet.benchmark.material import read_chunks
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.running import run_model
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.waiting import WaitingSegmenter
from gsvnet.labeling.pipeline import RowPool

INTERVAL = 5
FRAMES, REAL_FRAMES = 160, 80  # so many that the first chunk and the last rows, which overlap with nothing, are little
REAL_PRECISIONS = ("fp32", "bf16")  # the wait is as long as the last one's networks


def measure_overlap(setting: Setting, *, frames: int = FRAMES, real_frames: int = REAL_FRAMES) -> Row:
    """Row overlap; in `detail` the hardest case, and how busy the cores are with the real networks."""
    setting = replace(setting, video=loop_clip(setting.video, max(frames, real_frames), setting.folder))
    real = {precision: _label_really(setting, precision, real_frames) for precision in REAL_PRECISIONS}
    busy = {precision: run.cores_busy / setting.threads for precision, run in real.items()}
    networks_s = networks_frame_s(real[REAL_PRECISIONS[-1]], setting)
    run = partial(_label_waiting, *_start_waiting(setting), frames)
    rounds = [run(frame_s=networks_s) for _ in range(setting.rounds)]
    alone_s, _ = run(frame_s=0.0)
    hardest_s, waited_s = run(frame_s=alone_s / frames)
    hardest = hardest_s / max(alone_s, waited_s)
    return Row(
        name="overlap",
        ratio=median(whole / max(alone_s, waited) for whole, waited in rounds),
        unit="of the longest stage",
        seconds={
            "end to end": median(whole for whole, _ in rounds),
            "longest stage": median(max(alone_s, waited) for _, waited in rounds),
        },
        detail={
            "note": f"{frames} frames; {hardest:.3g} with a wait no longer than all other work; "
            + ", ".join(f"{p} networks keep {100 * share:.0f} % of the cores busy" for p, share in busy.items()),
            "hardest_case": hardest,
            "no_wait_s": alone_s,
            "busy_share": busy,
        },
    )


def networks_frame_s(run: ClipRun, setting: Setting) -> float:
    """Seconds per frame that a run's networks take by themselves: with all cores, or on the GPU by its clock."""
    if setting.device == "cuda":
        return run.wall["segment"] / run.frames
    return run.cores["segment"] / setting.threads / run.frames


def make_waiting(setting: Setting, *, interval: int) -> WaitingSegmenter:
    """The setting's network as one that waits, and answers with its logits of the clip's first chunk."""
    model = setting.model
    chunks = read_chunks(setting.video, model, interval=interval, num_chunks=1, threads=setting.threads).chunks
    return WaitingSegmenter(model, run_model(model, chunks, precision="fp32"))


def _label_really(setting: Setting, precision: str, frames: int) -> ClipRun:
    """One run with the real networks."""
    labeler = label_setting(setting, setting.video, interval=INTERVAL, precision=precision)
    labeler.label(INTERVAL)
    return labeler.label(frames)


def _start_waiting(setting: Setting) -> tuple[WaitingSegmenter, ClipLabeler]:
    """A network that waits, and a worker around it that has run once."""
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
    return waiting, labeler


def _label_waiting(
    waiting: WaitingSegmenter, labeler: ClipLabeler, frames: int, *, frame_s: float
) -> tuple[float, float]:
    """Seconds of the whole, and waited in it."""
    waiting.wait.frame_s, waiting.wait.total_s = frame_s, 0.0
    return labeler.label(frames).seconds, waiting.wait.total_s
