"""A network made ready to label: the same function, arranged for speed.

Training, checkpoints and the model's hash know the network as its paper draws it. What runs in a worker is a copy with
batch norms folded, feature maps in channels-last order and, if asked for, compiled.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from gsvnet.errors import ConfigError
from gsvnet.models.arseg import ARSeg
from gsvnet.models.contract import check_on_sample, draw_sample, says_the_same
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.segmenter import LogitsBatch, PerFrame, VideoSegmenter
from gsvnet.models.tdnet import TDNet
from gsvnet.nn.folding import fold_batch_norms

Precision = Literal["fp32", "bf16"]


@torch.inference_mode()
def prepare_for_inference(
    model: VideoSegmenter, *, device: str, precision: Precision, compiled: bool = False
) -> VideoSegmenter:
    """A copy of `model` on `device` in evaluation mode that gives the same logits faster.

    Run it through `compute_in`, or in inference mode under `autocast_to(device, precision)`. Batch norms stay where
    folding them changes what the network says on a sample (declared in another order than used), and where it refuses
    the sample. compiled: torch.compile for keyframe network and propagation; the first batch of each shape then takes
    minutes, and on a CPU nothing is gained. Raises ConfigError where nothing could compile, and ModelError for a
    network of one's own that fails `check_on_sample`.
    """
    assert isinstance(model, nn.Module)
    plain = copy.deepcopy(model).eval().cpu()
    check_on_sample(plain)
    folded = fold_batch_norms(plain)
    prepared = folded if _num_norms(folded) < _num_norms(plain) and _agree(plain, folded) else plain
    # float32 convolutions of channels-last maps have slower kernels on GPUs; on CPUs and in bf16 they are the fast ones
    channels_last = device == "cpu" or precision == "bf16"
    if channels_last:
        _lay_out_channels_last(prepared)
    prepared = prepared.to(device)
    assert isinstance(prepared, VideoSegmenter)
    if device == "cpu":
        _run_few_at_once(prepared)
    if compiled:
        _compile(prepared, device=device)
    return prepared


def autocast_to(device: str, precision: Precision) -> torch.autocast:
    """The context in which a prepared network computes in `precision`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def _lay_out_channels_last(model: nn.Module) -> None:
    """In place; `Module.to` refuses models that hold tensors of five dimensions."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def _run_few_at_once(model: VideoSegmenter) -> None:
    """One keyframe's feature maps leave every cache of a CPU already: more at once give no speed and cost memory."""
    if isinstance(model, GSVNet):
        model.keyframe_batch, model.frame_batch = 1, 16
    elif isinstance(model, PerFrame | TDNet):
        model.micro_batch = 1
    elif isinstance(model, ARSeg):
        model.memory_bytes = 0  # one image at a time


def compute_in(device: str, precision: Precision, outputs: Iterator[LogitsBatch]) -> Iterator[LogitsBatch]:
    """What `segment` yields, each output computed in inference mode and in `precision`; in between neither is set.

    Contexts must not stay open while a generator waits: they reach into its consumer, and leaving inference mode
    switches autocast off without a word.
    """
    while True:
        with torch.inference_mode(), autocast_to(device, precision):
            output = next(outputs, None)
        if output is None:
            return
        yield output


def _num_norms(model: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())


def _agree(original: nn.Module, other: nn.Module) -> bool:
    """Whether both give the same logits for a chunk of noise; False where they need more than a chunk, or its size
    does not suit them.
    """
    assert isinstance(original, VideoSegmenter)
    assert isinstance(other, VideoSegmenter)
    try:
        chunk = draw_sample(original)
        expected = list(original.segment(chunk))
    except Exception:  # each network refuses a size in its own way, and what is truly broken fails on the first batch
        return False
    return all(says_the_same(a.logits, b.logits) for a, b in zip(expected, other.segment(chunk), strict=True))


def _compile(model: VideoSegmenter, *, device: str) -> None:
    """Compile in place what runs most; shapes are fixed within a job, so every shape is compiled for itself."""
    if device == "cpu" and shutil.which("g++") is None:
        raise ConfigError("--compile needs a C++ compiler (g++), and there is none here; leave --compile out")
    if isinstance(model, GSVNet):
        model.keyframe_network.compile(dynamic=False)
        for name in ("estimate_flow", "glance", "step"):
            setattr(model.propagation, name, torch.compile(getattr(model.propagation, name), dynamic=False))
    elif isinstance(model, PerFrame):
        model.net.compile(dynamic=False)
    elif isinstance(model, ARSeg):
        for network in (model.keyframe_network, model.frame_network):
            setattr(network, "extract", torch.compile(network.extract, dynamic=False))  # noqa: B010, a method
    elif isinstance(model, TDNet):
        for turn in range(model.num_sub_networks):
            trunk = model.sub(turn).trunk
            setattr(trunk, "extract", torch.compile(trunk.extract, dynamic=False))  # noqa: B010, a method
    else:
        raise ConfigError(f"--compile: {type(model).__name__} cannot be compiled; leave --compile out")
