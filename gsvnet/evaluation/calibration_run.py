"""`gsvnet calibrate`: run a network over labelled data, fit its calibration, write it beside the same weights."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gsvnet import __version__
from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.evaluation.calibration import fit_calibration
from gsvnet.evaluation.calibration_config import CalibrateConfig
from gsvnet.evaluation.calibration_counts import ConfidenceCounts, count_confidence
from gsvnet.evaluation.calibration_report import compare_reliability, plot_reliability, show_reliability
from gsvnet.evaluation.calibration_streets import draw_calibration_clips
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.cityscapes import open_cityscapes
from gsvnet.evaluation.commands import choose_device, choose_precision, show_progress, write_figures
from gsvnet.evaluation.dataset import ScoredClips, keep_both_sides
from gsvnet.models.checkpoints import DEFAULT_WEIGHTS, load_checkpoint, write_calibrated
from gsvnet.models.prepared import Precision, prepare_for_inference
from gsvnet.models.segmenter import VideoSegmenter


def calibrate(config: CalibrateConfig, console: Console) -> None:
    """Fit what `config` says, write the checkpoint and show how far the confidence is off before and after.

    Raises ConfigError and ModelError for what cannot be measured, before anything is written.
    """
    source = _find_checkpoint(config.model)
    model = load_checkpoint(source)
    needs = model.needs(360, 480)
    interval = config.keyframe_interval if needs.basis == "keyframe" else 1
    data = _open_data(config, interval)
    if needs.next_keyframe:
        data = keep_both_sides(data)
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    runner = Runner(
        model=prepare_for_inference(model, device=device, precision=precision),
        device=device,
        precision=precision,
        batch_chunks=config.batch_chunks,
    )
    counts, drawn = runner.count(data, console), None
    if interval > 1 and not data.is_propagated and config.drawn_clips:
        drawn = _count_drawn(runner, config.drawn_clips, interval, console)
    calibration = fit_calibration(counts, drawn)
    fitted_on = _describe(data, counts, config.drawn_clips if drawn else 0)
    write_calibrated(source, config.out, calibration, notes=fitted_on | {"program": f"gsvnet {__version__}"})
    name = f"{data.dataset} {data.split}, which it was fitted on"
    compared = compare_reliability(counts, calibration, data=name, classes=data.classes)
    show_reliability(compared, console)
    console.print(
        f"wrote {config.out}; judge it on other data: gsvnet evaluate camvid --root FOLDER --calibration "
        f"--model {config.out}",
        soft_wrap=True,
    )
    if config.json is not None:
        write_figures(config.json, {"fitted_on": fitted_on, **compared.to_dict()})
    for path in plot_reliability(compared, config.plots) if config.plots is not None else ():
        console.print(f"wrote {path}")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A network that is ready to run, and how it is run."""

    model: VideoSegmenter
    device: str
    precision: Precision
    batch_chunks: int

    def count(self, data: ScoredClips, console: Console) -> ConfidenceCounts:
        """How sure the network is of the data, and how often right, with a bar on the console."""
        with show_progress(f"{data.dataset} {data.split}", console) as on_progress:
            return count_confidence(
                self.model,
                data,
                batch_chunks=self.batch_chunks,
                device=self.device,
                precision=self.precision,
                progress=on_progress,
            )


def _find_checkpoint(name: str) -> Path:
    path = DEFAULT_WEIGHTS if name == "default" else Path(name)
    if not path.is_file():
        raise ConfigError(f"--model {name}: no such file; a calibration is kept in a checkpoint, so name one")
    return path


def _open_data(config: CalibrateConfig, interval: int) -> ScoredClips:
    if config.camvid is not None:
        return open_camvid(config.camvid, config.split or "test", keyframe_interval=interval)
    assert config.cityscapes is not None
    return open_cityscapes(config.cityscapes, config.split or "val", keyframe_interval=interval)


def _count_drawn(runner: Runner, num_clips: int, interval: int, console: Console) -> ConfidenceCounts | None:
    """Counts on drawn streets; None, and a line about it, for networks whose classes are not those of the streets."""
    if runner.model.classes.identifiers != CAMVID.identifiers:
        console.print("note: drawn streets have CamVid's classes, the model has others: nothing is fitted to distance")
        return None
    if runner.model.needs(360, 480).next_keyframe:
        console.print("note: no keyframe follows in drawn streets, the model reads one: nothing is fitted to distance")
        return None
    with tempfile.TemporaryDirectory() as folder:
        return runner.count(
            draw_calibration_clips(Path(folder), num_clips=num_clips, keyframe_interval=interval), console
        )


def _describe(data: ScoredClips, counts: ConfidenceCounts, drawn_clips: int) -> dict:
    """What a calibration was measured on, for the checkpoint's notes."""
    about = {"data": f"{data.dataset} {data.split}", "frames": data.num_scored, "distances": len(counts.distances)}
    return about | ({"drawn_clips": drawn_clips} if drawn_clips else {})
