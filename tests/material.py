"""What tests label: small drawn videos, and a checkpoint that is fast and whose labels are far from uniform."""

from __future__ import annotations

from pathlib import Path


def save_tiny_model(path: Path) -> Path:
    """A GSVNet checkpoint with random weights that reads 48 rows."""
    import torch

    from gsvnet.classes import CAMVID
    from gsvnet.models.checkpoints import save_checkpoint
    from gsvnet.models.segmenter import SizeRule
    from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model

    normalise = NormaliseSpec(mean=(0.41, 0.42, 0.43), std=(0.27, 0.28, 0.28))
    spec = ModelSpec(
        family="gsvnet-swiftnet",
        classes=CAMVID,
        normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(rows=48, strides=(4,), min_grid_rows=12),
        align_corners=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, build_model(spec))
    return path


def write_drives(folder: Path, lengths: dict[str, int]) -> list[Path]:
    """Drawn streets of 72x96 pixels. lengths: file name -> frames; the suffix picks the container."""
    from gsvnet.synthetic import SceneConfig, write_video

    return [
        write_video(folder / name, config=SceneConfig(height=72, width=96, seed=seed), num_frames=length, gop=12)
        for seed, (name, length) in enumerate(lengths.items())
    ]
