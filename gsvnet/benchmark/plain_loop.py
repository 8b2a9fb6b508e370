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


def measure_plain_loop(setting: Setting, *, ours: int = OUR_FRAMES, plain: int = PLAIN_FRAMES) -> tuple[Row, ...]:
    """Rows plain_fp32 (ours at its fastest against the loop in fp32) and plain_equal (both in fp32)."""
    import_extra("PIL.Image", "view")
    setting = replace(setting, video=loop_clip(setting.video, max(ours, plain), setting.folder))
    sides: dict[str, tuple[Callable[..., Callable[[], Any]], Precision, int]] = {
        "ours fp32": (start_ours, "fp32", ours),
        "plain fp32": (start_plain, "fp32", plain),
        "ours bf16": (start_ours, "bf16", ours),
        "plain bf16": (start_plain, "bf16", plain),
    }
    seconds: dict[str, float] = {}
    for pair in (("ours fp32", "plain fp32"), ("ours bf16", "plain bf16")):  # two processes' memory at a time
        with (
            Child(*_start(sides[pair[0]], setting), as_labeling=True) as one,
            Child(*_start(sides[pair[1]], setting), as_labeling=False) as other,
        ):
            seconds |= medians(time_in_turns(dict(zip(pair, (one, other))), rounds=setting.rounds, warm_up=0))
    frame_s = {name: seconds[name] / num_frames for name, (_, _, num_frames) in sides.items()}
    return (
        _row("plain_fp32", "ours bf16", "plain fp32", frame_s),
        _row("plain_equal", "ours fp32", "plain fp32", frame_s, bf16=frame_s["plain bf16"] / frame_s["ours bf16"]),
    )


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


def _start(side: tuple[Callable[..., Callable[[], Any]], Precision, int], setting: Setting) -> tuple[Any, ...]:
    start, precision, num_frames = side
    return start, setting, precision, num_frames


def _row(name: str, ours: str, plain: str, frame_s: dict[str, float], **detail: float) -> Row:
    note = "per frame" + "".join(f"; both {what}: {ratio:.3g} x" for what, ratio in detail.items())
    return Row(
        name=name,
        ratio=frame_s[plain] / frame_s[ours],
        unit="times as fast",
        seconds={ours: frame_s[ours], plain: frame_s[plain]},
        detail={"note": note, "interval": INTERVAL, "frame_s": frame_s, **detail},
    )
