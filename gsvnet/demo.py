"""`gsvnet label --demo`: label a drawn street, then compare with its true labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.job import label
from gsvnet.store.read import open_labels
from gsvnet.synthetic import SceneConfig, StreetScene, write_video
from gsvnet.uris import redact_uri

NUM_FRAMES = 150
SCENE = SceneConfig(seed=7)
SCORED_EVERY = 5


def label_demo(config: LabelConfig, console: Console) -> int:
    """Draw the video beside the output, label it, print the mIoU against its truth; the exit code."""
    config.check_for_labeling()
    if "://" in config.out:
        raise ConfigError(
            f"--demo draws its video beside the output, which must be a local folder, not {redact_uri(config.out)}"
        )
    video = Path(config.out.rstrip("/") + "-street.mp4")
    if not video.exists():
        video.parent.mkdir(parents=True, exist_ok=True)
        console.print(f"drawing {NUM_FRAMES} frames of a street into {video}")
        partial = video.with_name(f".{video.name}")
        write_video(partial.with_suffix(".mp4"), config=SCENE, num_frames=NUM_FRAMES)
        partial.replace(video)
    report = label(replace(config, demo=False, videos=(str(video),)), console=console)
    if report.exit_code == 0:
        show_score(config.out, console)
        console.print(f"look at it: gsvnet show {config.out} --frame 60")
    return report.exit_code


def show_score(out: str, console: Console) -> None:
    """Print the mIoU of every fifth keyframe and propagated frame against the drawn truth."""
    labels = open_labels(out)
    if labels.classes.names != CAMVID.names:
        console.print(f"the model labels {labels.classes.name} classes, the drawn street has CamVid's: no score")
        return
    scene, matrix = StreetScene(SCENE), ConfusionMatrix(len(CAMVID))
    indices = np.arange(0, NUM_FRAMES, SCORED_EVERY - 1)  # not a multiple of the usual interval: all distances occur
    for index in indices.tolist():
        matrix.update(scene.labels(index), labels.labels_at(labels.videos[0], [index])[0])
    console.print(f"mIoU against the drawn truth: {100 * matrix.miou():.1f} % over {len(indices)} frames")
