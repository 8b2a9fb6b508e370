"""What `gsvnet train keyframe` and `gsvnet train propagation` can be told. The command line is generated from these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gsvnet.errors import ConfigError
from gsvnet.labeling.config import parse_size

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["bf16", "fp32"]
Optimiser = Literal["adamw", "sgd"]


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

    family: Literal["swiftnet", "bisenet", "espnetv2", "fastscnn"] | None = None
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
        _check_out(self.out)
        if self.camvid is None and self.synthetic_scenes == 0 and not self.unlabelled:
            raise ConfigError("nothing to train on; give --camvid FOLDER, --synthetic-scenes N, or both")
        if self.hold_out and self.camvid is None and self.synthetic_scenes == 0:
            raise ConfigError(
                "--hold-out: nothing is labelled; give --camvid FOLDER or --synthetic-scenes N to score on"
            )
        if self.unlabelled and self.teacher is None:
            raise ConfigError("--unlabelled: who labels these? Give --teacher CHECKPOINT")
        _check_least(self, {"synthetic_scenes": 0, "epochs": 1, "batch_size": 2, "warmup_steps": 0, "threads": 0})
        _check_least(self, {"seed": 0, "unlabelled_step": 1})
        _check_temper(self)
        _check_weight("--distillation", self.distillation)
        _check_hold_out(self.hold_out)
        if not 0 < self.keyframe_scale <= 4:
            raise ConfigError(f"--keyframe-scale {self.keyframe_scale}: must be above 0, at most 4")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ConfigError(f"--scales {self.scales[0]} {self.scales[1]}: must be positive and ascending")
        _ = self.crop_size

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of the views in pixels."""
        size = parse_size(self.crop)
        if size is None or min(size) < 32:
            raise ConfigError(f"--crop {self.crop}: must be HEIGHTxWIDTH of at least 32x32, such as 320x416")
        return size


@dataclass(frozen=True, kw_only=True)
class TrainPropagationConfig:
    """Train GSVNet's propagation for a keyframe network, which stays as it is."""

    keyframe: Path
    """Checkpoint of the keyframe network, from `gsvnet train keyframe`; of a GSVNet the keyframe network is used."""

    out: Path
    """Checkpoint to write (.safetensors), both networks. What a rerun needs is kept in OUT.training beside it."""

    camvid: Path | None = None
    """Folder of CamVid: stills of its train split, set in known motion."""

    video: tuple[str, ...] = ()
    """Real videos without labels (paths, globs, folders, URIs); the keyframe network's own labels are the targets.
    Leave out what you evaluate on."""

    synthetic_clips: int = 0
    """Clips of drawn street scenes, with exact labels."""

    still_share: float = 2.0
    """How often clips made from stills are drawn, relative to the other two kinds."""

    synthetic_share: float = 1.0
    """How often clips of drawn scenes are drawn."""

    video_share: float = 1.0
    """How often clips of real videos are drawn."""

    video_frames: int = 300
    """Most frames to read of each video, from its start. Their labels and logits stay in memory, 0.6 MB per frame."""

    synthetic_frames: int = 30
    """Frames of each drawn clip."""

    stride: int | None = None
    """Pixels of the 360-row frame (of the frame, where the keyframe network has no rows of its own) per pixel of the
    grid that labels are propagated on; a finer grid keeps thin things and costs more. Default: as --keyframe says."""

    without_intra: bool = False
    """Leave the intra network out, as in the second half of the paper's Table 4: an ablation."""

    init: Path | None = None
    """GSVNet checkpoint whose propagation to start from; default: random weights."""

    distillation: float = 0.0
    """How much the divergence from the keyframe network's own output on each frame counts beside cross-entropy, per
    pixel; GSVNet's authors: 10 / number of classes."""

    flow_supervision: float = 0.0
    """How much each pixel of error of the flow counts, where the true flow is known: stills in motion, drawn streets.
    GSVNet's authors: 0."""

    hold_out: float = 0.0
    """Keep the last so much (0.15: 15 %) of every drive and video out of training, and score it every 100 steps."""

    optimiser: Optimiser = "adamw"
    """sgd: with Nesterov momentum 0.9, for much larger learning rates."""

    last_steps: int = 0
    """Learn only from so many last steps of each clip; 0: from all. GSVNet's authors: 2."""

    steps: int = 900
    """Batches to learn from."""

    batch_size: int = 4
    """Clips per step, on all GPUs together."""

    frames: int = 6
    """Most frames per clip, the keyframe included."""

    learning_rate: float = 2e-3
    """Peak for the intra network and the guide."""

    flow_learning_rate: float = 5e-4
    """Peak for the flow network."""

    warmup_steps: int = 50
    """Steps until the peak."""

    weight_temper: float = 1.1
    """Of the class weights, as in `gsvnet train keyframe`; best the same as there."""

    precision: Precision = "bf16"
    """bf16: mixed precision, faster on processors that know it."""

    device: Device = "auto"
    """auto: CUDA if there is one."""

    threads: int = 0
    """Threads on the CPU; 0: torch's own choice."""

    seed: int = 0
    """Of weights, clips and scenes."""

    def __post_init__(self) -> None:
        _check_out(self.out)
        if self.camvid is None and not self.video and self.synthetic_clips == 0:
            raise ConfigError("nothing to train on; give --camvid FOLDER, --video PATH, or --synthetic-clips N")
        _check_least(self, {"synthetic_clips": 0, "steps": 1, "batch_size": 1, "frames": 2, "warmup_steps": 0})
        _check_least(self, {"threads": 0, "seed": 0, "last_steps": 0})
        _check_least(self, {"video_frames": self.frames, "synthetic_frames": self.frames})
        if self.stride is not None:
            _check_least(self, {"stride": 1})
        _check_temper(self)
        _check_weight("--distillation", self.distillation)
        _check_weight("--flow-supervision", self.flow_supervision)
        _check_hold_out(self.hold_out)
        for flag, share in (
            ("--still-share", self.still_share),
            ("--synthetic-share", self.synthetic_share),
            ("--video-share", self.video_share),
        ):
            if not share > 0:
                raise ConfigError(f"{flag} {share}: must be positive; leave the input out instead")


TrainConfig = TrainKeyframeConfig | TrainPropagationConfig


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: must end in .safetensors")


def _check_temper(config: TrainConfig) -> None:
    if not config.weight_temper > 1:
        raise ConfigError(f"--weight-temper {config.weight_temper}: must be above 1")


def _check_weight(flag: str, weight: float) -> None:
    if not weight >= 0:
        raise ConfigError(f"{flag} {weight}: must not be negative")


def _check_hold_out(share: float) -> None:
    if not 0 <= share <= 0.9:
        raise ConfigError(f"--hold-out {share}: a share of the material, 0 to 0.9")


def _check_least(config: TrainConfig, least: dict[str, int]) -> None:
    for name, smallest in least.items():
        if getattr(config, name) < smallest:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} {getattr(config, name)}: at least {smallest}")
