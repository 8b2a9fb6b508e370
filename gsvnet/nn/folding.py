"""Batch norms that follow a convolution, folded into its weights: one pass over each feature map less."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose convolutions do the work of the batch norms after them.

    A pair are a convolution and the batch norm declared right after it in the same module, with as many channels; that
    is how networks are written, in `nn.Sequential` and as attributes alike, but nothing enforces it: compare the copy's
    results with the original's (`prepare_for_inference` does). The numbers differ in the last bits.
    """
    folded = copy.deepcopy(module).eval()
    for parent in list(folded.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if _is_pair(conv, norm):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var, arg-type]
                setattr(parent, norm_name, nn.Identity())
    return folded


def _is_pair(conv: nn.Module, norm: nn.Module) -> bool:
    return (
        type(conv) is nn.Conv2d
        and type(norm) is nn.BatchNorm2d
        and conv.out_channels == norm.num_features
        and norm.running_mean is not None
    )
