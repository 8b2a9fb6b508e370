"""What tells two networks apart beside their parameters; the rest is in test_checkpoints."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from gsvnet.models.content_hash import content_hash


def quantised(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves quantisation into a package of its own
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})


@pytest.mark.skipif(not torch.backends.quantized.supported_engines[1:], reason="torch was built without quantisation")
def test_quantised_networks_are_told_apart_by_their_weights():
    """They are no parameters, and no buffers."""
    assert not list(quantised(0).parameters())
    assert content_hash(quantised(0)) == content_hash(quantised(0))
    assert content_hash(quantised(0)) != content_hash(quantised(1))
