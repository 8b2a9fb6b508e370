"""What `gsvnet train keyframe` can be told. The command line is generated from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gsvnet.errors import ConfigError
from gsvnet.labeling.config import parse_size
from gsvnet.training.checks import (
    Device,
    LabelLoss,
    Optimiser,
    Precision,
    check_finite,
    check_hold_out,
    check_least,
    check_out,
    check_positive,
    check_temper,
)


@dataclass(frozen=True, kw_only=True)
class TrainKeyframeConfig:
    """Train a network that labels every image by itself, on CamVid's train split, drawn street scenes, or both."""

    out: Path
    """Checkpoint to write (.safetensors). What a rerun needs is kept in OUT.training beside it."""

    camvid: Path | None = None
    """Folder of CamVid; its train split is used, never val or test."""

    synthetic_scenes: int = 0
    """Drawn street scenes to add, one image of each, with exact labels."""

    teacher: Path | None = None
    """Checkpoint of a network with the same classes; its soft labels of every view are learned too."""

    distillation: float = 1.0
    """How much the divergence from the teacher counts beside cross-entropy, per pixel."""

    unlabelled: tuple[str, ...] = ()
    """Real videos, or folders of images, without labels (paths, globs, folders, URIs), for the teacher to label."""

    unlabelled_step: int = 10
    """Of unlabelled videos every so many frames are taken, and held in memory, 0.7 MB each."""

    hold_out: float = 0.0
    """Keep the last so much (0.15: 15 %) of every drive out of training, and score it after every epoch."""

    family: Literal["swiftnet", "bisenet", "espnetv2", "fastscnn", "bisenetv1", "pspnet18", "pspnet18up"] | None = None
    """Which network; default: that of --init, else swiftnet."""

    init: Path | None = None
    """Checkpoint to start from, of any classes; default: random weights."""

    keyframe_scale: float = 1.0
    """How large the network will read images when it labels, relative to 360 rows; the views' scales should lie about
    it. 1.5 finds small things better and costs 2.25 times as much per keyframe."""

    epochs: int = 100
    """Passes over all images."""

    batch_size: int = 8
    """Views per step, on all GPUs together."""

    crop: str = "320x416"
    """Size of the views that the network sees, HEIGHTxWIDTH in pixels."""

    scales: tuple[float, float] = (0.6, 1.8)
    """Zoom range of the views; larger is nearer."""

    loss: LabelLoss = "cross-entropy"
    """cross-entropy: of all pixels, with class weights. ohem: of the pixels that the network is worst at, without; how
    AR-Seg's authors train BiSeNet."""

    optimiser: Optimiser = "adamw"
    """sgd: with Nesterov momentum 0.9, for much larger learning rates."""

    learning_rate: float = 8e-4
    """Peak of the learning rate: linear warm-up, then half a cosine."""

    warmup_steps: int = 200
    """Steps until the peak."""

    weight_decay: float = 1e-2
    """Of convolutions."""

    weight_temper: float = 1.1
    """Classes weigh 1 / ln(temper + share of pixels): a rare one 3.6 times what road does at 1.1, 1.5 times at 1.5."""

    precision: Precision = "bf16"
    """bf16: mixed precision, faster on processors that know it."""

    device: Device = "auto"
    """auto: CUDA if there is one."""

    threads: int = 0
    """Threads on the CPU; 0: torch's own choice."""

    seed: int = 0
    """Of weights, views and scenes."""

    def __post_init__(self) -> None:
        check_out(self.out)
        if self.camvid is None and self.synthetic_scenes == 0 and not self.unlabelled:
            raise ConfigError("nothing to train on; give --camvid FOLDER, --synthetic-scenes N, or both")
        if self.hold_out and self.camvid is None and self.synthetic_scenes == 0:
            raise ConfigError(
                "--hold-out: nothing is labelled; give --camvid FOLDER or --synthetic-scenes N to score on"
            )
        if self.unlabelled and self.teacher is None:
            raise ConfigError("--unlabelled: who labels these? Give --teacher CHECKPOINT")
        check_least(self, {"synthetic_scenes": 0, "epochs": 1, "batch_size": 2, "warmup_steps": 0, "threads": 0})
        check_least(self, {"seed": 0, "unlabelled_step": 1, "distillation": 0})
        check_positive(self, "learning_rate")
        check_temper(self.weight_temper)
        check_hold_out(self.hold_out)
        if not 0 < self.keyframe_scale <= 4:
            raise ConfigError(f"--keyframe-scale {self.keyframe_scale}: must be above 0, at most 4")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ConfigError(f"--scales {self.scales[0]} {self.scales[1]}: must be positive and ascending")
        check_finite(self)
        _ = self.crop_size

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of the views in pixels."""
        size = parse_size(self.crop)
        if size is None or min(size) < 32:
            raise ConfigError(f"--crop {self.crop}: must be HEIGHTxWIDTH of at least 32x32, such as 320x416")
        return size
