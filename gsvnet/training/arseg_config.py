"""What `gsvnet train arseg` can be told. The command line is generated from it."""

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
    check_most,
    check_out,
    check_positive,
    check_shares,
    check_temper,
)


@dataclass(frozen=True, kw_only=True)
class TrainArsegConfig:
    """Train AR-Seg's network for the frames between keyframes, and the fusion; the keyframe network stays as it is."""

    keyframe: Path
    """Checkpoint of the keyframe network, from `gsvnet train keyframe --family bisenetv1` or a pspnet18."""

    out: Path
    """Checkpoint to write (.safetensors), both networks. What a rerun needs is kept in OUT.training beside it."""

    camvid: Path | None = None
    """Folder of CamVid: stills of its train split, set in motion; never val or test."""

    synthetic_clips: int = 0
    """Clips of drawn street scenes: near and far move differently, things cover each other."""

    unlabelled: tuple[str, ...] = ()
    """Real videos without labels (paths, globs, folders, URIs); the keyframe network's own labels are the targets.
    Leave out what you evaluate on."""

    own_labels: bool = False
    """Let the keyframe network's own labels be the targets of drawn streets too: for one that never saw any."""

    still_share: float = 2.0
    """How often pairs are made from stills, relative to the other two kinds."""

    synthetic_share: float = 1.0
    """How often pairs are taken from drawn scenes."""

    video_share: float = 1.0
    """How often pairs are taken from real videos."""

    video_frames: int = 300
    """Most frames to read of each video, from its start, held in memory, 0.5 MB each at 360 rows."""

    synthetic_frames: int = 24
    """Frames of each drawn clip."""

    pairs: int = 1200
    """Pairs of keyframe and later (or earlier) frame to draw, once, before training. Their features are held in memory:
    3.1 MB each for bisenetv1 at 360x480, 5.8 for pspnet18, 45 for pspnet18up."""

    pairs_per_run: int = 3
    """Pairs that share a keyframe: more are drawn faster, and are less varied."""

    keyframe_interval: int = 12
    """Frames are 1 to one less than so many frames away from their keyframe, each distance as often."""

    scale: float = 0.5
    """Size of the frames between keyframes, relative to that of keyframes."""

    references: References = "before"
    """Which keyframes a frame will draw on when the result labels: the one before, the nearest, or both, mixed. The
    training is the same, half of it backward in time."""

    without_fusion: bool = False
    """Train the same network on the same frames, alone: no keyframe, no fusion, its classifier free. What is written is
    an image network that reads frames at --scale: the baseline."""

    feature_weight: float = 1.0
    """How much the distance of the fused feature from the keyframe network's own feature of the same frame in full
    resolution counts, the mean square per value."""

    loss: LabelLoss = "cross-entropy"
    """cross-entropy: of all pixels, with class weights. ohem: of the pixels that the network is worst at, without."""

    hold_out: float = 0.0
    """Keep the last so much (0.15: 15 %) of every drive of CamVid out of training, and score it every 100 steps."""

    epochs: int = 6
    """Passes over all pairs."""

    batch_size: int = 8
    """Pairs per step, on all GPUs together."""

    optimiser: Optimiser = "adamw"
    """sgd: with Nesterov momentum 0.9, for much larger learning rates."""

    learning_rate: float = 3e-4
    """Peak for the network, which starts from the keyframe network's weights."""

    fusion_learning_rate: float = 2e-3
    """Peak for the fusion, which starts from nearly nothing."""

    weight_decay: float = 1e-2
    """Of the network's convolutions."""

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
    """Of pairs, scenes and fusion."""

    def __post_init__(self) -> None:
        check_out(self.out)
        if self.camvid is None and not self.unlabelled and self.synthetic_clips == 0:
            raise ConfigError("nothing to train on; give --camvid FOLDER, --synthetic-clips N, or --unlabelled VIDEO")
        if self.hold_out and self.camvid is None:
            raise ConfigError("--hold-out: only stills are held out; give --camvid FOLDER")
        if self.own_labels and self.synthetic_clips == 0:
            raise ConfigError("--own-labels: is about drawn streets; give --synthetic-clips N")
        if self.without_fusion and self.references != "before":
            raise ConfigError(f"--references {self.references}: with --without-fusion a frame draws on no keyframe")
        check_least(self, {"synthetic_clips": 0, "epochs": 1, "batch_size": 2, "warmup_steps": 0, "threads": 0})
        check_least(self, {"seed": 0, "pairs_per_run": 1, "keyframe_interval": 2, "feature_weight": 0})
        check_least(self, {"weight_decay": 0, "pairs": self.batch_size})
        check_most(self, "pairs_per_run", self.keyframe_interval - 1, "one less than --keyframe-interval")
        check_least(self, {"video_frames": self.keyframe_interval} if self.unlabelled else {})
        check_least(self, {"synthetic_frames": self.keyframe_interval} if self.synthetic_clips else {})
        check_positive(self, "learning_rate", "fusion_learning_rate")
        check_shares(self, "still_share", "synthetic_share", "video_share")
        check_temper(self.weight_temper)
        check_hold_out(self.hold_out)
        if not 0 < self.scale < 1:
            raise ConfigError(f"--scale {self.scale}: must be above 0 and below 1")
        check_finite(self)
