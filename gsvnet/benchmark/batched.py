"""TDNet with its frames in batches against its authors' loop over single frames, on the same prepared network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsvnet.benchmark.footage import ClipConfig, draw_frames
from gsvnet.benchmark.record import Row, skip
from gsvnet.benchmark.running import run_model, torch_threads, wait_for
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.standin_tdnet import as_single_frames, build_tdnet_stand_in
from gsvnet.benchmark.streaming import stream_labels
from gsvnet.benchmark.turns import medians, time_in_turns
from gsvnet.models.prepared import Precision, autocast_to, prepare_for_inference
from gsvnet.models.tdnet import TDNet
from gsvnet.nn.upsample import upsample_labels

UNIT = "times as fast"
FAMILIES = "td4-pspnet18", "td4-bisenetv1"
PRECISIONS: dict[str, tuple[Precision, ...]] = {"cpu": ("fp32",), "cuda": ("fp32", "bf16")}
CLIP = ClipConfig(height=360, width=480, frames=32, drawn=16)
FITTED_FRAMES = 8
NAMES = {"cpu": "tdnet_batched", "cuda": "tdnet_batched_gpu"}


def measure_batched(setting: Setting, clip: ClipConfig = CLIP, families: tuple[str, ...] = FAMILIES) -> tuple[Row, ...]:
    """Rows tdnet_batched and tdnet_batched_gpu, of which the one of the setting's device is measured."""
    images, truth = draw_frames(clip, range(clip.drawn))
    drawn = torch.from_numpy(images).movedim(-1, 1)
    video = drawn[[clip.drawn_index(i) for i in range(clip.frames)]]
    figures = {}
    for family in families:
        model = build_tdnet_stand_in(family, drawn[:FITTED_FRAMES], list(truth[:FITTED_FRAMES]))
        for precision in PRECISIONS[setting.device]:
            figures[f"{family} {precision}"] = compare_ways(model, video, precision, setting)
    return tuple(
        _row(name, figures) if device == setting.device else skip(name, UNIT, f"--device is {setting.device}")
        for device, name in NAMES.items()
    )


def compare_ways(model: TDNet, video: Tensor, precision: Precision, setting: Setting) -> dict[str, Any]:
    """Seconds of both ways on a video (n, 3, H, W) uint8, and the share of the pixels that they label differently.

    Beside them the loop on the network as it comes: batch norms, and on a CPU channels first, as the authors run it.
    """
    device = setting.device
    network = prepare_for_inference(model, device=device, precision=precision)
    assert isinstance(network, TDNet)
    video = video.to(device)
    ours = partial(run_model, network, as_single_frames(video), precision=precision, device=device)
    theirs = partial(run_streaming, network, video, precision=precision, device=device)
    plain = partial(run_streaming, copy.deepcopy(model).to(device), video, precision=precision, device=device)
    with torch_threads(setting.threads):
        runs: dict[str, Callable[[], Any]] = {"batched": ours, "streaming": theirs, "streaming, not prepared": plain}
        seconds = medians(time_in_turns(runs, rounds=setting.rounds))
        batched = {int(n): logits for output in ours() for n, logits in zip(output.chunk, output.logits)}
        streamed = theirs()
    labels = [_label([batched[n], streamed[n]], video.shape[-2:], network) for n in range(len(video))]
    return {
        "seconds": seconds,
        "ratio": seconds["streaming"] / seconds["batched"],
        "ratio_not_prepared": seconds["streaming, not prepared"] / seconds["batched"],
        "differing": float(np.mean([a != b for a, b in labels])),
    }


@torch.inference_mode()
def run_streaming(model: TDNet, video: Tensor, *, precision: Precision, device: str) -> list[Tensor]:
    """Logits (C, h, w) of every frame, when they are there."""
    with autocast_to(device, precision):
        logits = list(stream_labels(model, video))
    wait_for(device)
    return logits


def _label(logits: list[Tensor], size: tuple[int, ...], model: TDNet) -> np.ndarray:
    """(n, H, W) uint8."""
    return upsample_labels(torch.stack(logits), (size[0], size[1]), align_corners=model.align_corners).cpu().numpy()


def _row(name: str, figures: dict[str, dict[str, Any]]) -> Row:
    slowest = min(figures.values(), key=lambda figure: figure["ratio"])
    said = (
        f"{way}: {figure['ratio']:.3g} x ({figure['ratio_not_prepared']:.3g} x the loop on the network as it comes), "
        f"{100 * figure['differing']:.2g} % of the pixels differ"
        for way, figure in figures.items()
    )
    return Row(
        name=name,
        ratio=slowest["ratio"],
        unit=UNIT,
        seconds=slowest["seconds"],
        detail={"note": "; ".join(said), "networks": figures},
    )
