"""What `gsvnet train tdnet` can be told. The command line is generated from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvnet.choices import References
from gsvnet.errors import ConfigError
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
    check_shares,
    check_temper,
)


@dataclass(frozen=True, kw_only=True)
class TrainTdnetConfig:
    """Train TDNet: N networks of one kind that take turns over the frames and gather what the others saw."""

    keyframe: Path
    """Checkpoint of a trained image network that all sub-networks start from: bisenetv1, or a pspnet18."""

    out: Path
    """Checkpoint to write (.safetensors). What a rerun needs is kept in OUT.training beside it."""

    sub_networks: int = 4
    """How many take turns."""

    camvid: Path | None = None
    """Folder of CamVid: stills of its train split, set in motion; never val or test."""

    synthetic_clips: int = 0
    """Clips of drawn street scenes: near and far move differently, things cover each other."""

    unlabelled: tuple[str, ...] = ()
    """Real videos without labels (paths, globs, folders, URIs); the labels of --teacher, or else of --keyframe, are the
    targets. Leave out what you evaluate on."""

    own_labels: bool = False
    """Let those labels be the targets of drawn streets too: for a network that never saw any."""

    teacher: Path | None = None
    """Checkpoint of an image network of the same classes whose soft labels are learned from; of pspnet101 each
    sub-network alone learns from its own group of channels."""

    still_share: float = 2.0
    """How often runs are made from stills, relative to the other two kinds."""

    synthetic_share: float = 1.0
    """How often runs are taken from drawn scenes."""

    video_share: float = 1.0
    """How often runs are taken from real videos."""

    video_frames: int = 300
    """Most frames to read of each video, from its start, held in memory, 0.7 MB each at 360 rows."""

    synthetic_frames: int = 24
    """Frames of each drawn clip."""

    gap: int = 2
    """Frames of a run are 1 to so many apart."""

    crop: tuple[int, int] = (320, 416)
    """(height, width) of the window that the frames of a run show."""

    every_frame: bool = False
    """Let every frame of a run be labeled from all others of it, before and behind. Otherwise the last one alone, as
    published, from those before it, in time or, half of the time, against it."""

    references: References = "before"
    """Which frames a frame will gather from when the result labels. The training is the same."""

    loss: LabelLoss = "cross-entropy"
    """cross-entropy: of all pixels, with class weights. ohem: of the pixels that the network is worst at, without."""

    alone_weight: float = 0.5
    """How much the labels count that a sub-network makes of its frame alone."""

    auxiliary_weight: float = 0.1
    """How much the labels count that a head on the middle of its trunk makes, which is not kept."""

    distillation: float = 1.0
    """How much the divergence from --teacher counts."""

    alone_distillation: float = 0.5
    """How much, in that, what a sub-network makes of its frame alone counts."""

    hold_out: float = 0.0
    """Keep the last so much (0.15: 15 %) of every drive of CamVid out of training, and score it every 100 steps."""

    steps: int = 400
    """Steps, each of --batch-size runs."""

    batch_size: int = 8
    """Runs per step, on all GPUs together; a multiple of --sub-networks."""

    optimiser: Optimiser = "adamw"
    """sgd: with Nesterov momentum 0.9, for much larger learning rates."""

    learning_rate: float = 3e-4
    """Peak for trunks and heads, which start from the network's weights."""

    gathering_learning_rate: float = 1e-3
    """Peak for what is about other frames, and for what is new."""

    weight_decay: float = 1e-2
    """Of convolutions."""

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
    """Of runs and scenes."""

    def __post_init__(self) -> None:
        check_out(self.out)
        if self.camvid is None and not self.unlabelled and self.synthetic_clips == 0:
            raise ConfigError("nothing to train on; give --camvid FOLDER, --synthetic-clips N, or --unlabelled VIDEO")
        if self.hold_out and self.camvid is None:
            raise ConfigError("--hold-out: only stills are held out; give --camvid FOLDER")
        if self.own_labels and self.synthetic_clips == 0:
            raise ConfigError("--own-labels: is about drawn streets; give --synthetic-clips N")
        if self.teacher is not None and self.distillation == 0 and not (self.unlabelled or self.own_labels):
            raise ConfigError("--teacher: teaches nothing with --distillation 0 and nothing to label; leave it out")
        if self.batch_size % max(1, self.sub_networks):
            raise ConfigError(
                f"--batch-size {self.batch_size}: must be a multiple of --sub-networks {self.sub_networks}, "
                "so that each takes as many turns"
            )
        check_least(self, {"sub_networks": 2, "batch_size": 2, "steps": 1, "warmup_steps": 0, "threads": 0, "seed": 0})
        check_least(self, {"synthetic_clips": 0, "gap": 1, "weight_decay": 0, "distillation": 0})
        check_least(self, {"alone_weight": 0, "auxiliary_weight": 0, "alone_distillation": 0})
        check_least(self, {"video_frames": self.longest_run} if self.unlabelled else {})
        check_least(self, {"synthetic_frames": self.longest_run} if self.synthetic_clips else {})
        check_positive(self, "learning_rate", "gathering_learning_rate")
        check_shares(self, "still_share", "synthetic_share", "video_share")
        check_temper(self.weight_temper)
        check_hold_out(self.hold_out)
        if min(self.crop) < 32:
            raise ConfigError(f"--crop {self.crop[0]} {self.crop[1]}: at least 32 rows and columns")
        check_finite(self)

    @property
    def longest_run(self) -> int:
        """Most frames from the first to the last of a run, both included."""
        return 1 + self.gap * (self.sub_networks - 1)
