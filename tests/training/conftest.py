"""Tiny networks, stills and CamVid folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.models import spec
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.segmenter import Normalise
from gsvnet.models.split import SplitNetwork
from gsvnet.training.stills import Stills


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def normalise() -> Normalise:
    return Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture
def tiny_network():
    """A function that makes the same network, logits at 1/2, for a number of classes again and again."""

    def make(num_classes: int) -> nn.Module:
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, num_classes, 1),
        )

    return make


@pytest.fixture
def tiny_stills() -> Stills:
    """Four stills of 24 x 32 in three colours that are the three classes, with an ignored border."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, (4, 3, 4), dtype=np.uint8)).repeat_interleave(8, 1)
    labels = labels.repeat_interleave(8, 2)
    colours = torch.tensor([[200, 40, 40], [40, 200, 40], [40, 40, 200]], dtype=torch.uint8)
    images = colours[labels.long()].permute(0, 3, 1, 2).contiguous()
    labels[:, :, 0] = 255
    return Stills(images=images, labels=labels)


@pytest.fixture
def camvid_folder(tmp_path) -> Path:
    """CamVid's layout with two train images of 64 x 96 and one of val; void is 11."""
    root = tmp_path / "camvid"
    rows = ["split,sequence,frame_30hz,stem"]
    for split, frame in (("train", 30), ("train", 60), ("val", 90)):
        stem = f"S_{frame:05d}"
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        labels = np.full((64, 96), frame // 30, np.uint8)
        labels[:4] = 11
        Image.fromarray(np.full((64, 96, 3), frame, np.uint8)).save(root / "images" / split / f"{stem}.png")
        Image.fromarray(labels).save(root / "labels" / split / f"{stem}.png")
        rows.append(f"{split},S,{frame},{stem}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    names = ", ".join(f'"{name}"' for name in CAMVID.names)
    (root / "classes.json").write_text(f'{{"classes": [{names}], "void": 11}}')
    return root


class TinySplit(SplitNetwork):
    """Features at 1/2, four channels; a batch norm, so that its evaluation differs from its training."""

    feature_channels = 4
    bytes_per_pixel = 40
    classifiers = ("last",)

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.last = nn.Conv2d(4, num_classes, 1)

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        return -(-height // 2), -(-width // 2)

    def extract(self, image: torch.Tensor) -> torch.Tensor:
        return self.first(image)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.last(features)

    def drop_auxiliary_heads(self) -> None:
        pass


@pytest.fixture
def tiny_family(monkeypatch) -> type[TinySplit]:
    """The network that checkpoints of this test call bisenetv1: what a command does with it takes no time."""
    for networks in (spec.SPLIT_NETWORKS, spec.KEYFRAME_NETWORKS, spec._KINDS):
        monkeypatch.setitem(networks, "bisenetv1", TinySplit)
    return TinySplit


COLOURS = ClassSet(
    name="colours", names=("red", "green", "blue"), colours=((200, 40, 40), (40, 200, 40), (40, 40, 200))
)


@pytest.fixture
def tiny_arseg(normalise):
    """A function that makes the same AR-Seg of tiny networks, three classes, again and again; in eval mode."""

    def make() -> ARSeg:
        torch.manual_seed(7)
        networks = [TinySplit(3) for _ in range(2)]
        networks[1].load_state_dict(networks[0].state_dict())
        fusion = CrossResolutionFusion(channels=4)
        return ARSeg(*networks, fusion, classes=COLOURS, normalise=normalise).eval()

    return make
