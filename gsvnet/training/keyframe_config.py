"""What `gsvnet train keyframe` can be told. The command line is generated from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gsvnet.errors import ConfigError
from gsvnet.labeling.config import parse_size
from gsvnet.training.checks import (
    ConsistencyForm,
    Device,
    FlowSource,
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

_OF_TEACHER = ("pair_weight", "sequence_weight")


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

    consistency: float = 0.0
    """How much it counts that the network says the same of neighbouring frames, seen along their flow; try 1
    first. It needs --video, --synthetic-clips or --moving-stills, and no labels of them."""

    video: tuple[str, ...] = ()
    """Real videos without labels (paths, globs, folders, URIs) whose neighbouring frames are paired. Leave out what you
    evaluate on."""

    video_frames: int = 300
    """Most frames to read of each video, from its start. They stay in memory, 0.6 MB each."""

    synthetic_clips: int = 0
    """Clips of drawn street scenes whose neighbouring frames are paired, with exact flow."""

    synthetic_frames: int = 30
    """Frames of each drawn clip."""

    moving_stills: bool = False
    """Pair every image that is trained on with itself, set in motion, with exact flow: consistency where there is no
    video."""

    flow: FlowSource = "dis"
    """Where the flow of --video comes from. dis: OpenCV's dense inverse search. proxy: x264's motion search. light: the
    flow network of --flow-model."""

    flow_model: str = "default"
    """Of --flow light: a model with a propagation, by name or as a checkpoint."""

    frame_gap: int = 2
    """Most frames between the two of a pair of --video."""

    pairs_per_step: int = 4
    """Pairs per step, on all GPUs together; each is two views."""

    consistency_form: ConsistencyForm = "sound"
    """sound: of class probabilities, where the flow may be believed. published: of logits, everywhere; as ETC's
    authors train, with weight 0.1."""

    pair_weight: float = 0.0
    """How much it counts that places of the two frames of a pair look as alike to the network as to the teacher."""

    sequence_weight: float = 0.0
    """The same of the places of each frame, as a recurrent network with fixed weights remembers both frames."""

    hold_out: float = 0.0
    """Keep the last so much (0.15: 15 %) of every drive out of training, and score it after every epoch."""

    family: (
        Literal[
            "swiftnet",
            "bisenet",
            "espnetv2",
            "fastscnn",
            "bisenetv1",
            "pspnet18",
            "pspnet18up",
            "pspnet18etc",
            "pspnet101",
        ]
        | None
    ) = None
    """Which network; default: that of --init, else swiftnet."""

    init: Path | None = None
    """Checkpoint to start from, of any classes; default: random weights."""

    keyframe_scale: float = 1.0
    """How large the network will read images when it labels, relative to 360 rows; the views' scales should lie about
    it. 1.5 finds small things better and costs 2.25 times as much per keyframe."""

    auxiliary_heads: bool = True
    """Train heads on the middle of the network too, where it knows such. Switch them off to fine-tune --init for a
    short while: they start new, and what they ask for disturbs a trained network at first."""

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
        self._check_pairs()
        _ = self.crop_size

    def _check_pairs(self) -> None:
        check_least(self, {"consistency": 0, "pair_weight": 0, "sequence_weight": 0, "frame_gap": 1})
        check_least(self, {"pairs_per_step": 1, "synthetic_clips": 0, "synthetic_frames": 2, "video_frames": 2})
        pairs, of_teacher = self.video or self.synthetic_clips or self.moving_stills, _named(self, _OF_TEACHER)
        if not pairs and (weights := _named(self, ("consistency", *_OF_TEACHER))):
            raise ConfigError(f"{weights}: of which frames? Give --video, --synthetic-clips N or --moving-stills")
        if of_teacher and self.teacher is None:
            raise ConfigError(f"{of_teacher}: like whom? Give --teacher CHECKPOINT")
        taught = self.teacher is not None and self.distillation > 0
        if pairs and not (self.consistency or of_teacher or taught):
            raise ConfigError(
                "--video, --synthetic-clips and --moving-stills teach nothing here; give --consistency WEIGHT"
            )
        if self.flow_model != "default" and self.flow != "light":
            raise ConfigError(f"--flow-model {self.flow_model}: is of --flow light, not of --flow {self.flow}")
        if self.consistency_form == "published" and self.flow == "proxy":
            raise ConfigError("--consistency-form published needs flow everywhere; --flow proxy has gaps")
        if self.consistency_form == "published" and (self.synthetic_clips or self.moving_stills):
            raise ConfigError(
                "--consistency-form published needs flow everywhere; that of --synthetic-clips and --moving-stills has "
                "gaps"
            )

    @property
    def crop_size(self) -> tuple[int, int]:
        """(height, width) of the views in pixels."""
        size = parse_size(self.crop)
        if size is None or min(size) < 32:
            raise ConfigError(f"--crop {self.crop}: must be HEIGHTxWIDTH of at least 32x32, such as 320x416")
        return size


def _named(config: TrainKeyframeConfig, names: Sequence[str]) -> str:
    """Those of the weights, by field name, that are above 0, as options with their values; "" for none."""
    above = [(name, getattr(config, name)) for name in names if getattr(config, name)]
    return ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in above)
