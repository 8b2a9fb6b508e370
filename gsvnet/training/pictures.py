"""Validation pictures of a training: a few fixed samples, looked at again whenever the training saves.

Keyframe networks: one still per row. Propagation: one clip per block, time running to the right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.classes import IGNORE, ClassSet
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation, with_gain
from gsvnet.models.segmenter import PerFrame
from gsvnet.nn.upsample import upsample_labels
from gsvnet.training.clips import Clip
from gsvnet.training.curves import load_matplotlib, save_figure
from gsvnet.training.flow_colours import colour_flow, draw_flow_key
from gsvnet.training.propagation import ClipSource
from gsvnet.training.stills import Stills

_WRONG, _RIGHT_FADE = (220, 30, 30), 0.65
_PANEL_INCHES, _HEADING_INCHES, _DPI = 2.1, 0.75, 110


@dataclass(frozen=True, kw_only=True)
class ClipSample:
    """A clip with the name of where it is from, and whose labels its targets are ("truth", "keyframe network")."""

    name: str
    targets_are: str
    clip: Clip


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture (H, W, 3) uint8 RGB of a grid of pictures, and what is written above and left of it."""

    image: np.ndarray
    above: str = ""
    left: str = ""


def pick_stills(stills: Stills, num_stills: int = 4) -> Stills:
    """At most `num_stills` stills, spread evenly from the first to the last; always the same ones of the same set."""
    chosen = np.unique(np.linspace(0, len(stills) - 1, num_stills).round().astype(int))
    return Stills(images=stills.images[chosen], labels=stills.labels[chosen])


def draw_stills(net: nn.Module, path: Path, title: str, *, stills: Stills, model: PerFrame) -> None:
    """Write one PNG: per still the image, the truth, the labels of `net`, and where labels and truth differ.

    net: in eval mode, with inputs and logits like those of the model's own network.
    """
    rows: list[list[Panel]] = []
    labels = label_stills(net, stills.images, model=model)
    for image, truth, label in zip(stills.images.permute(0, 2, 3, 1).numpy(), stills.labels.numpy(), labels):
        score, wrong = describe_score(truth, label, len(model.classes)), 100 * share_wrong(truth, label)
        rows.append(
            [
                Panel(image=image, above="" if rows else "image"),
                Panel(image=model.classes.colourise(truth), above="" if rows else "truth (black: ignored)"),
                Panel(image=model.classes.colourise(label), above=f"labels, {score}"),
                Panel(
                    image=mark_differences(image, truth, label),
                    above=f"{wrong:.1f} % of pixels differ" if score else "no truth",
                ),
            ]
        )
    draw_grid(rows, model.classes, [stills.labels.numpy(), labels], path=path, title=title)


@torch.no_grad()
def label_stills(net: nn.Module, images: Tensor, *, model: PerFrame) -> np.ndarray:
    """Labels (N, H, W) uint8 of images (N, 3, H, W) uint8, one at a time, at the sizes that labeling reads."""
    height, width = images.shape[-2:]
    size, device = model.needs(height, width).keyframe_size, model.normalise.mean.device
    labels = []
    for image in images:
        logits = net(model.normalise(resize_image(image, size, "area")[None].to(device)))
        labels.append(upsample_labels(logits.cpu(), (height, width), align_corners=model.align_corners)[0].numpy())
    return np.stack(labels)


def pick_clips(sources: Mapping[str, ClipSource], num_frames: int) -> list[ClipSample]:
    """One clip of each source, named as it is there; always the same ones of the same sources.

    The targets of a source named "video" are the keyframe network's labels, those of the others are true.
    """
    return [
        ClipSample(
            name=name,
            targets_are="keyframe network" if name == "video" else "truth",
            clip=source.draw(num_frames, np.random.default_rng(0)),
        )
        for name, source in sources.items()
    ]


def draw_clips(
    propagation: Propagation, path: Path, title: str, *, samples: Sequence[ClipSample], model: GSVNet
) -> None:
    """Write one PNG: per clip a block of four rows: frames, labels, targets, flow as colours; time runs right.

    propagation: in eval mode, with inputs and logits like those of the model's own.
    """
    rows: list[list[Panel]] = []
    shown: list[np.ndarray] = []
    for sample in samples:
        labels, flow = propagate_clip(propagation, sample.clip, model=model)
        rows += _draw_clip(sample, labels, flow, model.classes)
        shown += [labels, sample.clip.targets.numpy()]
    draw_grid(rows, model.classes, shown, path=path, title=title)


@torch.no_grad()
def propagate_clip(propagation: Propagation, clip: Clip, *, model: GSVNet) -> tuple[np.ndarray, np.ndarray]:
    """Labels (T, H, W) uint8 at the targets' size and flow (T - 1, 2, h, w).

    Frame 0 has the keyframe network's labels, each later frame what was propagated to it. Flow: current -> previous,
    (dx, dy) in pixels of the grid.
    """
    device = model.frame_normalise.mean.device
    frames = model.frame_normalise(clip.frames.to(device))
    states = [with_gain(clip.keyframe_logits[None].to(device))]
    for previous, current in pairwise(frames):
        states.append(propagation(states[-1], previous[None], current[None]))
    size = (clip.targets.shape[-2], clip.targets.shape[-1])
    labels = upsample_labels(torch.cat(states)[:, :-1].cpu(), size, align_corners=model.align_corners)
    return labels.numpy(), propagation.estimate_flow(frames[1:], frames[:-1]).cpu().numpy()


def _draw_clip(sample: ClipSample, labels: np.ndarray, flow: np.ndarray, classes: ClassSet) -> list[list[Panel]]:
    frames = sample.clip.frames.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()
    targets, reach = sample.clip.targets.numpy(), max(1.0, float(np.quantile(np.hypot(flow[:, 0], flow[:, 1]), 0.99)))
    scores = [describe_score(t, y, len(classes)) for t, y in zip(targets, labels)]
    times = ["keyframe", *(f"distance {t}" for t in range(1, len(frames)))]
    flows = [draw_flow_key(frames.shape[1:3]), *(colour_flow(f, reach) for f in flow)]
    named = (
        (sample.name, frames, times),
        ("propagated", classes.colourise(labels), ["keyframe network, " + scores[0], *scores[1:]]),
        (sample.targets_are, classes.colourise(targets), [""] * len(frames)),
        ("flow", flows, [f"to previous frame, rim {reach:.1f} px", *[""] * len(flow)]),
    )
    return [
        [Panel(image=i, above=a, left=name if not n else "") for n, (i, a) in enumerate(zip(images, above))]
        for name, images, above in named
    ]


def mark_differences(image: np.ndarray, truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 in pale grey, red where labels differ from the truth; black where truth is ignored."""
    grey = 255 - (1 - _RIGHT_FADE) * (255 - image.mean(axis=-1, keepdims=True))
    marked = np.where((labels != truth)[..., None], _WRONG, grey.round()).astype(np.uint8)
    marked[truth == IGNORE] = 0
    return marked


def share_wrong(truth: np.ndarray, labels: np.ndarray) -> float:
    """Share in 0..1 of the pixels with truth whose label differs; 0 where no pixel has truth."""
    counted = truth != IGNORE
    return float((labels != truth)[counted].mean()) if counted.any() else 0.0


def describe_score(truth: np.ndarray, labels: np.ndarray, num_classes: int) -> str:
    """ "mIoU 61.5 %" of one picture, or "no truth"."""
    matrix = ConfusionMatrix(num_classes)
    matrix.update(truth, labels)
    return "no truth" if np.isnan(matrix.miou()) else f"mIoU {100 * matrix.miou():.1f} %"


def draw_grid(
    rows: Sequence[Sequence[Panel]], classes: ClassSet, shown: Sequence[np.ndarray], *, path: Path, title: str
) -> None:
    """Write the panels as one PNG with a title, and the colours of the classes that occur in `shown` below."""
    height, width = rows[0][0].image.shape[:2]
    inches = (_PANEL_INCHES * len(rows[0]) + 0.3, (_PANEL_INCHES * height / width + 0.2) * len(rows) + _HEADING_INCHES)
    figure = load_matplotlib("figure").Figure(figsize=inches, dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for panel, axis in zip((panel for row in rows for panel in row), axes.flat):
        _draw_panel(axis, panel)
    patch = load_matplotlib("patches").Patch
    found = sorted(set().union(*(np.unique(labels).tolist() for labels in shown)) - {IGNORE})
    handles = [patch(color=np.array(classes.colours[i]) / 255, label=classes.names[i]) for i in found]
    figure.legend(handles=handles, loc="outside lower left", ncols=6, fontsize=8, frameon=False)
    save_figure(figure, path)


def _draw_panel(axis: Any, panel: Panel) -> None:
    axis.imshow(panel.image, interpolation="nearest", aspect="auto")
    axis.set(xticks=[], yticks=[])
    axis.set_title(panel.above, fontsize=8, pad=3)
    axis.set_ylabel(panel.left, fontsize=8)
    axis.spines[:].set_visible(False)
