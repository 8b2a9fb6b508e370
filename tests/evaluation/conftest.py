"""CamVid in miniature, drawn: frames whose red channel tells their labels, so that a perfect network is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsvnet.classes import CAMVID

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
