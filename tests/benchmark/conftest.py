"""A tiny setting: a drawn clip of 64x128 pixels and a stand-in's shape with random weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gsvnet.benchmark.footage import ClipConfig, prepare_clip
from gsvnet.benchmark.setting import Setting
from gsvnet.models.published import PUBLISHED
from gsvnet.models.spec import build_model

TINY = ClipConfig(height=64, width=128, frames=12, drawn=4, gop=5)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    return prepare_clip(TINY, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def tiny_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(replace(PUBLISHED["gsvnet-swiftnet"], resize="area")).eval()


@pytest.fixture
def tiny_setting(tiny_clip, tiny_network, tmp_path) -> Setting:
    return Setting(folder=tmp_path, video=tiny_clip, model=tiny_network, threads=1, rounds=1, size=(64, 128))
