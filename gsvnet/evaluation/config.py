"""What the subcommands of `gsvnet evaluate` can be told. The command line is generated from these."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gsvnet.errors import ConfigError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """The model, how it is run, and where the numbers go."""

    model: str = "default"
    """A name from `gsvnet models`, a checkpoint file, or package.module:factory."""

    keyframe_interval: int = 5
    """Distances 0 .. interval - 1 from the keyframe are scored, where the data allows it."""

    device: Device = "auto"
    """auto: CUDA if there is one."""

    precision: Precision = "auto"
    """auto: as in labeling, bf16 on CUDA, fp32 on CPU."""

    batch_chunks: int = 4
    """Chunks that run through the networks as one batch."""

    json: Path | None = None
    """Also write the numbers, in percent, to this file."""

    def __post_init__(self) -> None:
        for flag, value in (
            ("--keyframe-interval", self.keyframe_interval),
            ("--batch-chunks", self.batch_chunks),
        ):
            if value < 1:
                raise ConfigError(f"{flag} {value}: at least 1")


@dataclass(frozen=True, kw_only=True)
class EvaluateCamvidConfig:
    """Score a model on CamVid: per frame on test, at every distance from the keyframe on the val clip."""

    root: Path
    """Folder with images/<split>, labels/<split>, index.csv and classes.json."""

    split: Literal["test", "val"] = "test"
    """test: images a second apart, per frame. val: a densely labelled clip, at every distance."""

    scoring: ScoringOptions = field(default_factory=ScoringOptions)


@dataclass(frozen=True, kw_only=True)
class EvaluateCityscapesConfig:
    """Score a model on Cityscapes: the labelled frame of every snippet, at every distance from the keyframe."""

    root: Path
    """Folder with leftImg8bit_sequence and gtFine; files are found by their names anywhere below it."""

    split: Literal["val", "train"] = "val"
    """Only files in folders of this name are used."""

    scoring: ScoringOptions = field(default_factory=ScoringOptions)


EvaluateConfig = EvaluateCamvidConfig | EvaluateCityscapesConfig
