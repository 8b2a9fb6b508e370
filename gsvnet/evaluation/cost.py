"""What a network costs: bytes of parameters, and multiply-accumulates per keyframe and per other frame.

Multiply-accumulates (MACs) are those of convolutions and matrix products in `segment`, the figure that papers call
FLOPS; element-wise work (normalisation, resizing, the warp, the filter's weighted sum) is not among them. Local
attention counts over its windows, as AR-Seg's paper counts it; what our way over tiles multiplies beyond that stands
beside it.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.arseg import WINDOW, ARSeg, CrossResolutionFusion
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.noise import draw_chunks
from gsvnet.models.propagation import NEIGHBOURS, GuidedFilter
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.models.tdnet import TDNet


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Size and work of a network on videos of one size.

    size: (height, width) of the video. keyframe_size: of the keyframe network's input; grid: at which other frames are
    read (GSVNet's propagation, AR-Seg's low resolution), None where they are read as keyframes are.
    keyframe_parameters_bytes, propagation_parameters_bytes: as they are in memory (GSVNet's paper says "parameters" and
    means these bytes); AR-Seg propagates by its second network and the fusion, and fusion_parameters_bytes are the
    latter's alone. keyframe_macs, frame_macs: of a keyframe, of every other frame; of TDNet both are of a frame in the
    middle of a video, and differ only where keyframes alone are labeled by all sub-networks.
    published_extra_macs: what the published code spends per frame beyond ours; its figures contain it. GSVNet's shifts
    logits by a 3-D convolution with one-hot kernels, where we slice; TDNet's has a hop's convolution over all places of
    the frame that asks, on every frame, and so on keyframes (published_keyframe_extra_macs). tile_macs: what we
    multiply per frame beyond the windows of local attention, which runs over tiles; frame_macs do not contain it.
    """

    size: tuple[int, int]
    keyframe_size: tuple[int, int]
    grid: tuple[int, int] | None
    keyframe_interval: int
    keyframe_parameters_bytes: int
    propagation_parameters_bytes: int
    keyframe_macs: int
    frame_macs: int
    published_extra_macs: int = 0
    published_keyframe_extra_macs: int = 0
    tile_macs: int = 0
    fusion_parameters_bytes: int | None = None

    @property
    def average_macs(self) -> float:
        """MACs per frame, over a chunk of keyframe_interval frames."""
        return self._average(self.keyframe_macs, self.frame_macs)

    @property
    def per_frame_share(self) -> float:
        """MACs over those of the keyframe network run on every frame."""
        return self.average_macs / self.keyframe_macs if self.keyframe_macs else 1.0

    @property
    def computed_frame_macs(self) -> int:
        """MACs of a frame that is no keyframe, with what attention over tiles adds: what our code multiplies."""
        return self.frame_macs + self.tile_macs

    @property
    def computed_average_macs(self) -> float:
        """MACs per frame, over a chunk of keyframe_interval frames, with what attention over tiles adds."""
        return self._average(self.keyframe_macs, self.computed_frame_macs)

    @property
    def published_keyframe_macs(self) -> int:
        """MACs of a keyframe as the published code spends them."""
        return self.keyframe_macs + self.published_keyframe_extra_macs

    @property
    def published_frame_macs(self) -> int:
        """MACs of a frame that is no keyframe as the published code spends them, and papers count."""
        return self.frame_macs + self.published_extra_macs

    @property
    def published_average_macs(self) -> float:
        """MACs per frame, over a chunk of keyframe_interval frames, as the published code spends them."""
        return self._average(self.published_keyframe_macs, self.published_frame_macs)

    def to_dict(self) -> dict:
        """JSON-ready; bytes by part of the network (propagation contains fusion), MACs as numbers (not in billions)."""
        return {
            "size": list(self.size),
            "keyframe_size": list(self.keyframe_size),
            "grid": None if self.grid is None else list(self.grid),
            "keyframe_interval": self.keyframe_interval,
            "parameters_bytes": {
                "keyframe_network": self.keyframe_parameters_bytes,
                "propagation": self.propagation_parameters_bytes,
                **({} if self.fusion_parameters_bytes is None else {"fusion": self.fusion_parameters_bytes}),
            },
            "keyframe_macs": self.keyframe_macs,
            "frame_macs": self.frame_macs,
            "average_macs": self.average_macs,
            "per_frame_share": self.per_frame_share,
            "published_frame_macs": self.published_frame_macs,
            "published_average_macs": self.published_average_macs,
            "computed_frame_macs": self.computed_frame_macs,
            "computed_average_macs": self.computed_average_macs,
        }

    def _average(self, keyframe_macs: int, frame_macs: int) -> float:
        return (keyframe_macs + (self.keyframe_interval - 1) * frame_macs) / self.keyframe_interval


@torch.no_grad()
def measure_cost(model: VideoSegmenter, *, height: int, width: int, keyframe_interval: int) -> Cost:
    """Cost of a network on videos of height x width pixels; counted on a copy in evaluation mode.

    A frame that is no keyframe costs what the second frame of a chunk adds to the first; between two keyframes that
    propagate to it, what the others of a whole chunk add on average. A network that reads the next keyframe too runs
    two keyframes for a chunk alone, of which the second belongs to the next chunk: it counts once. A network that looks
    at frames around a batch runs them for a chunk alone, too; they belong to other chunks, and a keyframe costs what a
    second chunk of one frame adds. Raises ConfigError for bad arguments, ModelError for what is
    no module.
    """
    check_positive(height=height, width=width, keyframe_interval=keyframe_interval)
    if not isinstance(model, nn.Module):
        raise ModelError(f"cost is counted of a torch.nn.Module, not of {type(model).__name__}")
    needs = model.needs(height, width)
    num_frames = keyframe_interval if needs.next_frame and needs.next_keyframe and keyframe_interval > 2 else 2
    keyframe, both = (_count_macs(model, height, width, num_frames=n) for n in (1, num_frames))
    keyframe_macs = keyframe.architecture // keyframe.keyframes
    if needs.before or needs.after:
        keyframe_macs = _count_macs(model, height, width, num_frames=1, num_chunks=2).architecture
        keyframe_macs -= keyframe.architecture
    extra = _published_extra_macs(model, height, width)
    keyframe_bytes, all_bytes = _parameters_bytes(_keyframe_part(model)), _parameters_bytes(model)
    return Cost(
        size=(height, width),
        keyframe_size=needs.keyframe_size,
        grid=needs.frame_size,
        keyframe_interval=keyframe_interval,
        keyframe_parameters_bytes=keyframe_bytes,
        propagation_parameters_bytes=all_bytes - keyframe_bytes,
        keyframe_macs=keyframe_macs,
        frame_macs=(both.architecture - keyframe.architecture) // (num_frames - 1),
        published_keyframe_extra_macs=extra[0],
        published_extra_macs=extra[1],
        tile_macs=both.tiles - keyframe.tiles,
        fusion_parameters_bytes=_parameters_bytes(model.fusion) if isinstance(model, ARSeg) else None,
    )


def check_positive(**values: int) -> None:
    """Raises ConfigError naming the first of the values that is below 1."""
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name.replace('_', ' ')} {value} must be >= 1")


def _keyframe_part(model: nn.Module) -> nn.Module:
    """What runs on keyframes."""
    return model.keyframe_network if isinstance(model, GSVNet | ARSeg) else model


@dataclass(frozen=True, kw_only=True)
class _Macs:
    """MACs of the architecture, what attention over tiles adds, and how many keyframes ran."""

    architecture: int
    tiles: int
    keyframes: int


def _count_macs(model: nn.Module, height: int, width: int, *, num_frames: int, num_chunks: int = 1) -> _Macs:
    """MACs of chunks of some frames each, and of the frames around them.

    Attention that is not caught by name runs as plain matrix products: its fused CPU kernel is unknown to the counter.
    """
    evaluated = _copy_without_values(model) if isinstance(model, TDNet) else copy.deepcopy(model)
    evaluated.eval()
    assert isinstance(evaluated, VideoSegmenter)
    device = next((parameter.device for parameter in evaluated.parameters()), torch.device("cpu"))
    chunks = draw_chunks(
        evaluated, height=height, width=width, num_chunks=num_chunks, interval=num_frames, device=device
    )
    attention = _SkipAttention(evaluated)
    with FlopCounterMode(display=False) as counter, _SkipConvolutions(), attention, sdpa_kernel(SDPBackend.MATH):
        for _ in evaluated.segment(chunks):
            pass
    return _Macs(
        architecture=counter.get_total_flops() // 2 + attention.macs - attention.beyond_windows,
        tiles=attention.beyond_windows,
        keyframes=len(chunks.keyframes),
    )


def _copy_without_values(model: TDNet) -> TDNet:
    """A copy that knows shapes alone, which suffice: nothing that it does depends on a pixel. No frame runs twice."""
    tensors = {id(p): nn.Parameter(p.to("meta")) for p in model.parameters()}
    tensors |= {id(b): b.to("meta") for b in model.buffers()}  # type: ignore[misc]
    evaluated = copy.deepcopy(model, tensors)
    evaluated.micro_batch = 1
    return evaluated


class _SkipAttention(TorchFunctionMode):
    """Attention gives zeros of its shape and is counted, not computed: over a large map it would take long.

    Batch norms, which are not counted, leave their input as it is.

    macs: of all attention that ran. beyond_windows: those of them that a fusion spends beyond the 7 x 7 places of each
    window, which take it one product for the score and one for the weighted sum.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.macs = self.beyond_windows = 0
        for part in model.modules():
            if isinstance(part, CrossResolutionFusion):
                part.register_forward_pre_hook(self._enter)
                part.register_forward_hook(self._leave)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return args[0] if func is torch.batch_norm else func(*args, **(kwargs or {}))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        self.macs += query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        return query.new_zeros(*query.shape[:-1], value.shape[-1])

    def _enter(self, fusion: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.beyond_windows -= self.macs

    def _leave(self, fusion: nn.Module, inputs: tuple[Tensor, ...], fused: Tensor) -> None:
        self.beyond_windows += self.macs - 2 * WINDOW**2 * fused.numel()


class _SkipConvolutions(TorchDispatchMode):
    """Convolutions give zeros of their shape and are counted, not computed: that would take most of the time."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.ops.aten.convolution.default:
            return func(*args, **(kwargs or {}))
        shapes_only = [value.to("meta") if isinstance(value, torch.Tensor) else value for value in args]
        return args[0].new_zeros(func(*shapes_only).shape)


def _published_extra_macs(model: nn.Module, height: int, width: int) -> tuple[int, int]:
    """What published code spends beyond ours, on a keyframe and on another frame."""
    if isinstance(model, TDNet):
        extra, looks = _late_hop_macs(model, height, width), model.num_sub_networks
        return extra * (1 if model.ensemble == "none" else looks), extra * (looks if model.ensemble == "all" else 1)
    grid = model.needs(height, width).frame_size if isinstance(model, GSVNet) else None
    return 0, _shift_macs(model, grid) if isinstance(model, GSVNet) and grid else 0


def _late_hop_macs(model: TDNet, height: int, width: int) -> int:
    """What the last hop's convolution takes behind its attention, over the frame's places, beyond before it."""
    trunk, stride = model.sub(0).trunk, model.memory_stride
    rows, columns = trunk.feature_size(*model.needs(height, width).keyframe_size)
    remembered = math.ceil(rows / stride) * math.ceil(columns / stride)
    windows = {"none": 0, "before": 1, "nearest": 1, "both": 2}[model.references]
    return windows * (rows * columns - remembered) * trunk.value_channels**2


def _shift_macs(model: GSVNet, grid: tuple[int, int]) -> int:
    """MACs of the published shift: nine 3x3 kernels (one is never filled) over every class and pixel of the grid."""
    if not any(isinstance(part, GuidedFilter) for part in model.modules()):
        return 0
    return (len(NEIGHBOURS) + 1) * 3 * 3 * len(model.classes) * math.prod(grid)


def _parameters_bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
