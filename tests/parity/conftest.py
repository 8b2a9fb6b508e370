"""Parity files: the authors' inputs and outputs, and their weights regrown from parameter names.

Two layouts: GSVNet's files say their `roles`, those of the other papers their `networks`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gsvnet.models.propagation import Propagation
from gsvnet.models.published import KERNELS_NAME, ideal_kernels, published_name

QUICK: dict[str, tuple[str, ...]] = {
    "tdnet_path": ("tdnet_losses", "tdnet_td2_fa18_192x384_pos0"),
    "tdnet_cut_path": (),
}
"""By fixture, how the names of files begin that take a few seconds; all others of the fixture are slow tests."""


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
        return fill(name, shape)


class OtherGolden:
    """What one `.npz` of the other layout says about itself."""

    def __init__(self, path: Path) -> None:
        self.members = np.load(path)
        self.meta = json.loads(str(self.members["meta_json"]))
        self.networks, self.outputs = self.meta["networks"], self.meta["outputs"]
        self.details = self.meta.get("meta", {})
        self.inputs = frozenset(self.meta["inputs"])

    def input(self, name: str) -> Tensor:
        """One whole input: as stored, or drawn anew where the file holds every n-th value of it."""
        about = self.meta["inputs"][name]
        values = self.members[f"in.{name}"]
        if about["draw"]:
            drawn = generator(about["draw"]["name"]).standard_normal(size=about["shape"]) * about["draw"]["scale"]
            values = drawn.astype(np.float32)
        assert hashlib.sha256(np.ascontiguousarray(values)).hexdigest() == about["sha256"], name
        return torch.from_numpy(values)

    def weights(self, role: str) -> dict[str, Tensor]:
        """The official state dict of one network, filled by the rule in the folder's README."""
        about, weights = self.networks[role], {}
        for name in about["keys"]:
            full = about["prefix"] + about["aliases"].get(name, name)
            factor = self.details.get("after_fill_multiply", {}).get(about["prefix"] + name, 1.0)
            weights[name] = fill(full, tuple(about["shapes"][name])) * factor
            if name.endswith("running_var"):
                weights[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
        return weights

    def publish(self, role: str, path: Path) -> Path:
        """Write the network as AR-Seg's authors do."""
        torch.save({f"module.{name}": tensor for name, tensor in self.weights(role).items()}, path)
        return path

    def family(self, role: str) -> str:
        """Which image network the names belong to."""
        first = self.networks[role]["keys"][0].split(".")[0]
        return {"feats": "pspnet18up", "layer0": "pspnet18", "cp": "bisenetv1"}[first]

    def num_classes(self, role: str) -> int:
        """Length of the last layer."""
        return self.networks[role]["shapes"]["final_conv.bias"][0]

    def shape(self, name: str) -> list[int]:
        """Of a whole output."""
        return self.outputs[name]["shape"]

    def thin(self, name: str, whole: Tensor) -> Tensor:
        """Every n-th value of a whole output, as the file holds it."""
        assert list(whole.shape) == self.shape(name), name
        return whole[tuple(slice(None, None, step) for step in self.outputs[name]["stride"])]


class TdnetGolden(OtherGolden):
    """A file of TDNet's: videos have inputs frame0, frame1, ..."""

    def publish(self, role: str, path: Path) -> Path:
        """Write the network as TDNet's authors do: those that come with training code as training leaves them."""
        weights = self.weights(role)
        is_training_file = self.family(role) == "td2-fanet18"
        torch.save({"epoch": 1, "model_state": weights, "best_iou": 0.0} if is_training_file else weights, path)
        return path

    def family(self, role: str) -> str:
        """What we call the network."""
        return {
            "td4_psp18": "td4-pspnet18",
            "td2_psp50": "td2-pspnet50",
            "td2_fa": "td2-fanet18",
            "pspnet": "pspnet101",
        }[self.networks[role]["ctor"]]

    def video(self) -> Tensor:
        """All frames, (videos, frames, 3, H, W)."""
        return torch.stack([self.input(f"frame{i}") for i in range(len(self.inputs))], dim=1)


class EtcGolden(OtherGolden):
    """A file of ETC's."""

    def publish(self, role: str, path: Path) -> Path:
        """Write the network as ETC's authors do: as the student beside what it was trained with."""
        student = {f"module.student.{name}": tensor for name, tensor in self.weights(role).items()}
        beside = {f"module.{name}.weight": torch.zeros(2) for name in ("flownet.conv", "teacher.cls.0", "criterion")}
        torch.save({"epoch": 1, "state_dict": student | beside, "optimizer": {}}, path)
        return path

    def num_classes(self, role: str) -> int:
        """Length of the last layer."""
        return self.networks[role]["shapes"]["cls.4.bias"][0]


def generator(name: str) -> np.random.Generator:
    """Random numbers that a name stands for."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """The parameter or buffer of that full name."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    g = generator(name)
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
    """One test per file for every test that asks for `golden` or `other`, each of one layout, or for `pipeline`: whole
    networks of built families.
    """
    folder = getattr(metafunc.config, "parity_dir", None)
    paths = sorted(folder.glob("*.npz")) if folder else []
    chosen = {
        "golden_path": lambda path: not is_other(path),
        "other_path": lambda path: is_other(path) and path.stem.startswith("arseg_"),
        "tdnet_path": lambda path: path.stem.startswith("tdnet_"),
        "tdnet_cut_path": is_small_video,
        "etc_path": lambda path: path.stem.startswith("etc_"),
        "pipeline_path": lambda path: "_pipeline_" in path.stem,
    }
    for fixture, is_wanted in chosen.items():
        if fixture in metafunc.fixturenames:
            wanted = [_or_skipped(path, quick=QUICK.get(fixture)) for path in paths if is_wanted(path)]
            metafunc.parametrize(fixture, wanted or [_or_skipped(None)])


def is_other(path: Path) -> bool:
    """Whether a file has the layout that says `networks`."""
    return "networks" in json.loads(str(np.load(path)["meta_json"]))


def is_small_video(path: Path) -> bool:
    """Whether a file holds TDNet's labels of a small video's frames."""
    if not (path.stem.startswith("tdnet_") and "frames" in path.stem):
        return False
    frame = json.loads(str(np.load(path)["meta_json"]))["inputs"]["frame0"]
    return frame["shape"][-2] < 400


def _or_skipped(path: Path | None, quick: tuple[str, ...] | None = None):
    if path is None:
        skip = pytest.mark.skip(reason="parity files are absent; name their folder in GSVNET_PARITY")
        return pytest.param(None, id="absent", marks=skip)
    marks = [] if quick is None or path.stem.startswith(quick) else [pytest.mark.slow]
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.fixture
def golden(golden_path) -> Golden:
    return Golden(golden_path)


@pytest.fixture
def other(other_path) -> OtherGolden:
    return OtherGolden(other_path)


@pytest.fixture
def tdnet(tdnet_path) -> TdnetGolden:
    return TdnetGolden(tdnet_path)


@pytest.fixture
def tdnet_cut(tdnet_cut_path) -> TdnetGolden:
    return TdnetGolden(tdnet_cut_path)


@pytest.fixture
def etc(etc_path) -> EtcGolden:
    return EtcGolden(etc_path)


@pytest.fixture
def pipeline(pipeline_path) -> Golden:
    return Golden(pipeline_path)
