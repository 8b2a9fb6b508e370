"""Optical flow between two images from a library, independent of every network here, and labels moved by it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError, MissingExtra

MIN_SIDE = 12  # pixels; below that DIS has no pyramid


@dataclass(frozen=True, kw_only=True)
class FlowEstimator:
    """A way to get flow, and what to call it beside a figure that depends on it.

    estimate: as `estimate_flow`, from (current, previous) to (flow, valid).
    """

    name: str
    estimate: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def estimate_flow(current: np.ndarray, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow (2, H, W) float32 and valid (H, W) bool between two images (H, W, 3) uint8 RGB, on their luma.

    flow: (dx, dy) in pixels, current -> previous: what is at (x, y) now is at (x + dx, y + dy) in `previous`.
    valid: the pixel nearest to that place is inside the image, and the flow from there leads back to (x, y). Dense
    inverse search (Kroeger et al., ECCV 2016) down to single pixels; the same numbers for any count of threads.
    Raises ConfigError for images that are no uint8 RGB, differ in size or are smaller than 12 pixels on a side,
    MissingExtra without OpenCV.
    """
    for image in (current, previous):
        _check_image(image)
    if current.shape != previous.shape:
        raise ConfigError(f"flow between images of {current.shape[:2]} and {previous.shape[:2]} pixels; must be equal")
    cv2 = load_opencv("evaluate")
    now, then = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (current, previous))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    flow, back = search.calc(now, then, None).transpose(2, 0, 1), search.calc(then, now, None)
    return flow, _nearest(flow)[2] & leads_back(flow, back)


DIS = FlowEstimator(name="OpenCV DIS (medium preset, finest scale 0)", estimate=estimate_flow)


def warp_labels(labels: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (H, W) uint8 of the other frame as the flow (2, H, W) fetches them from the nearest pixel, and inside.

    inside: (H, W) bool, that pixel is in the image; elsewhere the labels are 255.
    """
    column, row, inside = _nearest(flow)
    return np.where(inside, labels[row, column], np.uint8(IGNORE)), inside


def blend_ids(labels: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """(H, W) float32: the class ids (H, W) uint8 of the other frame, blended as if they were grey levels.

    What FlowNet2's Resample2d does to a label map: bilinear at x + flow, corners beyond the image clamped to its rim.
    The weights are float32 and sum to 1 only up to rounding, so ids of one class blend to a little less or more. (The
    CUDA kernel computes some products in float64 and so rounds at other pixels; this is its formula all in float32.)
    """
    height, width = labels.shape
    x, y = _targets(flow)
    left, top = np.floor(x), np.floor(y)
    a, b = x - left, y - top
    columns = [(left + i).clip(0, width - 1).astype(np.intp) for i in (0, 1)]
    rows = [(top + i).clip(0, height - 1).astype(np.intp) for i in (0, 1)]
    (top_left, top_right), (low_left, low_right) = (
        [labels[row, column].astype(np.float32) for column in columns] for row in rows
    )
    return (1 - a) * (1 - b) * top_left + a * (1 - b) * top_right + (1 - a) * b * low_left + a * b * low_right


def leads_back(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(H, W) bool: `back` (H, W, 2) undoes `flow` (2, H, W) within a tolerance (Sundaram et al., ECCV 2010, eq. 5).

    back: float32, from the other image to this one.
    """
    cv2 = load_opencv("evaluate")
    x, y = _targets(flow)
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).transpose(2, 0, 1)
    gap, length = np.square(flow + returned).sum(0), np.square(flow).sum(0) + np.square(returned).sum(0)
    return gap < 0.01 * length + 0.5


def load_opencv(extra: str) -> ModuleType:
    """The module cv2. Raises MissingExtra without it; extra: of this package, with which it would be there."""
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingExtra("opencv-python-headless", extra) from error


def _targets(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the flow (2, H, W) points, x and y (H, W) float32."""
    height, width = flow.shape[1:]
    return np.arange(width, dtype=np.float32) + flow[0], np.arange(height, dtype=np.float32)[:, None] + flow[1]


def _nearest(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column and row (H, W) of the pixel nearest to where the flow points, and whether the image has it."""
    height, width = flow.shape[1:]
    x, y = (np.rint(position).astype(np.intp) for position in _targets(flow))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return x.clip(0, width - 1), y.clip(0, height - 1), inside


def _check_image(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"flow of an image {image.dtype} {image.shape}; needed: uint8 (H, W, 3) RGB")
    if min(image.shape[:2]) < MIN_SIDE:
        raise ConfigError(f"flow of an image of {image.shape[:2]} pixels; each side must have {MIN_SIDE} or more")
