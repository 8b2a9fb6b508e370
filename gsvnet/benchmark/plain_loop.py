"""The loop that a user would write around a network with PyAV, against ours at keyframe interval 5.

Decode -> full-size RGB -> float, resize -> network on every frame -> interpolate -> argmax -> PNG.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gsvnet.benchmark.children import Child
from gsvnet.benchmark.labeling import label_setting, loop_clip
from gsvnet.benchmark.material import import_extra
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import medians, time_in_turns
from gsvnet.models.prepared import Precision, autocast_to

INTERVAL = 5
OUR_FRAMES, PLAIN_FRAMES = 40, 6
PAIRS: dict[str, tuple[Precision, Precision]] = {
    "plain_fp32": ("bf16", "fp32"),
    "plain_equal": ("fp32", "fp32"),
    "both bf16": ("bf16", "bf16"),
}
"""Precision of ours and of the loop in every comparison; only what stands in one of them ran in turns."""


def measure_plain_loop(setting: Setting, *, ours: int = OUR_FRAMES, plain: int = PLAIN_FRAMES) -> tuple[Row, ...]:
    """Rows plain_fp32 (ours in bf16 against the loop in fp32) and plain_equal (both in fp32; in `detail` in bf16)."""
    import_extra("PIL.Image", "view")
    setting = replace(setting, video=loop_clip(setting.video, max(ours, plain), setting.folder))
    frame_s = {name: _time_pair(name, setting, ours=ours, plain=plain) for name in PAIRS}
    our_bf16_s, plain_bf16_s = frame_s["both bf16"].values()
    return (
        _row("plain_fp32", frame_s["plain_fp32"], {"frame_s": frame_s}),
        _row("plain_equal", frame_s["plain_equal"], {"frame_s": frame_s, "bf16": plain_bf16_s / our_bf16_s}),
    )


def _time_pair(name: str, setting: Setting, *, ours: int, plain: int) -> dict[str, float]:
    """Seconds per frame of ours and of the loop, in turns. ours, plain: frames of a run."""
    our_precision, plain_precision = PAIRS[name]
    setting = replace(setting, folder=setting.folder / name)  # each pair publishes anew
    setting.folder.mkdir()
    with (
        Child(start_ours, setting, our_precision, ours, as_labeling=True) as us,
        Child(start_plain, setting, plain_precision, plain, as_labeling=False) as loop,
    ):
        seconds = medians(time_in_turns({"ours": us, "plain": loop}, rounds=setting.rounds, warm_up=0))
    return {f"ours {our_precision}": seconds["ours"] / ours, f"plain {plain_precision}": seconds["plain"] / plain}


def start_ours(setting: Setting, precision: Precision, num_frames: int) -> Callable[[], None]:
    """A function that labels and publishes the first frames of the clip, already run on one chunk."""
    labeler = label_setting(setting, setting.video, interval=INTERVAL, precision=precision)
    labeler.label(INTERVAL)

    def run() -> None:
        labeler.label(num_frames)

    return run


def start_plain(setting: Setting, precision: Precision, num_frames: int) -> Callable[[], None]:
    """A function that runs the plain loop over the first frames of the clip, already run on one frame."""
    torch.set_num_threads(setting.threads)
    model = setting.model
    size = model.needs(*setting.size).keyframe_size
    net = nn.Sequential(model.keyframe_normalise, model.keyframe_network).eval().to(setting.device)
    run = partial(
        label_plainly,
        setting.video,
        net,
        folder=setting.folder,
        size=size,
        precision=precision,
        align_corners=model.align_corners,
    )
    run(num_frames=1)
    return partial(run, num_frames=num_frames)


@torch.inference_mode()
def label_plainly(
    video: Path,
    net: nn.Module,
    *,
    folder: Path,
    size: tuple[int, int],
    precision: Precision,
    align_corners: bool,
    num_frames: int,
) -> None:
    """Write the labels of the first frames as PNG files. net: from RGB (1, 3, *size) in 0..255 to logits."""
    av, image = import_extra("av", "label"), import_extra("PIL.Image", "view")
    device = next(net.parameters()).device
    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for number, frame in enumerate(islice(container.decode(video=0), num_frames)):
            rgb = frame.to_ndarray(format="rgb24")
            pixels = torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None].float()
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
            with autocast_to(device.type, precision):
                logits = net(pixels)
            logits = F.interpolate(logits.float(), rgb.shape[:2], mode="bilinear", align_corners=align_corners)
            labels = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
            image.fromarray(labels).save(folder / f"{number:06d}.png")


def _row(name: str, frame_s: dict[str, float], detail: dict[str, Any]) -> Row:
    ours_s, plain_s = frame_s.values()
    both = f"; both bf16: {detail['bf16']:.3g} x" if "bf16" in detail else ""
    return Row(
        name=name,
        ratio=plain_s / ours_s,
        unit="times as fast",
        seconds=frame_s,
        detail={"note": f"per frame; the loop labels every frame by itself{both}", "interval": INTERVAL, **detail},
    )
