"""`gsvnet evaluate`: load what is named, measure it, show the numbers and write them down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress

from gsvnet.errors import ConfigError
from gsvnet.evaluation.as_labeled import Setting, compare_as_labeled
from gsvnet.evaluation.as_labeled_report import plot_as_labeled, show_as_labeled
from gsvnet.evaluation.calibration_counts import count_confidence
from gsvnet.evaluation.calibration_report import compare_reliability, plot_reliability, show_reliability
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.cityscapes import open_cityscapes
from gsvnet.evaluation.clip import enlarge_batch
from gsvnet.evaluation.clip_consistency import ComparedConsistency, compare_consistency
from gsvnet.evaluation.codec_motion import attach_motion
from gsvnet.evaluation.config import (
    EvaluateAsLabeledConfig,
    EvaluateCamvidConfig,
    EvaluateCityscapesConfig,
    EvaluateConfig,
    EvaluateCostConfig,
    EvaluateDrawnConfig,
    EvaluateDriftConfig,
    EvaluatePlotConfig,
    RunOptions,
)
from gsvnet.evaluation.cost import measure_cost
from gsvnet.evaluation.dataset import ScoredClips, keep_both_sides
from gsvnet.evaluation.drawn import draw_clips, open_clips
from gsvnet.evaluation.drift_chunks import measure_drift
from gsvnet.evaluation.drift_report import plot_drift, show_drift
from gsvnet.evaluation.plots import write_plots
from gsvnet.evaluation.protocol import EvaluationResult
from gsvnet.evaluation.protocol import evaluate as score_clips
from gsvnet.evaluation.speed import measure_speed
from gsvnet.evaluation.table import show_consistency, show_cost, show_result
from gsvnet.evaluation.variants import vary_propagation
from gsvnet.models.calibration import calibration_of
from gsvnet.models.checkpoints import load_model
from gsvnet.models.prepared import prepare_for_inference
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.models.spec import build_model
from gsvnet.models.tdnet import TDNet
from gsvnet.models.transfer import with_ensemble, with_keyframe_scale, with_references

ScoringConfig = EvaluateCamvidConfig | EvaluateCityscapesConfig | EvaluateDrawnConfig

USUAL_INTERVAL = 5  # between keyframes
_SECONDS = 10.0  # of running for frames/s beside a score


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """A model and how it is run. interval: the keyframe interval that was asked for, or the usual one."""

    model: VideoSegmenter
    device: str
    precision: Literal["fp32", "bf16"]
    batch_chunks: int
    interval: int

    @cached_property
    def prepared(self) -> VideoSegmenter:
        """The model on its device, arranged for speed, as a job runs it; made when it is first run."""
        return prepare_for_inference(self.model, device=self.device, precision=self.precision)


def evaluate(config: EvaluateConfig, console: Console) -> None:
    """Do what `config` says; tables go to the console. Raises ConfigError for what cannot be measured."""
    if isinstance(config, EvaluatePlotConfig):
        _plot([_read_figures(path) for path in config.results], config.out, console)
        return
    figures = _describe(config.run)
    if isinstance(config, EvaluateCostConfig):
        runner = _start(config.run, untrained=config.run.model in PUBLISHED)
        figures |= _measure_cost(runner, config.height_width, runner.interval, config.seconds, console)
    elif isinstance(config, EvaluateDriftConfig):
        figures |= _measure_drift(config, console)
    elif isinstance(config, EvaluateAsLabeledConfig):
        figures |= _compare_as_labeled(config, console)
    else:
        figures |= _score(config, console)
    if config.run.json is not None:
        write_figures(config.run.json, figures)
    if isinstance(config, ScoringConfig) and config.more.plots is not None:
        _plot([figures], config.more.plots, console)


def _score(config: ScoringConfig, console: Console) -> dict:
    """Figures of the model on a dataset, and of what else is asked for."""
    runner = _start(config.run)
    if isinstance(config, EvaluateDrawnConfig):
        with draw_clips(config.drawn, keyframe_interval=runner.interval, console=console) as drawn:
            return _score_data(runner, drawn, config, console)
    open_split = open_camvid if isinstance(config, EvaluateCamvidConfig) else open_cityscapes
    data = open_split(config.root, config.split, keyframe_interval=runner.interval)
    return _score_data(runner, data, config, console)


def _score_data(runner: _Runner, data: ScoredClips, config: ScoringConfig, console: Console) -> dict:
    more = config.more
    if more.consistency and (data.step_ms is None or min(len(clip.frames) for clip in data.clips) < 2):
        raise ConfigError(f"--consistency: the images of {data.dataset} {data.split} do not follow each other in time")
    if more.smooth and not more.consistency:
        raise ConfigError(f"--smooth {more.smooth}: is measured with --consistency; give both")
    data = _serve_needs(runner.model, data, config)
    result = _score_clips(runner, data, console)
    show_result(result, console)
    figures = result.to_dict()
    if more.consistency:
        consistency = _compare_consistency(runner, data, config, console)
        show_consistency(consistency, console)
        figures["consistency"] = consistency.to_dict()
    if more.calibration:
        figures["calibration"] = _measure_calibration(runner, data, more.plots, console)
    if more.cost:
        size = data.clips[0].frames[0].read_image().shape[:2]
        figures |= _measure_cost(runner, size, data.keyframe_interval, _SECONDS, console)
    return figures


def _measure_drift(config: EvaluateDriftConfig, console: Console) -> dict:
    """How well drift tells the true loss of chunks, shown and drawn if asked for."""
    runner = _start(config.run)
    with open_clips(config.clips, console=console) as data, show_progress("drift", console) as on:
        result = measure_drift(
            runner.prepared,
            data,
            interval=runner.interval,
            every=config.every,
            batch_chunks=runner.batch_chunks,
            device=runner.device,
            bf16=runner.precision == "bf16",
            progress=on,
        )
    show_drift(result, console)
    for path in plot_drift(result, config.plots) if config.plots is not None else ():
        console.print(f"wrote {path}")
    return result.to_dict()


def _compare_as_labeled(config: EvaluateAsLabeledConfig, console: Console) -> dict:
    """Fixed and chosen keyframe intervals side by side, shown and drawn if asked for."""
    runner = _start(config.run)
    settings = [Setting(interval=interval) for interval in config.intervals]
    settings += [Setting(min_agreement=share) for share in config.min_agreement]
    with open_clips(config.clips, console=console) as data, show_progress("label", console) as on:
        compared = compare_as_labeled(
            runner.prepared,
            data,
            settings,
            batch_chunks=runner.batch_chunks,
            device=runner.device,
            bf16=runner.precision == "bf16",
            progress=on,
        )
    show_as_labeled(compared, console)
    for path in plot_as_labeled(compared, config.plots) if config.plots is not None else ():
        console.print(f"wrote {path}")
    return compared.to_dict()


@contextmanager
def show_progress(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar while it is open; to be called with things done and in all."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _serve_needs(model: VideoSegmenter, data: ScoredClips, config: ScoringConfig) -> ScoredClips:
    """The data with the codec's motion where it was given, and only frames that have what the model reads."""
    needs = model.needs(*data.clips[0].frames[0].read_image().shape[:2])
    camvid = config if isinstance(config, EvaluateCamvidConfig) else None
    if camvid is not None and camvid.motion_video is not None:
        if needs.motion_grid is None:
            raise ConfigError(f"--motion-video {camvid.motion_video}: the model reads no motion")
        data = attach_motion(data, camvid.motion_video)
    return keep_both_sides(data) if needs.next_keyframe or (camvid and camvid.both_sides) else data


def _score_clips(runner: _Runner, data: ScoredClips, console: Console) -> EvaluationResult:
    with show_progress(f"{data.dataset} {data.split}", console) as on_progress:
        return score_clips(
            runner.prepared,
            data,
            batch_chunks=runner.batch_chunks,
            device=runner.device,
            precision=runner.precision,
            progress=on_progress,
        )


def _compare_consistency(
    runner: _Runner, data: ScoredClips, config: ScoringConfig, console: Console
) -> ComparedConsistency:
    with console.status("temporal consistency"):
        return compare_consistency(
            runner.prepared,
            data,
            interval=data.keyframe_interval,
            mode=config.more.consistency_mode,
            device=runner.device,
            bf16=runner.precision == "bf16",
            batch_chunks=runner.batch_chunks,
            smooth=config.more.smooth,
        )


def _measure_calibration(runner: _Runner, data: ScoredClips, plots: Path | None, console: Console) -> dict:
    """How sure the model is against how often it is right; drawn into the folder `plots` where there is one."""
    with console.status("confidence"):
        counts = count_confidence(
            runner.prepared,
            data,
            batch_chunks=runner.batch_chunks,
            device=runner.device,
            precision=runner.precision,
        )
    name = f"{data.dataset} {data.split}"
    compared = compare_reliability(counts, calibration_of(runner.model), data=name, classes=data.classes)
    show_reliability(compared, console)
    for path in plot_reliability(compared, plots) if plots is not None else ():
        console.print(f"wrote {path}")
    return compared.to_dict()


def _measure_cost(runner: _Runner, size: tuple[int, int], interval: int, seconds: float, console: Console) -> dict:
    """What the model costs on videos of a size (height, width); without its speed where seconds is 0."""
    height, width = size
    cost = measure_cost(runner.model, height=height, width=width, keyframe_interval=interval)
    show_cost(cost, console)
    if seconds == 0:
        return {"cost": cost.to_dict()}
    with console.status("frames/s"):
        speed = measure_speed(
            runner.prepared,
            height=height,
            width=width,
            keyframe_interval=interval,
            device=runner.device,
            precision=runner.precision,
            batch_chunks=enlarge_batch(runner.model.needs(height, width), interval, runner.batch_chunks),
            seconds=seconds,
        )
    console.print(speed.describe())
    return {"cost": cost.to_dict(), "frames_per_s": speed.frames_per_s, "speed": speed.to_dict()}


def _start(run: RunOptions, *, untrained: bool = False) -> _Runner:
    """The model as it is measured: in evaluation mode, keyframes at the wished size.

    untrained: `run.model` is a published family, with random weights, which cost what trained ones do.
    """
    device = choose_device(run.device)
    model: VideoSegmenter = build_model(PUBLISHED[run.model]).eval() if untrained else load_model(run.model)
    if run.scale is not None:
        model = with_keyframe_scale(model, run.scale)  # type: ignore[type-var]  # refuses others by itself
    if run.references is not None:
        model = with_references(model, run.references)
    if run.ensemble is not None:
        model = with_ensemble(model, run.ensemble)
    model = vary_propagation(model, run.propagation)
    return _Runner(
        model=model,
        device=device,
        precision=choose_precision(run.precision, device),
        batch_chunks=run.batch_chunks,
        interval=run.keyframe_interval or _usual_interval(model),
    )


def _usual_interval(model: VideoSegmenter) -> int:
    return 1 if isinstance(model, TDNet) and model.ensemble != "keyframes" else USUAL_INTERVAL


def _describe(run: RunOptions) -> dict:
    """What was run, for the JSON; scale, references, ensemble, another propagation only where they were asked for."""
    device = choose_device(run.device)
    about = {"model": run.model, "device": device, "precision": choose_precision(run.precision, device)}
    if run.propagation != "full":
        about["propagation"] = run.propagation
    if run.references is not None:
        about["references"] = run.references
    if run.ensemble is not None:
        about["ensemble"] = run.ensemble
    return about if run.scale is None else about | {"scale": run.scale}


def choose_device(device: str) -> str:
    """ "cpu" or "cuda". Raises ConfigError for cuda where there is none."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no CUDA here")
    return device


def choose_precision(precision: str, device: str) -> Literal["fp32", "bf16"]:
    """What the networks run in: by wish, or as labeling does, bf16 on CUDA and fp32 on a CPU."""
    return "bf16" if precision == "bf16" or (precision == "auto" and device == "cuda") else "fp32"


def _plot(results: list[dict], folder: Path, console: Console) -> None:
    for path in write_plots(results, folder):
        console.print(f"wrote {path}")


def write_figures(path: Path, figures: dict) -> None:
    """Write figures as JSON. Raises ConfigError where the file cannot be written."""
    try:
        path.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write --json {path}: {error.strerror or error}") from error


def _read_figures(path: Path) -> dict:
    """Figures as `write_figures` wrote them. Raises ConfigError for files that hold anything else."""
    try:
        figures = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(figures, dict):
        raise ConfigError(f"{path} holds a JSON {type(figures).__name__}; needed: what gsvnet evaluate --json wrote")
    return figures
