"""What of a network of one's own decides about an output, beside its weights."""

from __future__ import annotations

import pytest
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.labeling.fingerprint import describe_settings
from gsvnet.models.segmenter import Normalise, PerFrame


class Telling(nn.Module):
    def extra_repr(self) -> str:
        return repr(lambda x: x)  # a name and an address


def settings(*parts: nn.Module, align_corners: bool = True, **options) -> dict:
    net = nn.Sequential(nn.Conv2d(3, 11, 3, padding="same", **options), *parts)
    normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    return describe_settings(PerFrame(net, classes=CAMVID, normalise=normalise, align_corners=align_corners))


@pytest.mark.parametrize("other", [{"dilation": 2}, {"padding_mode": "reflect"}, {"align_corners": False}])
def test_networks_with_the_same_weights_are_told_apart(other):
    assert settings() == settings()
    assert settings(**other) != settings()


def test_addresses_in_memory_do_not_count():
    assert settings(Telling()) == settings(Telling())
