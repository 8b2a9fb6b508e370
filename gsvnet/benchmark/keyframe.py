"""The keyframe network at its fastest against the same network in eager fp32: speed, and labels beside the truth."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from gsvnet.benchmark.children import Child
from gsvnet.benchmark.footage import read_truth
from gsvnet.benchmark.material import label_chunks, read_keyframes
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.running import first_chunks, run_model, torch_threads
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import medians, time_in_turns
from gsvnet.classes import IGNORE
from gsvnet.errors import ModelError
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.labeling.device import to_device
from gsvnet.models.checkpoints import load_default
from gsvnet.models.content_hash import content_hash
from gsvnet.models.prepared import Precision, prepare_for_inference
from gsvnet.models.segmenter import ChunkBatch, VideoSegmenter

EAGER = "eager fp32"
TIMED_KEYFRAMES = 2
COMPARED_FRAMES = 4  # spread over the clip: neighbours differ little


def measure_keyframe(setting: Setting) -> Row:
    """Row keyframe_fast: of the setting's network; that of the default weights in `detail`."""
    figures = {"model": compare_ways(setting.model, setting)}
    with suppress(ModelError):  # where they are not installed
        default = load_default()
        if content_hash(default) != content_hash(setting.model):  # type: ignore[arg-type]
            figures["default weights"] = compare_ways(default, setting)
    ours = figures["model"]
    seconds, fastest = ours["seconds"], ours["fastest"]
    return Row(
        name="keyframe_fast",
        ratio=seconds[EAGER] / seconds[fastest],
        unit="times as fast",
        seconds=seconds,
        detail={
            "note": "; ".join(f"{name}: {_describe(figure)}" for name, figure in figures.items())
            + "; eager with Python's ordinary allocator",
            **figures,
        },
    )


def compare_ways(model: VideoSegmenter, setting: Setting) -> dict[str, Any]:
    """Seconds per keyframe of each way, and how the labels of the fastest agree with eager fp32's and the truth."""
    assert isinstance(model, nn.Module)
    device = setting.device
    ways: dict[str, tuple[Precision, VideoSegmenter]] = {
        EAGER: ("fp32", copy.deepcopy(model).eval().to(device)),
        "prepared fp32": ("fp32", prepare_for_inference(model, device=device, precision="fp32")),
        "prepared bf16": ("bf16", prepare_for_inference(model, device=device, precision="bf16")),
    }
    indices, keyframes = read_keyframes(setting.video, model, num=COMPARED_FRAMES, threads=setting.threads)
    keyframes = to_device(keyframes, device)
    timed = first_chunks(keyframes, TIMED_KEYFRAMES)
    runs: dict[str, Callable[[], Any]] = {
        name: partial(run_model, network, timed, precision=precision, device=device)
        for name, (precision, network) in ways.items()
        if name != EAGER
    }
    with (
        torch_threads(setting.threads),
        Child(start_eager, model, timed, setting.threads, device, as_labeling=False) as runs[EAGER],
    ):
        seconds = {n: s / TIMED_KEYFRAMES for n, s in medians(time_in_turns(runs, rounds=setting.rounds)).items()}
    fastest = min((name for name in ways if name != EAGER), key=lambda name: seconds[name])
    with torch_threads(setting.threads):
        labels = {
            name: label_chunks(network, keyframes, size=setting.size, precision=precision, device=device)
            for name, (precision, network) in ways.items()
            if name in (EAGER, fastest)
        }
    truth = read_truth(setting.video, model.classes, indices)
    return {
        "seconds": seconds,
        "fastest": fastest,
        "agreement": float((labels[EAGER] == labels[fastest]).mean()),
        "miou": None if truth is None else {name: _miou(truth, maps) for name, maps in labels.items()},
    }


def start_eager(model: VideoSegmenter, chunks: ChunkBatch, threads: int, device: str) -> Callable[[], Any]:
    """A function that runs the network as it comes, in a process whose allocator is as it comes, too."""
    torch.set_num_threads(threads)
    assert isinstance(model, nn.Module)
    network: Any = model.eval().to(device)

    def run() -> None:  # logits stay where they are
        run_model(network, chunks, precision="fp32", device=device)

    return run


def _miou(truth: np.ndarray, labels: np.ndarray) -> float:
    """In percent."""
    matrix = ConfusionMatrix(int(max(labels.max(), truth[truth != IGNORE].max())) + 1)
    matrix.update(truth, labels)
    return 100 * matrix.miou()


def _describe(figures: dict[str, Any]) -> str:
    """The fastest way in a few words."""
    seconds, fastest, miou = figures["seconds"], figures["fastest"], figures["miou"]
    moved = "" if miou is None else f", mIoU {miou[fastest] - miou[EAGER]:+.2f}"
    return f"{seconds[EAGER] / seconds[fastest]:.3g} x, {100 * figures['agreement']:.2f} % equal labels{moved}"
