"""What `gsvnet adapt` can be told. The command line is generated from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from gsvnet.errors import ConfigError
from gsvnet.training.checks import Device, Precision, check_finite, check_least, check_out, check_positive, check_temper

Videos = Annotated[
    tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO ...", help_behavior_hint="(required)")
]


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Train GSVNet's propagation for a keyframe network on your own videos, which need no labels.

    What the keyframe network says of every frame is the target; it stays as it is. A report says how far propagated
    labels agree with it, on a part of the videos that was held out.
    """

    videos: Videos = ()
    """Videos: paths, globs, folders, any fsspec URI, or @list.txt with one of these per line."""

    keyframe_model: str
    """The keyframe network: a name from `gsvnet models`, a checkpoint file, or your own package.module:factory."""

    out: Path
    """Checkpoint to write (.safetensors). The report goes to OUT.json, what a rerun needs to OUT.training beside it."""

    init: str | None = None
    """GSVNet whose propagation to start from ("default" or a file), or "random". Default: that of --keyframe-model
    where it has one, else that of the default model. Of one with other classes the parts that fit are taken."""

    hold_out: float = 0.2
    """Share at the end of every video that is not trained on but reported on."""

    frames_per_video: int = 300
    """Most frames to train on, and most to report on, of each video, spread over it in short runs. Those to train on
    stay in memory, with 11 classes at 360 rows 0.5 MB each."""

    steps: int = 300
    """Batches to learn from."""

    batch_size: int = 4
    """Clips per step."""

    frames: int = 6
    """Most frames per clip, the keyframe included."""

    interval: int = 12
    """Longest keyframe interval to report."""

    agreement: float = 90.0
    """Agreement with the keyframe network, in percent, that the recommended keyframe interval should keep."""

    stride: int | None = None
    """The propagation grid has 1/STRIDE of the size that the keyframe network's frames are brought to; default: as in
    --keyframe-model where it has a propagation, else 8, or 4 where 8 leaves less than 90 rows."""

    learning_rate: float = 1e-3
    """Peak for the intra network and the guide: linear warm-up, then half a cosine."""

    flow_learning_rate: float = 5e-4
    """Peak for the flow network."""

    warmup_steps: int = 30
    """Steps until the peak."""

    weight_temper: float = 1.5
    """Classes weigh 1 / ln(temper + share of pixels): closer to 1 favours rare ones."""

    distillation: float = 1.0
    """How much the divergence from the keyframe network's soft output counts beside cross-entropy, per pixel."""

    flow_supervision: float = 0.5
    """How much each pixel of error of the flow counts on stills of the videos that are set in motion, where it is
    known."""

    precision: Precision = "bf16"
    """bf16: mixed precision in training, faster on processors that know it."""

    device: Device = "auto"
    """auto: CUDA if there is one."""

    threads: int = 0
    """Threads on the CPU; 0: torch's own choice."""

    seed: int = 0
    """Of new weights and of clips."""

    def __post_init__(self) -> None:
        if not self.videos:
            raise ConfigError("no input; name at least one video, glob, folder or @list.txt")
        check_out(self.out)
        check_least(self, {"frames": 2, "interval": 2, "frames_per_video": max(self.frames, self.interval)})
        check_least(self, {"steps": 1, "batch_size": 1, "stride": 1, "warmup_steps": 0, "threads": 0, "seed": 0})
        check_least(self, {"distillation": 0, "flow_supervision": 0})
        check_positive(self, "learning_rate", "flow_learning_rate")
        check_temper(self.weight_temper)
        for name, share, most in (("--hold-out", self.hold_out, 1), ("--agreement", self.agreement, 100)):
            if not 0 < share < most:
                raise ConfigError(f"{name} {share}: must lie between 0 and {most}")
        check_finite(self)
