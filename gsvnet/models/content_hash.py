"""What tells two networks apart: a hash of all that decides their numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gsvnet.models.segmenter import Normalise

_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_affine_float_qparams)


def content_hash(model: nn.Module) -> str:
    """sha256 (64 hex digits) of what decides a network's numbers.

    Over name, dtype, shape and bytes of every parameter and buffer in order of names (normalisation constants too,
    which no state dict holds), of what else its state dict holds, as that of quantised networks does, and each
    normalisation's scale and channel order.
    """
    digest = hashlib.sha256()
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    tensors |= {name: part for name, part in _further_state(model) if name not in tensors}
    for name, tensor in sorted(tensors.items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {tuple(data.shape)}\n".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, part in model.named_modules():
        if isinstance(part, Normalise):
            digest.update(f"{name} {part.scale!r} {part.channels}\n".encode())
    return digest.hexdigest()


def _further_state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a state dict by name: of quantised ones their integers, scale and zero point, of tuples each part."""

    def unpack(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
        if isinstance(value, tuple | list):
            for number, part in enumerate(value):
                yield from unpack(f"{name}.{number}", part)
        elif isinstance(value, Tensor) and value.is_quantized:
            yield f"{name}.integers", value.int_repr()
            per_channel = value.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams)
            yield f"{name}.scales", value.q_per_channel_scales() if per_channel else torch.tensor(value.q_scale())
            yield (
                f"{name}.zeros",
                value.q_per_channel_zero_points() if per_channel else torch.tensor(value.q_zero_point()),
            )
        elif isinstance(value, Tensor):
            yield name, value

    for name, value in model.state_dict().items():
        yield from unpack(name, value)
