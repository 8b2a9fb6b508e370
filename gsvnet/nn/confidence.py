"""How sure a network is of a frame: two numbers from its logits, on its own grid."""

from __future__ import annotations

import torch
from torch import Tensor


def frame_confidence(logits: Tensor, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and 5th percentile, each (N,) float32 in 0..1, of the top-1 softmax probability over each frame's grid.

    logits: (N, C, h, w) float. gain: (N, 1, h, w), the factor >= 0 by which propagation has scaled the logits; it is
    divided out, since GSVNet's dead filter tap shrinks the logits at every step without the network being less sure.
    Where it is 0 nothing is known: the probability is 1/C. The percentile is a value that occurs, the lower nearest
    rank: element floor(0.05 * (h*w - 1)), from 0, of the sorted probabilities.
    """
    # planes apart: with the classes side by side, reductions over them take longer than putting them apart
    logits = logits.to(torch.float32, memory_format=torch.contiguous_format).contiguous()
    behind = logits - logits.amax(1, keepdim=True)
    if gain is not None:
        gain = gain.float()
        behind /= torch.where(gain > 0, gain, torch.inf)
    # The top class has exp(0) above the sum: softmax without its second pass. What is far behind adds nothing to a sum
    # of at least 1, but exp is slow where it gives denormal numbers.
    probability = 1 / behind.clamp_(min=-64).exp_().sum(1).flatten(1)
    rank = (probability.shape[1] - 1) // 20 + 1
    return probability.mean(1), probability.kthvalue(rank, dim=1).values
