"""What `gsvnet train propagation` can be told. The command line is generated from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvnet.errors import ConfigError
from gsvnet.training.checks import (
    Device,
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
        check_out(self.out)
        if self.camvid is None and not self.video and self.synthetic_clips == 0:
            raise ConfigError("nothing to train on; give --camvid FOLDER, --video PATH, or --synthetic-clips N")
        check_least(self, {"synthetic_clips": 0, "steps": 1, "batch_size": 1, "frames": 2, "warmup_steps": 0})
        check_least(self, {"threads": 0, "seed": 0, "last_steps": 0, "stride": 1})
        check_least(self, {"video_frames": self.frames, "synthetic_frames": self.frames})
        check_least(self, {"distillation": 0, "flow_supervision": 0})
        check_positive(self, "learning_rate", "flow_learning_rate")
        check_temper(self.weight_temper)
        check_hold_out(self.hold_out)
        check_shares(self, "still_share", "synthetic_share", "video_share")
        check_finite(self)
