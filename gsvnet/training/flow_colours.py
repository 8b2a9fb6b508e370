"""Optical flow as colours, and the key to read them by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gsvnet.training.curves import load_matplotlib


def colour_flow(flow: np.ndarray, reach: float) -> np.ndarray:
    """Colours (h, w, 3) uint8 of flow (2, h, w): hue is direction, white no motion, full colour `reach` px and more."""
    hue = np.arctan2(flow[1], flow[0]) / (2 * np.pi) % 1.0
    saturation = np.minimum(np.hypot(flow[0], flow[1]) / reach, 1.0)
    colours = load_matplotlib("colors").hsv_to_rgb(np.stack([hue, saturation, np.ones_like(hue)], axis=-1))
    return (255 * colours + 0.5).astype(np.uint8)


def draw_flow_key(size: Sequence[int]) -> np.ndarray:
    """Colours (h, w, 3) uint8 of a disc that shows which colour points where; its rim is as far as colours reach."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    radius = 0.45 * min(height, width)
    point = np.stack([x - width / 2, y - height / 2])
    key = colour_flow(point, radius)
    key[np.hypot(point[0], point[1]) > radius] = 255
    return key
