"""What a network costs: bytes of parameters, and multiply-accumulates per keyframe and per other frame.

Multiply-accumulates (MACs) are those of convolutions and matrix products in `segment`, the figure that papers call
FLOPS; element-wise work (normalisation, resizing, the warp, the filter's weighted sum) is not among them.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.gsvnet import NEIGHBOURS, GSVNet, GuidedFilter
from gsvnet.models.noise import draw_chunks
from gsvnet.models.segmenter import VideoSegmenter


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Size and work of a network on videos of one size.

    size: (height, width) of the video. keyframe_size: of the keyframe network's input; grid: of the propagation, None
    without one. keyframe_parameters_bytes, propagation_parameters_bytes: as they are in memory (GSVNet's paper says
    "parameters" and means these bytes). keyframe_macs, frame_macs: of a keyframe, of every other frame.
    shift_macs: what the published code spends per frame on shifting logits by a 3-D convolution with one-hot kernels,
    where we slice; its figures contain it.
    """

    size: tuple[int, int]
    keyframe_size: tuple[int, int]
    grid: tuple[int, int] | None
    keyframe_interval: int
    keyframe_parameters_bytes: int
    propagation_parameters_bytes: int
    keyframe_macs: int
    frame_macs: int
    shift_macs: int = 0

    @property
    def average_macs(self) -> float:
        """MACs per frame, over a chunk of keyframe_interval frames."""
        return self._average(self.frame_macs)

    @property
    def published_frame_macs(self) -> int:
        """MACs of a frame that is no keyframe, with the shift convolution: what the paper counts."""
        return self.frame_macs + self.shift_macs

    @property
    def published_average_macs(self) -> float:
        """MACs per frame, over a chunk of keyframe_interval frames, with the shift convolution."""
        return self._average(self.published_frame_macs)

    def to_dict(self) -> dict:
        """JSON-ready; bytes by part of the network, MACs as numbers (not in billions)."""
        return {
            "size": list(self.size),
            "keyframe_size": list(self.keyframe_size),
            "grid": None if self.grid is None else list(self.grid),
            "keyframe_interval": self.keyframe_interval,
            "parameters_bytes": {
                "keyframe_network": self.keyframe_parameters_bytes,
                "propagation": self.propagation_parameters_bytes,
            },
            "keyframe_macs": self.keyframe_macs,
            "frame_macs": self.frame_macs,
            "average_macs": self.average_macs,
            "published_frame_macs": self.published_frame_macs,
            "published_average_macs": self.published_average_macs,
        }

    def _average(self, frame_macs: int) -> float:
        return (self.keyframe_macs + (self.keyframe_interval - 1) * frame_macs) / self.keyframe_interval


@torch.no_grad()
def measure_cost(model: VideoSegmenter, *, height: int, width: int, keyframe_interval: int) -> Cost:
    """Cost of a network on videos of height x width pixels; counted on a copy in evaluation mode.

    A frame that is no keyframe costs what the second frame of a chunk adds to the first.
    Raises ConfigError for bad arguments, ModelError for a network that reads more than one chunk at a time.
    """
    check_positive(height=height, width=width, keyframe_interval=keyframe_interval)
    if not isinstance(model, nn.Module):
        raise ModelError(f"cost is counted of a torch.nn.Module, not of {type(model).__name__}")
    keyframe_macs, both_macs = (_count_macs(model, height, width, num_frames=n) for n in (1, 2))
    needs = model.needs(height, width)
    propagation_bytes = _parameters_bytes(model.propagation) if isinstance(model, GSVNet) else 0
    return Cost(
        size=(height, width),
        keyframe_size=needs.keyframe_size,
        grid=needs.frame_size,
        keyframe_interval=keyframe_interval,
        keyframe_parameters_bytes=_parameters_bytes(model) - propagation_bytes,
        propagation_parameters_bytes=propagation_bytes,
        keyframe_macs=keyframe_macs,
        frame_macs=both_macs - keyframe_macs,
        shift_macs=_shift_macs(model, needs.frame_size) if isinstance(model, GSVNet) and needs.frame_size else 0,
    )


def check_positive(**values: int) -> None:
    """Raises ConfigError naming the first of the values that is below 1."""
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name.replace('_', ' ')} {value} must be >= 1")


def _count_macs(model: nn.Module, height: int, width: int, *, num_frames: int) -> int:
    """MACs of one chunk. Attention runs as plain matrix products: its fused CPU kernel is unknown to the counter."""
    evaluated = copy.deepcopy(model).eval()
    assert isinstance(evaluated, VideoSegmenter)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    chunks = draw_chunks(evaluated, height=height, width=width, num_chunks=1, interval=num_frames, device=device)
    with FlopCounterMode(display=False) as counter, _SkipConvolutions(), sdpa_kernel(SDPBackend.MATH):
        for _ in evaluated.segment(chunks):
            pass
    return counter.get_total_flops() // 2


class _SkipConvolutions(TorchDispatchMode):
    """Convolutions give zeros of their shape and are counted, not computed: that would take most of the time."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.ops.aten.convolution.default:
            return func(*args, **(kwargs or {}))
        shapes_only = [value.to("meta") if isinstance(value, torch.Tensor) else value for value in args]
        return args[0].new_zeros(func(*shapes_only).shape)


def _shift_macs(model: GSVNet, grid: tuple[int, int]) -> int:
    """MACs of the published shift: nine 3x3 kernels (one is never filled) over every class and pixel of the grid."""
    if not any(isinstance(part, GuidedFilter) for part in model.modules()):
        return 0
    return (len(NEIGHBOURS) + 1) * 3 * 3 * len(model.classes) * math.prod(grid)


def _parameters_bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
