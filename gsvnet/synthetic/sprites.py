"""Faces of cars, people, bicycles and signs. Each function draws one texture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gsvnet.synthetic.ripmap import Texture
from gsvnet.synthetic.sketch import Sketch, draw_noise

GLASS = (0.10, 0.12, 0.14)


def draw_car_side(_: np.random.Generator) -> Texture:
    """Lower side of a car, front to the right: body in the tint, two wheels, sills, door lines, handles, lamps."""
    sketch = Sketch(64, 256, width=4, height=1)
    body = [
        (0.06, 0.3),
        (0.02, 0.75),
        (0.1, 1.0),
        (2.9, 1.0),
        (3.75, 0.86),
        (3.97, 0.62),
        (3.95, 0.3),
        (3.8, 0.2),
        (0.2, 0.2),
    ]
    sketch.fill(sketch.polygon(body), paint=0.8)
    sketch.shade(0.72 + 0.42 * sketch.y)
    sketch.fill(sketch.box(0.1, 0.2, 3.9, 0.27), grey=0.08)
    for x in (1.25, 2.2, 3.0):
        sketch.shade(0.6, sketch.box(x, 0.3, x + 0.03, 1))
    for x in (1.32, 2.27):
        sketch.fill(sketch.box(x, 0.78, x + 0.18, 0.82), grey=0.25)
    sketch.fill(sketch.box(0.02, 0.68, 0.16, 0.86) * sketch.polygon(body), rgb=(0.6, 0.08, 0.06))
    sketch.fill(sketch.box(3.7, 0.62, 3.95, 0.76), grey=0.8)
    for x in (0.78, 3.2):
        sketch.fill(sketch.oval(x, 0.33, 0.4, 0.4), grey=0.05)
        sketch.fill(sketch.oval(x, 0.31, 0.32, 0.31), grey=0.1)
        sketch.fill(sketch.oval(x, 0.31, 0.19, 0.19), grey=0.48)
        sketch.fill(sketch.oval(x, 0.31, 0.06, 0.06), grey=0.2)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_car_cabin_side(_: np.random.Generator) -> Texture:
    """Upper side of a car, front to the right: windows, pillars and the roof's edge in the tint."""
    sketch = Sketch(64, 256, width=4, height=1)
    outline = [(0.0, 0.0), (0.55, 0.95), (0.75, 1.0), (2.7, 1.0), (3.0, 0.92), (4.0, 0.0)]
    sketch.fill(sketch.polygon(outline), paint=0.85)
    for panes in (
        [(0.35, 0.08), (0.72, 0.84), (1.3, 0.86), (1.3, 0.08)],
        [(1.42, 0.08), (1.42, 0.86), (2.75, 0.86), (3.6, 0.08)],
    ):
        sketch.fill(sketch.polygon(panes), rgb=GLASS)
    sketch.shade(1 + 1.2 * sketch.y)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_car_rear(_: np.random.Generator) -> Texture:
    """Lower rear: boot, lamps, number plate, bumper."""
    sketch = Sketch(128, 128, width=2, height=1)
    sketch.fill(sketch.box(0.12, 0.17, 1.88, 0.3), grey=0.07)
    sketch.fill(
        sketch.polygon([(0.05, 0.24), (0.0, 0.7), (0.12, 1.0), (1.88, 1.0), (2.0, 0.7), (1.95, 0.24)]), paint=0.75
    )
    sketch.shade(0.75 + 0.4 * sketch.y, sketch.box(0, 0.24, 2, 1))
    sketch.shade(0.55, sketch.box(0.08, 0.47, 1.92, 0.495))
    for x0, x1 in ((0.04, 0.3), (1.7, 1.96)):
        sketch.fill(sketch.box(x0, 0.58, x1, 0.9), rgb=(0.62, 0.05, 0.04))
        sketch.fill(sketch.box(x0, 0.68, x1, 0.75), rgb=(0.9, 0.75, 0.6))
    sketch.fill(sketch.box(0.72, 0.55, 1.28, 0.68), rgb=(0.85, 0.72, 0.2))
    sketch.fill(sketch.box(0.78, 0.58, 1.22, 0.65), rgb=(0.35, 0.3, 0.1))
    sketch.shade(0.7, sketch.box(0.06, 0.24, 1.94, 0.34))
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_car_front(_: np.random.Generator) -> Texture:
    """Lower front: grille, headlamps, number plate, bumper."""
    sketch = Sketch(128, 128, width=2, height=1)
    sketch.fill(sketch.box(0.12, 0.17, 1.88, 0.3), grey=0.06)
    sketch.fill(
        sketch.polygon([(0.04, 0.22), (0.02, 0.75), (0.25, 0.98), (1.75, 0.98), (1.98, 0.75), (1.96, 0.22)]), paint=0.75
    )
    sketch.shade(0.75 + 0.4 * sketch.y, sketch.box(0, 0.24, 2, 1))
    sketch.fill(sketch.box(0.55, 0.62, 1.45, 0.8), grey=0.08)
    for y in (0.66, 0.72):
        sketch.fill(sketch.box(0.58, y, 1.42, y + 0.02), grey=0.4)
    for x in (0.27, 1.73):
        sketch.fill(sketch.oval(x, 0.72, 0.22, 0.11), grey=0.75)
        sketch.fill(sketch.oval(x, 0.72, 0.1, 0.07), grey=1.0)
    sketch.fill(sketch.box(0.4, 0.28, 1.6, 0.42), grey=0.1)
    sketch.fill(sketch.box(0.72, 0.43, 1.28, 0.55), grey=0.88)
    sketch.fill(sketch.box(0.78, 0.46, 1.22, 0.52), grey=0.3)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_bonnet(_: np.random.Generator) -> Texture:
    """Bonnet, narrower towards the front (top), with two creases."""
    sketch = Sketch(64, 64, width=2, height=1)
    sketch.fill(sketch.polygon([(0.02, 0), (0.2, 1), (1.8, 1), (1.98, 0)]), paint=0.95)
    for start, stop in (((0.45, 0), (0.6, 1)), ((1.55, 0), (1.4, 1))):
        sketch.shade(0.8, sketch.line(start, stop, 0.03))
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_tyres(_: np.random.Generator) -> Texture:
    """The two tyres of an axle, seen from behind."""
    sketch = Sketch(16, 64, width=2, height=1)
    sketch.fill(sketch.box(0.04, 0, 0.3, 1) + sketch.box(1.7, 0, 1.96, 1), grey=0.05)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_windscreen(_: np.random.Generator) -> Texture:
    """Front or rear window between tapered pillars, with what can be guessed of the seats."""
    sketch = Sketch(64, 128, width=2, height=1)
    sketch.fill(sketch.polygon([(0.0, 0.0), (0.22, 1.0), (1.78, 1.0), (2.0, 0.0)]), paint=0.85)
    sketch.fill(sketch.polygon([(0.13, 0.06), (0.3, 0.88), (1.7, 0.88), (1.87, 0.06)]), rgb=GLASS)
    sketch.shade(1 + 1.6 * sketch.y**2, sketch.box(0.1, 0.06, 1.9, 0.88))
    for x in (0.65, 1.35):
        sketch.fill(sketch.oval(x, 0.2, 0.18, 0.3), grey=0.06)
        sketch.fill(sketch.oval(x, 0.52, 0.1, 0.14), grey=0.07)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_van_side(_: np.random.Generator) -> Texture:
    """Upper side of a van: panels and the driver's window."""
    sketch = Sketch(64, 256, width=4, height=1)
    sketch.fill(sketch.polygon([(0, 0), (0.03, 0.97), (3.2, 0.97), (4, 0)]), paint=0.85)
    sketch.fill(sketch.polygon([(2.6, 0.1), (2.6, 0.75), (3.15, 0.75), (3.7, 0.1)]), rgb=GLASS)
    sketch.shade(0.65, sketch.box(1.2, 0, 1.23, 1) + sketch.box(2.45, 0, 2.48, 1))
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_bus_side(_: np.random.Generator) -> Texture:
    """Upper side of a bus: a row of windows."""
    sketch = Sketch(64, 256, width=4, height=1)
    sketch.fill(sketch.box(0, 0, 4, 1), paint=0.85)
    for i in range(7):
        sketch.fill(sketch.box(0.08 + 0.56 * i, 0.2, 0.58 + 0.56 * i, 0.78), rgb=(0.14, 0.16, 0.18))
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_shadow(_: np.random.Generator) -> Texture:
    """Soft dark patch under a thing; belongs to no class."""
    sketch = Sketch(64, 64)
    radius = np.maximum(np.abs(sketch.x - 0.5), np.abs(sketch.y - 0.5)) + 0.25 * np.hypot(
        sketch.x - 0.5, sketch.y - 0.5
    )
    sketch.image[..., 4] = np.clip((0.58 - radius) * 5, 0, 1) * 0.72
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_torso(rng: np.random.Generator) -> Texture:
    """Coat with shoulders, in the tint."""
    sketch = Sketch(64, 32)
    coat = [(0.14, 0.0), (0.1, 0.45), (0.02, 0.85), (0.3, 0.98), (0.7, 0.98), (0.98, 0.85), (0.9, 0.45), (0.86, 0.0)]
    sketch.fill(sketch.polygon(coat), paint=0.8)
    sketch.shade(np.clip(0.7 + 0.4 * np.sin(np.pi * sketch.x) + 0.06 * draw_noise(rng, 64, 32, falloff=0.8), 0, 1.2))
    sketch.shade(0.6, sketch.box(0.48, 0, 0.52, 0.9))
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_head(_: np.random.Generator) -> Texture:
    """Head with hair; the tint is the hair's."""
    sketch = Sketch(32, 32)
    sketch.fill(sketch.box(0.38, 0.0, 0.62, 0.3), rgb=(0.5, 0.38, 0.32))
    sketch.fill(sketch.oval(0.5, 0.55, 0.36, 0.44), rgb=(0.62, 0.47, 0.4))
    sketch.fill(sketch.oval(0.5, 0.72, 0.38, 0.3), paint=0.9)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_limb(_: np.random.Generator) -> Texture:
    """A sleeve or trouser leg in the tint with a dark shoe or glove at the far end (bottom)."""
    sketch = Sketch(64, 16)
    sketch.fill(
        sketch.polygon([(0.25, 0.0), (0.22, 0.3), (0.06, 1.0), (0.94, 1.0), (0.78, 0.3), (0.75, 0.0)]), paint=0.75
    )
    sketch.fill(sketch.box(0.15, 0.0, 0.85, 0.09), grey=0.06)
    sketch.shade(0.65 + 0.45 * np.sin(np.pi * sketch.x))
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_bicycle(_: np.random.Generator) -> Texture:
    """Side of a bicycle, front to the right, 1.75 m x 1.05 m."""
    sketch = Sketch(128, 256, width=1.75, height=1.05)
    for x in (0.35, 1.4):
        ring = sketch.oval(x, 0.34, 0.34, 0.34) * (1 - sketch.oval(x, 0.34, 0.29, 0.29))
        sketch.fill(sketch.oval(x, 0.34, 0.29, 0.29), grey=0.3, alpha=0.18)
        sketch.fill(ring, grey=0.06)
    frame = ((0.35, 0.34), (0.62, 0.82), (1.22, 0.82), (0.78, 0.32), (0.35, 0.34))
    for start, stop in (
        *pairwise(frame),
        ((0.78, 0.32), (0.6, 0.92)),
        ((1.4, 0.34), (1.18, 1.0)),
        ((1.1, 1.0), (1.3, 0.98)),
    ):
        sketch.fill(sketch.line(start, stop, 0.045), paint=0.8)
    sketch.fill(sketch.box(0.5, 0.9, 0.74, 0.96), grey=0.05)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_wheel_edge(_: np.random.Generator) -> Texture:
    """A bicycle's wheel seen from behind."""
    sketch = Sketch(64, 8)
    sketch.fill(sketch.oval(0.5, 0.5, 0.6, 0.5), grey=0.07)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_limit_sign(_: np.random.Generator) -> Texture:
    """Round, red ring, figures."""
    sketch = Sketch(64, 64)
    sketch.fill(sketch.oval(0.5, 0.5, 0.48, 0.48), rgb=(0.72, 0.08, 0.08))
    sketch.fill(sketch.oval(0.5, 0.5, 0.36, 0.36), grey=0.9)
    for x in (0.33, 0.53):
        sketch.fill(sketch.box(x, 0.34, x + 0.14, 0.66), grey=0.08)
        sketch.fill(sketch.box(x + 0.05, 0.41, x + 0.09, 0.6), grey=0.9)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_warning_sign(_: np.random.Generator) -> Texture:
    """Triangle with a red border."""
    sketch = Sketch(64, 64)
    sketch.fill(sketch.polygon([(0.02, 0.08), (0.98, 0.08), (0.5, 0.95)]), rgb=(0.72, 0.08, 0.08))
    sketch.fill(sketch.polygon([(0.2, 0.18), (0.8, 0.18), (0.5, 0.73)]), grey=0.9)
    sketch.fill(sketch.box(0.46, 0.25, 0.54, 0.56), grey=0.08)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_blue_sign(_: np.random.Generator) -> Texture:
    """Blue disc with a white arrow."""
    sketch = Sketch(64, 64)
    sketch.fill(sketch.oval(0.5, 0.5, 0.48, 0.48), rgb=(0.08, 0.2, 0.55))
    sketch.fill(
        sketch.line((0.5, 0.2), (0.5, 0.65), 0.1) + sketch.polygon([(0.28, 0.58), (0.72, 0.58), (0.5, 0.85)]), grey=0.9
    )
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_board(rng: np.random.Generator) -> Texture:
    """A board in the tint with a pale border and lines of lettering."""
    sketch = Sketch(64, 128, width=2, height=1)
    sketch.fill(sketch.box(0, 0, 2, 1), grey=0.85)
    sketch.fill(sketch.box(0.05, 0.05, 1.95, 0.95), paint=0.9)
    for y in (0.62, 0.25):
        for x in np.arange(0.2, 1.7, 0.14):
            if rng.random() < 0.8:
                sketch.fill(sketch.box(x, y, x + 0.09, y + 0.12 + 0.06 * rng.random()), grey=0.85)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_traffic_light(_: np.random.Generator) -> Texture:
    """Black box with three lamps; the tint is the light of the lowest one."""
    sketch = Sketch(64, 32, width=1, height=2)
    sketch.fill(sketch.box(0.02, 0.02, 0.98, 1.98), grey=0.06)
    sketch.fill(sketch.oval(0.5, 1.6, 0.26, 0.26), rgb=(0.22, 0.04, 0.04))
    sketch.fill(sketch.oval(0.5, 1.0, 0.26, 0.26), rgb=(0.25, 0.16, 0.03))
    sketch.fill(sketch.oval(0.5, 0.4, 0.26, 0.26), paint=1.0)
    return sketch.finish(wrap_u=False, wrap_v=False)
