"""Labelled stills for training: CamVid's train split held in memory, and the random views cut from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.errors import ConfigError
from gsvnet.evaluation.camvid import list_frames


@dataclass(frozen=True, kw_only=True)
class Stills:
    """Images (N, 3, H, W) uint8 RGB and labels (N, H, W) uint8 with 255 = ignore.

    sequences: which drive each is from, in order of time within each; default: all are from one.
    """

    images: Tensor
    labels: Tensor
    sequences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sequences", self.sequences or ("",) * len(self.images))
        shapes = {(len(self.images), *self.images.shape[2:]), tuple(self.labels.shape)}
        if len(shapes) > 1 or len(self.sequences) != len(self.images):
            raise ConfigError(
                f"stills of {tuple(self.images.shape)} with labels of {tuple(self.labels.shape)} "
                f"and {len(self.sequences)} sequence names; each image needs one of both"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    def joined(self, other: Stills) -> Stills:
        """Both sets one after the other; raises ConfigError when their sizes differ."""
        if self.images.shape[1:] != other.images.shape[1:]:
            raise ConfigError(
                f"stills of {tuple(self.images.shape[2:])} and {tuple(other.images.shape[2:])} do not mix"
            )
        return Stills(
            images=torch.cat([self.images, other.images]),
            labels=torch.cat([self.labels, other.labels]),
            sequences=self.sequences + other.sequences,
        )

    def pick(self, places: Sequence[int]) -> Stills:
        """Some of them, in the order given."""
        chosen = torch.tensor(places, dtype=torch.long)
        return Stills(
            images=self.images[chosen],
            labels=self.labels[chosen],
            sequences=tuple(self.sequences[i] for i in places),
        )


def load_camvid_stills(root: Path, *, split: str = "train") -> Stills:
    """CamVid's train split, in the layout that `gsvnet.evaluation.camvid` describes, in order of sequence and time.

    Raises ConfigError for any other split (val and test are for evaluation), for missing or wrong files, and for
    images of different sizes.
    """
    if split != "train":
        raise ConfigError(f"split {split!r} is for evaluation; only 'train' may be trained on")
    images: list[Tensor] = []
    labels: list[Tensor] = []
    frames = list_frames(root, split)
    for frame in frames:
        image, truth = frame.read()
        if labels and truth.shape != labels[0].shape:
            raise ConfigError(f"{frame.image}: size {truth.shape}; the first image has {labels[0].shape}")
        images.append(torch.from_numpy(image).permute(2, 0, 1))
        labels.append(torch.from_numpy(truth))
    return Stills(
        images=torch.stack(images), labels=torch.stack(labels), sequences=tuple(frame.sequence for frame in frames)
    )


def class_weights(labels: Tensor, num_classes: int, *, temper: float = 1.1) -> Tensor:
    """(C,) float weights 1 / ln(temper + share of pixels), mean 1: rare classes count more (ENet's rule, softened).

    labels: uint8 of any shape; 255 and whatever else is no class does not count.
    """
    share = torch.bincount(labels.flatten(), minlength=256)[:num_classes].double()
    weights = 1.0 / torch.log(temper + share / share.sum().clamp(min=1))
    return (weights / weights.mean()).float()


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of a picture that a view shows: `height` x `width` pixels of it from (top, left) on."""

    top: int
    left: int
    height: int
    width: int


def draw_window(
    size: tuple[int, int], *, crop: tuple[int, int], scales: tuple[float, float], generator: np.random.Generator
) -> Window:
    """A random window inside a picture of `size`, for a view of size `crop`.

    Its scale is drawn log-uniformly from `scales` (larger = zoomed in), limited to windows inside the picture.
    """
    height, width = size
    smallest = max(crop[0] / height, crop[1] / width)
    low, high = (np.log(max(s, smallest)) for s in scales)
    scale = float(np.exp(generator.uniform(low, max(low, high))))
    h, w = min(height, round(crop[0] / scale)), min(width, round(crop[1] / scale))
    y, x = int(generator.integers(0, height - h + 1)), int(generator.integers(0, width - w + 1))
    return Window(top=y, left=x, height=h, width=w)


def cut_views(images: Tensor, window: Window, crop: tuple[int, int]) -> Tensor:
    """(N, 3, h, w) float: what a window shows of images (N, 3, H, W), resized to `crop`."""
    y, x, h, w = window.top, window.left, window.height, window.width
    shrinks = crop[0] < h or crop[1] < w
    views = images[:, :, y : y + h, x : x + w].float()
    return F.interpolate(views, crop, mode="bilinear", align_corners=False, antialias=shrinks)


def draw_view(
    image: Tensor, label: Tensor, *, crop: tuple[int, int], scales: tuple[float, float], generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A random window of one still, resized to `crop`: (3, h, w) float in 0..255 and (h, w) int64.

    The window is that of `draw_window`; mirrored half of the time; brightness, contrast and colour cast vary.
    """
    window = draw_window((label.shape[0], label.shape[1]), crop=crop, scales=scales, generator=generator)
    view = cut_views(image[None], window, crop)[0]
    rows = ((torch.arange(crop[0]) + 0.5) * (window.height / crop[0])).long() + window.top
    columns = ((torch.arange(crop[1]) + 0.5) * (window.width / crop[1])).long() + window.left
    target = label[rows][:, columns].long()
    if generator.random() < 0.5:
        view, target = view.flip(-1), target.flip(-1)
    return jitter_colours(view, generator), target


def jitter_colours(view: Tensor, generator: np.random.Generator) -> Tensor:
    """Random contrast, brightness and colour cast of RGB in 0..255, one draw for all frames of (..., 3, h, w)."""
    contrast = float(generator.uniform(0.75, 1.3))
    cast = torch.from_numpy(generator.uniform(0.92, 1.08, 3).astype(np.float32)).view(3, 1, 1)
    brightness = float(generator.uniform(-25, 25))
    return ((view - 110) * contrast * cast + 110 + brightness).clamp_(0, 255)


def batches_of_views(
    sets: Sequence[Stills],
    *,
    batch_size: int,
    crop: tuple[int, int],
    scales: tuple[float, float],
    seed: Sequence[int],
    share: slice = slice(None),
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: (B, 3, h, w) float in 0..255 and (B, h, w) int64; a smaller rest is dropped.

    sets: each of its own size; together they are drawn from as one. seed: of this epoch; a view follows from it and
    from its place in the epoch alone. share: the places of each batch that are wanted.
    """
    places = [(stills, i) for stills in sets for i in range(len(stills))]
    order = np.random.default_rng(seed).permutation(len(places))
    for start in range(0, len(order) - batch_size + 1, batch_size):
        views = []
        for place in range(start, start + batch_size)[share]:
            stills, i = places[order[place]]
            generator = np.random.default_rng([*seed, 1 + place])
            views.append(draw_view(stills.images[i], stills.labels[i], crop=crop, scales=scales, generator=generator))
        yield torch.stack([v for v, _ in views]), torch.stack([t for _, t in views])
