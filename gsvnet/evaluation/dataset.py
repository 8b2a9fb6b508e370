"""Labelled video as files: images in display order, the true labels of some of them, and which of those are scored."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.video.motion import FrameMotion


@dataclass(frozen=True, kw_only=True)
class LabelIds:
    """What the ids in label files mean.

    classes: the class id of each stored id, 255 for void; every other id is an error. allowed: the ids in words.
    """

    classes: dict[int, int]
    allowed: str

    def translate(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Class ids (H, W) uint8, 255 = ignore, of stored ids. Raises ConfigError for ids that are no class."""
        table = np.full(256, -1)
        table[list(self.classes)] = list(self.classes.values())
        ids = table[stored]
        if (ids < 0).any():
            raise ConfigError(f"{path}: class id {stored[ids < 0][0]}; allowed: {self.allowed}")
        return ids.astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image of a clip; labels is None where nobody labelled it."""

    image: Path
    labels: Path | None
    ids: LabelIds

    def read_image(self) -> np.ndarray:
        """Image (H, W, 3) uint8 RGB. Raises ConfigError for files that do not decode."""
        return _read_pixels(self.image, "RGB")

    def read_truth(self, size: tuple[int, int]) -> np.ndarray:
        """Truth (H, W) uint8 with 255 = ignore, of a labelled frame whose image has this size (H, W).

        Raises ConfigError for another size, and as `LabelIds` does.
        """
        assert self.labels is not None, self.image
        truth = self.ids.translate(_read_pixels(self.labels, None), self.labels)
        if truth.shape != size:
            raise ConfigError(f"{self.labels}: labels have shape {truth.shape}, their image has {size}")
        return truth


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Images of one drive in display order, without a gap, or unrelated stills where only distance 0 is scored.

    scored: ascending indices of the labelled frames that are scored. motion: codec motion of every frame, for networks
    that ask for it; None where there is no video of these images. stills: the images do not follow each other in time.
    """

    name: str
    frames: tuple[Frame, ...]
    scored: tuple[int, ...]
    motion: tuple[FrameMotion, ...] | None = None
    stills: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoredClips:
    """What a network is scored on: a dataset's split, as far as a keyframe interval allows.

    Every scored frame of a clip has at least keyframe_interval - 1 frames before it, so all distances from the
    keyframe score the same frames. step_ms: time from frame to frame where known. notes: what a reader of the numbers
    must know.
    """

    dataset: str
    split: str
    classes: ClassSet
    clips: tuple[Clip, ...]
    keyframe_interval: int
    step_ms: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keyframe_interval < 1:
            raise ConfigError(f"keyframe interval {self.keyframe_interval}: at least 1")
        if not self.clips:
            before = self.keyframe_interval - 1
            raise ConfigError(f"no labelled frame of {self.dataset} {self.split} has {before} frames before it")
        for clip in self.clips:
            assert clip.scored, clip.name
            assert clip.scored[0] >= self.keyframe_interval - 1, clip.name
            assert all(clip.frames[index].labels is not None for index in clip.scored), clip.name

    @property
    def is_propagated(self) -> bool:
        """Whether more than distance 0 is scored."""
        return self.keyframe_interval > 1

    @property
    def num_scored(self) -> int:
        """Scored frames of all clips."""
        return sum(len(clip.scored) for clip in self.clips)


def keep_both_sides(data: ScoredClips) -> ScoredClips:
    """`data` without the scored frames that lack a keyframe behind them at some distance; the notes say how many.

    So networks that read the keyframe on one side and on both are scored on the same frames. Raises ConfigError where
    no scored frame is left.
    """
    interval, clips = data.keyframe_interval, []
    for clip in data.clips:
        scored = tuple(frame for frame in clip.scored if _has_both_sides(frame, clip, interval))
        if scored:
            clips.append(replace(clip, scored=scored))
    if not clips:
        raise ConfigError(
            f"no labelled frame of {data.dataset} {data.split} has the {interval - 1} frames after it that a keyframe "
            f"on both sides takes at every distance of keyframe interval {interval}"
        )
    kept = replace(data, clips=tuple(clips))
    note = f"only frames with a keyframe on both sides are scored, {kept.num_scored} of {data.num_scored}"
    return replace(kept, notes=(*data.notes, note)) if data.is_propagated else kept


def has_both_sides(data: ScoredClips) -> bool:
    """Whether every scored frame has a keyframe on both sides at every distance."""
    return all(_has_both_sides(clip.scored[-1], clip, data.keyframe_interval) for clip in data.clips)


def _has_both_sides(frame: int, clip: Clip, interval: int) -> bool:
    """The next keyframe is farthest from the keyframe right before a frame; a keyframe itself draws on no other."""
    return interval == 1 or frame - 1 + interval < len(clip.frames)


def _read_pixels(path: Path, mode: str | None) -> np.ndarray:
    """Pixels of a file: (H, W, 3) in mode "RGB"; class ids (H, W) as stored when mode is None."""
    try:
        with import_pillow().open(path) as image:
            pixels = np.array(image.convert(mode) if mode else image)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if mode is None and (pixels.ndim != 2 or pixels.dtype != np.uint8):
        raise ConfigError(f"{path}: labels are {pixels.dtype} {pixels.shape}; needed: one 8-bit channel of ids")
    return pixels


def import_pillow() -> ModuleType:
    """Pillow's module Image. Raises MissingExtra where it is not installed."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise MissingExtra("pillow", "evaluate") from error
