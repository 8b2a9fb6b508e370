"""Validation pictures of TDNet's training: a few fixed runs, looked at again whenever the training saves."""

from __future__ import annotations

from pathlib import Path

from gsvnet.evaluation.resize import resize_image
from gsvnet.models.tdnet import TDNet
from gsvnet.training.pictures import Panel, describe_score, draw_grid
from gsvnet.training.tdnet import label_runs
from gsvnet.training.tdnet_runs import RunBatch


def draw_run_labels(model: TDNet, path: Path, title: str, *, runs: RunBatch, device: str = "cpu") -> None:
    """Write one PNG: per run its frames, and of the last one the truth and its labels, alone and gathered.

    model: in eval mode.
    """
    size = (runs.targets.shape[-2], runs.targets.shape[-1])
    gathered, alone = label_runs(model, runs, device=device)
    truth, classes, num_frames = runs.targets[:, -1].numpy(), model.classes, runs.images.shape[1]
    rows: list[list[Panel]] = []
    for run, frames in enumerate(runs.images):
        images = resize_image(frames, size, "area").permute(0, 2, 3, 1).numpy()
        turns = [(run + 1 + n) % num_frames for n in range(num_frames)]
        scores = [describe_score(truth[run], labels[run], len(classes)) for labels in (alone, gathered)]
        rows.append(
            [
                *(Panel(image=image, above=f"sub-network {turn}") for image, turn in zip(images, turns)),
                Panel(image=classes.colourise(truth[run]), above="" if rows else "targets of the last"),
                Panel(image=classes.colourise(alone[run]), above=f"alone, {scores[0]}"),
                Panel(image=classes.colourise(gathered[run]), above=f"gathered, {scores[1]}"),
            ]
        )
    draw_grid(rows, classes, [truth, alone, gathered], path=path, title=title)
