"""What a precision means on a device, and whether the processor is made for it."""

from __future__ import annotations

import torch

from gsvnet.models.prepared import Precision

_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # x86-64 and ARM64


def resolve_precision(precision: str, device: str) -> Precision:
    """What "auto" means on a device: bf16 on CUDA; fp32 on a CPU, where labels of all processors then agree best."""
    if precision == "auto":
        return "bf16" if device == "cuda" else "fp32"
    return "bf16" if precision == "bf16" else "fp32"


def advise_precision(precision: str, device: str) -> tuple[str, ...]:
    """What a person should know who asked for `precision` on this machine; mostly nothing.

    A CPU without bf16 instructions emulates them, slower than fp32; one that has them is faster with bf16.
    """
    has_bf16 = cpu_has_bf16() if device == "cpu" else None
    if precision == "bf16" and has_bf16 is False:
        return ("this processor has no bf16 instructions and emulates them; --precision fp32 is faster here",)
    if precision == "auto" and has_bf16:
        return ("this processor has bf16 instructions; --precision bf16 is faster here",)
    return ()


def cpu_has_bf16() -> bool | None:
    """Whether the processor computes in bf16; None where an older torch cannot say."""
    read = getattr(torch.cpu, "get_capabilities", None)
    return None if read is None else any(read().get(name) for name in _BF16_INSTRUCTIONS)
