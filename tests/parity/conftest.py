"""Parity files: the authors' inputs and outputs, and their weights regrown from parameter names."""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gsvnet.models.gsvnet import Propagation
from gsvnet.models.published import KERNELS_NAME, ideal_kernels, published_name

LATER = ("arseg", "tdnet", "etc")  # families whose networks are not here yet


class Golden:
    """What one `.npz` says about itself; `golden["in.image"]` is a tensor as stored."""

    def __init__(self, path: Path) -> None:
        self.members = np.load(path)
        self.meta = json.loads(str(self.members["meta_json"]))
        self.roles = tuple(self.meta["roles"])

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.members[name])

    def names(self, prefix: str) -> list[str]:
        """Members that start so, in the file's order."""
        return [name for name in self.members.files if name.startswith(prefix)]

    def weights(self, role: str) -> dict[str, Tensor]:
        """The official state dict of one network, filled by the rule in the folder's README."""
        shapes = json.loads(str(self.members[f"shapes_json.{role}"]))
        return {str(name): self._fill(str(name), tuple(shapes[name])) for name in self.members[f"keys.{role}"]}

    def keyframe_family(self, role: str) -> str:
        """Which keyframe network the names belong to."""
        first = str(self.members[f"keys.{role}"][0]).split(".")[0]
        return {"backbone": "swiftnet", "context_path": "bisenet"}[first]

    @property
    def num_classes(self) -> int:
        """Classes of the file's networks, from the size of a last layer; 2 where it has none."""
        last = ("grm.intra_net.intra_net.6.bias", "logits.conv.bias", "heads.2.conv_1x1.bias")
        shapes = json.loads(str(self.members["shapes_json"]))
        return next((shape[0] for name, shape in shapes.items() if name.endswith(last)), 2)

    def publish_keyframe(self, role: str, path: Path) -> Path:
        """Write the keyframe network as its authors do."""
        weights = self.weights(role)
        torch.save({"state_dict": weights} if self.keyframe_family(role) == "bisenet" else weights, path)
        return path

    def publish_propagation(self, path: Path) -> Path:
        """Write a training checkpoint as GSVNet's authors do; a network that the file does not have is random."""
        fresh = Propagation(num_classes=self.num_classes).state_dict()
        weights = {published_name(name): tensor for name, tensor in fresh.items()} | {KERNELS_NAME: ideal_kernels()}
        for role in ("flow", "gsv"):
            if role in self.roles:
                weights |= self.weights(role)
        gsv = {name: tensor for name, tensor in weights.items() if name.startswith("grm.")}
        flow = {name: tensor for name, tensor in weights.items() if not name.startswith("grm.")}
        rest = {"epoch": 1, "optimizer": {}, "best_pred": 0.0, "args": argparse.Namespace(dataset="cityscapes")}
        torch.save({"state_dict": gsv, "state_dict_of": flow, **rest}, path)
        return path

    def _fill(self, name: str, shape: tuple[int, ...]) -> Tensor:
        for kind in ("override", "fixed"):
            if f"{kind}.{name}" in self.members.files:
                return self[f"{kind}.{name}"]
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "num_batches_tracked":
            return torch.zeros(shape, dtype=torch.int64)
        g = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
            values = g.uniform(0.5, 1.5, size=shape)
        elif leaf == "running_mean":
            values = 0.1 * g.standard_normal(size=shape)
        elif len(shape) >= 2:
            values = g.standard_normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values = 0.05 * g.standard_normal(size=shape)
        return torch.from_numpy(np.asarray(values, dtype=np.float32))


def pytest_generate_tests(metafunc):
    """One test per file for every test that asks for `golden`, or for `pipeline`: whole networks of built families."""
    folder = getattr(metafunc.config, "parity_dir", None)
    paths = sorted(folder.glob("*.npz")) if folder else []
    if "golden_path" in metafunc.fixturenames:
        metafunc.parametrize("golden_path", [_or_skipped(path) for path in paths] or [_or_skipped(None)])
    if "pipeline_path" in metafunc.fixturenames:
        whole = [path for path in paths if "_pipeline_" in path.stem and path.stem.split("_")[0] not in LATER]
        metafunc.parametrize("pipeline_path", [_or_skipped(path) for path in whole] or [_or_skipped(None)])


def _or_skipped(path: Path | None):
    if path is None:
        skip = pytest.mark.skip(reason="parity files are absent; name their folder in GSVNET_PARITY")
        return pytest.param(None, id="absent", marks=skip)
    family = path.stem.split("_")[0]
    marks = [pytest.mark.skip(reason=f"the networks of {family} are not built yet")] if family in LATER else []
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.fixture
def golden(golden_path) -> Golden:
    return Golden(golden_path)


@pytest.fixture
def pipeline(pipeline_path) -> Golden:
    return Golden(pipeline_path)
