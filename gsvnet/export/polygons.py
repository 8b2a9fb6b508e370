"""Polygons of a mask, as YOLO has them: one closed line each, holes joined to the outside by a bridge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gsvnet.export.format import import_extra

MIN_PIXELS = 16  # smaller specks and holes are dropped
TOLERANCE_PX = 0.5


def trace_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Polygons [(N, 2) int32 x, y], N >= 3, around the areas of a mask (H, W) uint8, through pixels' centres.

    A hole is part of the polygon around it: a line leads to its rim, around it, and back.
    """
    cv2 = import_extra("cv2")
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons = []
    for number, contour in enumerate(contours):
        _, _, child, parent = hierarchy[0][number]
        if parent >= 0 or _count_pixels(contour[:, 0]) < MIN_PIXELS:
            continue
        holes = []
        while child >= 0:
            if _count_pixels(contours[child][:, 0]) >= MIN_PIXELS:
                holes.append(_simplify(contours[child]))
            child = hierarchy[0][child][0]
        polygon = join_holes(_simplify(contour), holes)
        polygons.append(polygon if len(polygon) >= 3 else np.resize(polygon, (3, 2)))
    return polygons


def join_holes(outside: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """One polygon (N, 2) int32 from the outside and the holes in it; each hole is joined where it is nearest."""
    polygon = outside
    for hole in sorted(holes, key=lambda points: points[:, 0].min()):
        apart = np.abs(polygon[:, None] - hole[None]).sum(axis=2)
        here, there = np.unravel_index(apart.argmin(), apart.shape)
        around = np.concatenate([hole[there:], hole[: there + 1]])
        polygon = np.concatenate([polygon[: here + 1], around, polygon[here:]])
    return polygon


def fill_polygons(polygons: Sequence[np.ndarray], size: tuple[int, ...]) -> np.ndarray:
    """Mask (H, W) uint8 of polygons, as Ultralytics and supervision fill them: OpenCV's fillPoly, one by one."""
    cv2 = import_extra("cv2")
    mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [polygon], 1)
    return mask


def _simplify(contour: np.ndarray) -> np.ndarray:
    return import_extra("cv2").approxPolyDP(contour, TOLERANCE_PX, True)[:, 0]


def _count_pixels(points: np.ndarray) -> float:
    """Pixels inside a closed line of horizontal, vertical and diagonal steps, and on it: Pick's theorem."""
    steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
    return import_extra("cv2").contourArea(points) + steps / 2 + 1
