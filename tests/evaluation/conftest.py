"""CamVid in miniature, drawn: frames whose red channel tells their labels, so that a perfect network is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.evaluation.dataset import Clip, Frame, LabelIds
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.segmenter import Normalise
from tests.tiny_arseg import CHANNELS, TinySplit

VOID = 11


@pytest.fixture(scope="session")
def write_camvid() -> Callable[..., Path]:
    return _write_camvid


def _write_camvid(root: Path, truths: np.ndarray, *, split: str = "val", step: int = 2) -> Path:
    """Truths (N, H, W) with ids 0..10 and VOID, `step` frames at 30 Hz apart, in CamVid's layout under root."""
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True)
    rows = ["split,sequence,frame_30hz,stem,prev_stem,gap_frames"]
    for i, truth in enumerate(truths):
        stem = f"drive_{100 + i * step:05d}"
        rows.append(f"{split},drive,{100 + i * step},{stem},,")
        image = np.zeros((*truth.shape, 3), np.uint8)
        image[..., 0] = truth * 20
        image[..., 2] = i
        Image.fromarray(image).save(root / "images" / split / f"{stem}.webp", lossless=True)
        Image.fromarray(truth.astype(np.uint8)).save(root / "labels" / split / f"{stem}.png")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    classes = ["signsymbol" if name == "sign symbol" else name for name in CAMVID.names]
    (root / "classes.json").write_text(json.dumps({"classes": classes, "void": VOID}))
    return root


@pytest.fixture
def make_arseg() -> Callable[..., ARSeg]:
    """make_arseg(**options): a tiny AR-Seg of CamVid's classes with random weights, in evaluation mode."""

    def make(**options) -> ARSeg:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            networks = [TinySplit(num_classes=11) for _ in range(2)]
            fusion = CrossResolutionFusion(channels=CHANNELS)
        normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
        return ARSeg(*networks, fusion, classes=CAMVID, normalise=normalise, **options).eval()

    return make


@pytest.fixture
def moving_clip(tmp_path) -> Clip:
    """Ten images of 64x96 pixels: a pattern that moves 2 to the left each; what was at x + 2 is at x in the next."""
    generator = torch.Generator().manual_seed(3)
    pattern = torch.rand(1, 3, 20, 36, generator=generator)
    pattern = nn.functional.interpolate(pattern, (80, 144), mode="bicubic").clamp(0, 1)[0]
    pixels = (255 * pattern).to(torch.uint8).permute(1, 2, 0).numpy()
    ids = LabelIds(classes={i: i for i in range(11)}, allowed="0..10")
    labels, frames = tmp_path / "labels.png", []
    Image.fromarray(np.full((64, 96), 3, np.uint8)).save(labels)
    for index in range(10):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.ascontiguousarray(pixels[8:72, 8 + 2 * index : 104 + 2 * index])).save(path)
        frames.append(Frame(image=path, labels=labels, ids=ids))
    return Clip(name="moving", frames=tuple(frames), scored=(9,))
