"""Whether the numbers in a model's description, which may come from anybody's file, can be those of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

from gsvnet.errors import ModelError
from gsvnet.models.segmenter import Resize, SizeRule

MOST_ROWS = 2**14  # of a working frame; FFmpeg decodes few that are taller
_MOST_STRIDE, _MOST_SCALE = 256, 4.0


def check_normalise(mean: Sequence[float], std: Sequence[float], scale: float, channels: str) -> None:
    """Raise ModelError for what `Normalise` cannot divide by, or is no colour's."""
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list | tuple) or len(values) != 3 or not all(map(_is_number, values)):
            raise ModelError(f"normalisation: {name} is {values!r:.80}; three numbers are needed")
    if not _is_number(scale) or 0 in (*std, scale):
        raise ModelError(f"normalisation: std {std!r:.80}, scale {scale!r:.80}; numbers other than 0 are needed")
    if channels not in ("rgb", "bgr"):
        raise ModelError(f"normalisation: channel order {channels!r:.80}; allowed: rgb, bgr")


def check_sizes(rule: SizeRule, resize: str, align_corners: bool) -> None:
    """Raise ModelError for sizes that no frame can be brought to."""
    if rule.rows is not None and not _is_whole(rule.rows, 1, MOST_ROWS):
        raise ModelError(f"size rule: rows is {rule.rows!r:.80}; allowed: none, or 1 to {MOST_ROWS}")
    if not _is_number(rule.keyframe_scale) or not 0 < rule.keyframe_scale <= _MOST_SCALE:
        raise ModelError(f"size rule: keyframe_scale is {rule.keyframe_scale!r:.80}; allowed: to {_MOST_SCALE:g}")
    strides = rule.strides if isinstance(rule.strides, tuple) else ()
    if not strides or not all(_is_whole(stride, 1, _MOST_STRIDE) for stride in strides):
        raise ModelError(f"size rule: strides are {rule.strides!r:.80}; needed: whole numbers from 1 to {_MOST_STRIDE}")
    if not _is_whole(rule.min_grid_rows, 0, MOST_ROWS):
        raise ModelError(f"size rule: min_grid_rows is {rule.min_grid_rows!r:.80}; allowed: 0 to {MOST_ROWS}")
    if resize not in get_args(Resize) or not isinstance(align_corners, bool):
        raise ModelError(f"resize {resize!r:.80}, align_corners {align_corners!r:.80}: not known")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 and math.isfinite(value)


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
