"""The command line, `gsvnet label` and its sisters (see COMMANDS). Each command is a function's arguments."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from gsvnet.benchmark.config import BenchmarkConfig
from gsvnet.errors import ConfigError, GsvnetError, MissingExtra
from gsvnet.evaluation.config import (
    EvaluateCamvidConfig,
    EvaluateCityscapesConfig,
    EvaluateCostConfig,
    EvaluatePlotConfig,
)
from gsvnet.labeling.config import LabelConfig, PlanConfig
from gsvnet.process import interrupt_on_sigterm, keep_freed_memory, yield_idle_cores
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig

_EXTRA_OF = {
    "torch": "label",
    "av": "label",
    "ray": "label",
    "safetensors": "label",
    "PIL": "view",
    "matplotlib": "evaluate",
    "cv2": "evaluate",
    "psutil": "benchmark",
}


def label(config: LabelConfig) -> int:
    """Label every frame of videos and write Parquet. The same command on the same output does what is missing."""
    if config.demo:
        from gsvnet.demo import label_demo

        return label_demo(config, Console(highlight=False))
    from gsvnet.labeling.job import label as run

    return run(config, console=Console(highlight=False)).exit_code


def plan(config: PlanConfig) -> int:
    """Say what `gsvnet label` would do with the same arguments: videos, frames, problems, GPU hours and price."""
    from gsvnet.labeling.preview import preview
    from gsvnet.labeling.preview_text import preview_to_dict, show_preview

    console = Console(highlight=False, stderr=config.json)
    result = preview(config, console=console)
    if config.json:
        print(json.dumps(preview_to_dict(result), indent=1))
    else:
        show_preview(result, console)
    return result.exit_code


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Where a job stands, from its output alone: also from another machine, while it runs or long after."""

    out: Annotated[str, tyro.conf.Positional]
    """Output folder or URI of `gsvnet label`."""
    json: bool = False
    """Print JSON."""
    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""


def status(config: StatusConfig) -> int:
    """Where a job stands, from its output alone: also from another machine, while it runs or long after."""
    from gsvnet.labeling.status import read_status
    from gsvnet.labeling.status_text import show_status

    found = read_status(config.out, config.storage_options)
    if config.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        show_status(found, Console(highlight=False))
    return 0


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Write one frame with its labels laid over it as PNG."""

    out: Annotated[str, tyro.conf.Positional]
    """Output folder or URI of `gsvnet label`."""
    frame: int = 0
    """Frame index, from 0."""
    video: str | None = None
    """Video id, stem or URI; not needed where the output holds one video."""
    png: str | None = None
    """File to write; default: VIDEO-FRAME.png here."""
    source: str | None = None
    """Where the video is now, if it was moved since it was labeled."""


def show(config: ShowConfig) -> int:
    """Write one frame with its labels laid over it as PNG."""
    from gsvnet.reading import blend, read_picture, write_png
    from gsvnet.store.read import open_labels

    labels = open_labels(config.out)
    if config.video is None and len(labels.videos) != 1:
        raise ConfigError(f"{config.out} holds {len(labels.videos)} videos; choose one with --video: {labels.videos}")
    video = labels.find_video(config.video or labels.videos[0])
    picture = read_picture(labels, video, config.frame, source=config.source)
    path = Path(config.png or f"{video}-{config.frame:06d}.png")
    write_png(path, blend(picture.image, labels.classes.colourise(picture.labels)))
    shares = [(float((picture.labels == i).mean()), name) for i, name in enumerate(labels.classes.names)]
    seen = ", ".join(f"{name} {100 * share:.1f} %" for share, name in sorted(shares, reverse=True) if share > 0)
    distance = "keyframe" if picture.keyframe_distance == 0 else f"{picture.keyframe_distance} from its keyframe"
    print(f"{path}: frame {config.frame} at {picture.time_s:.3f} s, {distance}; {seen}")
    return 0


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

    family: Literal["gsvnet-swiftnet", "gsvnet-bisenet", "swiftnet", "bisenet", "espnetv2"]
    """Which networks the files hold."""
    keyframe: Path
    """The image network's published file."""
    propagation: Path | None = None
    """GSVNet's published file; only for gsvnet-swiftnet and gsvnet-bisenet."""
    out: Path
    """The .safetensors file to write."""


def convert(config: ConvertConfig) -> int:
    """Turn published weights into one checkpoint: family, classes, normalisation, size rule, strides, tensors."""
    from gsvnet.models.published import convert_published

    convert_published(config.family, config.keyframe, config.propagation, config.out)
    print(f"wrote {config.out}; use it with --model {config.out}")
    return 0


EvaluateConfig = (
    Annotated[EvaluateCamvidConfig, tyro.conf.subcommand("camvid")]
    | Annotated[EvaluateCityscapesConfig, tyro.conf.subcommand("cityscapes")]
    | Annotated[EvaluateCostConfig, tyro.conf.subcommand("cost")]
    | Annotated[EvaluatePlotConfig, tyro.conf.subcommand("plot")]
)


def evaluate(config: Annotated[EvaluateConfig, tyro.conf.OmitSubcommandPrefixes]) -> int:
    """Score a model against true labels, measure what it costs, plot results."""
    from gsvnet.evaluation.commands import evaluate as run

    run(config, Console(highlight=False))
    return 0


TrainConfig = (
    Annotated[TrainKeyframeConfig, tyro.conf.subcommand("keyframe")]
    | Annotated[TrainPropagationConfig, tyro.conf.subcommand("propagation")]
)


def train(config: Annotated[TrainConfig, tyro.conf.OmitSubcommandPrefixes]) -> int:
    """Train a keyframe network, or the propagation for one. The same command goes on where it stopped."""
    from gsvnet.training.commands import train as run

    run(config, console=Console(highlight=False, soft_wrap=True))
    return 0


def adapt(config: AdaptConfig) -> int:
    """Train the propagation for a keyframe network on your own videos, without labels, and report what it gives."""
    from gsvnet.training.adapt import adapt as run
    from gsvnet.training.adapt_report import show_report

    console = Console(highlight=False, soft_wrap=True)
    result = run(config, console=console)
    show_report(result, Console(highlight=False))
    json = config.out.with_suffix(".json").name
    console.print(f"wrote {config.out} and {json}; use it with: gsvnet label {result.label_options(str(config.out))}")
    return 0


def benchmark(config: BenchmarkConfig) -> int:
    """Measure this machine: every fast way beside the plain one, in turns, and what is reached end to end."""
    from gsvnet.benchmark.commands import benchmark as run

    return run(config, Console(highlight=False, width=None if sys.stdout.isatty() else 120))


COMMANDS: dict[str, Callable[..., int]] = {
    "label": label,
    "plan": plan,
    "status": status,
    "show": show,
    "models": models,
    "convert": convert,
    "train": train,
    "adapt": adapt,
    "evaluate": evaluate,
    "benchmark": benchmark,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 complete, 3 complete with failures, 2 bad arguments, 1 anything else."""
    yield_idle_cores()
    keep_freed_memory()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # so that --model package.module:factory finds the user's own code
    try:
        with interrupt_on_sigterm():
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                args=list(sys.argv[1:] if arguments is None else arguments),
                prog="gsvnet",
                description="Label every frame of very long videos.",
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        return _fail(MissingExtra(error.name or "", extra))
    except GsvnetError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("gsvnet: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 1


def _fail(error: GsvnetError) -> int:
    print(f"gsvnet: {error}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
