"""The networks on a GPU against their own convolutions alone: how much of the time is the arithmetic that they need."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gsvnet.benchmark.record import Row, skip
from gsvnet.benchmark.running import run_model, wait_for
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import medians, time_in_turns
from gsvnet.models.noise import draw_chunks
from gsvnet.models.prepared import Precision, prepare_for_inference
from gsvnet.models.segmenter import ChunkBatch, VideoSegmenter

NAME, UNIT = "h200_compute", "of the rate of the convolutions alone"
INTERVAL = 4
BATCHES = (8, 32)  # chunks at a time
PRECISION: Precision = "bf16"

_CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.convolution.default)  # the first in inference mode


def measure_compute(setting: Setting) -> Row:
    """Row h200_compute: frames per second of `segment` at L=4 in bf16, random pixels on the device, no video read."""
    if setting.device != "cuda" or not torch.cuda.is_available():
        return skip(NAME, UNIT, "no CUDA device here" if not torch.cuda.is_available() else "--device is cpu")
    model = prepare_for_inference(setting.model, device=setting.device, precision=PRECISION)
    figures = {num_chunks: compare_batch(model, setting, num_chunks=num_chunks) for num_chunks in BATCHES}
    best = max(figures.values(), key=lambda figure: figure["frames_per_s"])
    return Row(
        name=NAME,
        ratio=best["frames_per_s"] / best["convolutions_frames_per_s"],
        unit=UNIT,
        seconds=best["seconds"],
        detail={
            "note": f"{best['frames_per_s']:.0f} frames/s at L={INTERVAL}, {PRECISION}; convolutions alone "
            f"{best['convolutions_frames_per_s']:.0f}; {torch.cuda.get_device_name()}",
            "by_chunks": {str(num_chunks): figure for num_chunks, figure in figures.items()},
        },
    )


def compare_batch(model: VideoSegmenter, setting: Setting, *, num_chunks: int) -> dict[str, Any]:
    """Seconds of one batch through the networks and through their convolutions alone, and frames per second."""
    height, width = setting.size
    chunks = draw_chunks(
        model, height=height, width=width, num_chunks=num_chunks, interval=INTERVAL, device=setting.device
    )
    run = partial(run_model, model, chunks, precision=PRECISION, device=setting.device)
    convolve = record_convolutions(model, chunks, precision=PRECISION, device=setting.device)
    seconds = medians(time_in_turns({"networks": run, "convolutions": convolve}, rounds=5 * setting.rounds, warm_up=3))
    frames = num_chunks * INTERVAL
    return {
        "seconds": seconds,
        "frames_per_s": frames / seconds["networks"],
        "convolutions_frames_per_s": frames / seconds["convolutions"],
    }


@torch.inference_mode()
def record_convolutions(
    model: VideoSegmenter, chunks: ChunkBatch, *, precision: Precision, device: str
) -> Callable[[], int]:
    """A function that runs all convolutions of `segment` on the same tensors, nothing else; returns how many."""
    with _Recorder() as recorder:
        run_model(model, chunks, precision=precision, device=device)

    def convolve() -> int:
        with torch.inference_mode():
            for function, args in recorder.calls:
                function(*args)
        wait_for(device)
        return len(recorder.calls)

    return convolve


class _Recorder(TorchDispatchMode):
    """Keeps the arguments of every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _CONVOLUTIONS:
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))
