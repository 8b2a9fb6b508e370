"""Commands about networks: models, convert, average, train, adapt, evaluate, calibrate, benchmark."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gsvnet.benchmark.config import BenchmarkConfig
from gsvnet.evaluation.calibration_config import CalibrateConfig
from gsvnet.evaluation.config import (
    EvaluateAsLabeledConfig,
    EvaluateCamvidConfig,
    EvaluateCityscapesConfig,
    EvaluateCostConfig,
    EvaluateDrawnConfig,
    EvaluateDriftConfig,
    EvaluatePlotConfig,
)
from gsvnet.terminal import PlainConsole
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig
from gsvnet.training.tdnet_config import TrainTdnetConfig


def models() -> int:
    """List the models that --model knows by name, and the families that can be trained or converted."""
    from gsvnet.models.checkpoints import DEFAULT_WEIGHTS, MODELS, read_notes
    from gsvnet.models.spec import FAMILIES

    for name in MODELS:
        if not DEFAULT_WEIGHTS.is_file():
            print(f"{name}: not installed ({DEFAULT_WEIGHTS})")
            continue
        spec, notes = read_notes(DEFAULT_WEIGHTS)
        print(f"{name}: {spec.family}, classes {spec.classes.name} ({len(spec.classes)}). {notes.get('summary', '')}")
    print(f"families: {', '.join(FAMILIES)}")
    print("or a checkpoint file, or package.module:factory")
    return 0


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Turn published weights into one checkpoint."""

    family: Literal[
        "gsvnet-swiftnet",
        "gsvnet-bisenet",
        "swiftnet",
        "bisenet",
        "espnetv2",
        "arseg-bisenetv1",
        "arseg-pspnet18",
        "arseg-pspnet18up",
        "bisenetv1",
        "pspnet18",
        "pspnet18up",
        "pspnet18etc",
        "pspnet101",
        "td4-pspnet18",
        "td2-pspnet50",
        "td2-fanet18",
    ]
    """Which networks the files hold."""
    keyframe: Path
    """The image network's published file, or TDNet's; of AR-Seg the high-resolution one (HR)."""
    propagation: Path | None = None
    """GSVNet's published file, or AR-Seg's altered-resolution one (AR); only for gsvnet-... and arseg-..."""
    out: Path
    """The .safetensors file to write."""


def convert(config: ConvertConfig) -> int:
    """Turn published weights into one checkpoint: family, classes, normalisation, size rule, strides, tensors."""
    from gsvnet.models.published import convert_published

    convert_published(config.family, config.keyframe, config.propagation, config.out)
    print(f"wrote {config.out}; use it with --model {config.out}")
    return 0


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """Average the weights of networks that were fine-tuned from the same start."""

    checkpoints: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT ...", help_behavior_hint="")
    ]
    """Two or more .safetensors files; the start may be one of them, and a file named twice counts twice."""
    out: Path
    """The .safetensors file to write."""


def average(config: AverageConfig) -> int:
    """Average the weights of networks fine-tuned from the same start: what each learned, at the cost of one."""
    from gsvnet.models.average import average_checkpoints

    average_checkpoints(config.checkpoints, config.out)
    print(f"wrote {config.out}; use it with --model {config.out}")
    return 0


EvaluateConfig = (
    Annotated[EvaluateCamvidConfig, tyro.conf.subcommand("camvid")]
    | Annotated[EvaluateCityscapesConfig, tyro.conf.subcommand("cityscapes")]
    | Annotated[EvaluateDrawnConfig, tyro.conf.subcommand("drawn")]
    | Annotated[EvaluateDriftConfig, tyro.conf.subcommand("drift")]
    | Annotated[EvaluateAsLabeledConfig, tyro.conf.subcommand("as-labeled")]
    | Annotated[EvaluateCostConfig, tyro.conf.subcommand("cost")]
    | Annotated[EvaluatePlotConfig, tyro.conf.subcommand("plot")]
)


def evaluate(config: Annotated[EvaluateConfig, tyro.conf.OmitSubcommandPrefixes]) -> int:
    """Score a model against true labels, measure what it costs, plot results."""
    from gsvnet.evaluation.commands import evaluate as run

    run(config, PlainConsole())
    return 0


def calibrate(config: CalibrateConfig) -> int:
    """Measure on labelled data how often a network is right when it is how sure; keep that in its checkpoint."""
    from gsvnet.evaluation.calibration_run import calibrate as run

    run(config, PlainConsole())
    return 0


TrainConfig = (
    Annotated[TrainKeyframeConfig, tyro.conf.subcommand("keyframe")]
    | Annotated[TrainPropagationConfig, tyro.conf.subcommand("propagation")]
    | Annotated[TrainArsegConfig, tyro.conf.subcommand("arseg")]
    | Annotated[TrainTdnetConfig, tyro.conf.subcommand("tdnet")]
)


def train(config: Annotated[TrainConfig, tyro.conf.OmitSubcommandPrefixes]) -> int:
    """Train a keyframe network, or what goes with one. The same command goes on where it stopped."""
    from gsvnet.training.commands import train as run

    run(config, console=PlainConsole(soft_wrap=True))
    return 0


def adapt(config: AdaptConfig) -> int:
    """Train the propagation for a keyframe network on your own videos, without labels, and report what it gives."""
    from gsvnet.training.adapt import adapt as run
    from gsvnet.training.adapt_report import show_report

    console = PlainConsole(soft_wrap=True)
    result = run(config, console=console)
    show_report(result, PlainConsole())
    json = config.out.with_suffix(".json").name
    console.print(f"wrote {config.out} and {json}; use it with: gsvnet label {result.label_options(str(config.out))}")
    return 0


def benchmark(config: BenchmarkConfig) -> int:
    """Measure this machine: every fast way beside the plain one, in turns, and what is reached end to end."""
    from gsvnet.benchmark.commands import benchmark as run

    return run(config, PlainConsole(width=None if sys.stdout.isatty() else 120))
