"""Surfaces of ground, sky, buildings, trees and street furniture. Each function draws one texture."""

from __future__ import annotations

import numpy as np

from gsvnet.synthetic.ripmap import ALPHA, SOLID, Texture
from gsvnet.synthetic.sketch import Mask, Sketch, draw_noise

BAYS = 4  # windows per texture period, across and up
BAY_M, STOREY_M = 2.4, 3.0


def draw_asphalt(rng: np.random.Generator) -> Texture:
    """5 m x 5 m of grain with a few cracks, mean 0.5."""
    sketch = Sketch(512, 512)
    grain = draw_noise(rng, 512, 512, falloff=0.35) * 0.045 + draw_noise(rng, 512, 512, falloff=1.2) * 0.03
    sketch.fill(sketch.box(0, 0, 1, 1), grey=0.5)
    sketch.shade(1 + 2 * grain)
    for _ in range(3):
        x, y = rng.random(2)
        for _ in range(12):
            step = rng.normal(0, 0.03, 2) + (0.015, 0.0)
            start, stop = (x, y), (x + step[0], y + step[1])
            piece = sketch.around(start, stop, 0.01)
            piece.shade(0.8, piece.line(start, stop, 0.003))
            x, y = stop
    return sketch.finish()


def draw_paving(rng: np.random.Generator) -> Texture:
    """2.4 m x 2.4 m of flagstones with dark joints, mean 0.5."""
    sketch = Sketch(256, 256, width=4, height=4)
    for row in range(4):
        for column in range(5):
            left = column - 0.5 * (row % 2)
            tone = 0.5 + rng.normal(0, 0.035)
            sketch.fill(sketch.box(left, row, left + 1, row + 1), grey=tone)
            sketch.shade(0.78, sketch.box(left, row, left + 0.03, row + 1))
        sketch.shade(0.78, sketch.box(0, row, 4, row + 0.03))
    sketch.shade(1 + 0.07 * draw_noise(rng, 256, 256, falloff=0.4))
    return sketch.finish()


def draw_grass(rng: np.random.Generator) -> Texture:
    """4 m x 4 m of grass, mean about 0.5 (to be tinted)."""
    sketch = Sketch(256, 256)
    sketch.fill(sketch.box(0, 0, 1, 1), grey=0.5)
    blades = draw_noise(rng, 256, 256, falloff=0.25) * 0.16 + draw_noise(rng, 256, 256, falloff=1.1) * 0.10
    sketch.shade(np.clip(1 + blades, 0.3, 1.8))
    return sketch.finish()


def draw_stains(rng: np.random.Generator) -> Texture:
    """Large soft differences of brightness around 0.5; also the clouds."""
    sketch = Sketch(256, 256)
    sketch.fill(sketch.box(0, 0, 1, 1), grey=0.5)
    sketch.image[..., :3] = np.clip(0.5 + 0.16 * draw_noise(rng, 256, 256, falloff=1.45), 0, 1)[..., None]
    return sketch.finish()


def draw_wall(rng: np.random.Generator, style: str) -> Texture:
    """Upper storeys, 4 x 4 bays of one window each; `style` is brick, stucco, office, panel or plain."""
    sketch = Sketch(512, 512, width=BAYS, height=BAYS)
    sketch.fill(sketch.box(0, 0, BAYS, BAYS), paint=0.62 if style in ("brick", "plain") else 0.8)
    if style in ("brick", "plain"):
        _lay_bricks(sketch, rng)
    sketch.shade(np.clip(1 + 0.07 * draw_noise(rng, 512, 512, falloff=0.9), 0.6, 1.4))
    if style == "plain":
        return sketch.finish()
    for row in range(BAYS):
        if style in ("office", "panel"):
            sketch.shade(0.72, sketch.box(0, row, BAYS, row + 0.04))
        for column in range(BAYS):
            _draw_window(sketch.part(column, row, column + 1, row + 1), rng, column, row, style)
    return sketch.finish()


def _lay_bricks(sketch: Sketch, rng: np.random.Generator) -> None:
    """Courses of bricks over the whole canvas, each brick with its own tone."""
    rows, columns = sketch.image.shape[:2]
    course, length = rows // 128, columns // 51
    tones = 1 + rng.normal(0, 0.13, (rows // course + 1, columns // length + 2))
    y, x = np.arange(rows)[:, None], np.arange(columns)[None]
    shifted = x + (y // course % 2) * (length // 2)
    sketch.shade(tones[y // course, shifted // length].astype(np.float32))
    joint = (y % course == 0) | (shifted % length == 0)
    sketch.shade(1.18, joint.astype(np.float32))


def _draw_window(sketch: Sketch, rng: np.random.Generator, column: int, row: int, style: str) -> None:
    """One window in bay (column, row): reveal, frame, panes with a reflection, sometimes a curtain."""
    half, low, high = {"brick": (0.2, 0.24, 0.8), "stucco": (0.22, 0.2, 0.82)}.get(style, (0.46, 0.28, 0.86))
    x0, x1, y0, y1 = column + 0.5 - half, column + 0.5 + half, row + low, row + high
    if style in ("brick", "stucco"):
        sketch.fill(sketch.box(x0 - 0.05, y1, x1 + 0.05, y1 + 0.07), grey=0.62)
        sketch.fill(sketch.box(x0 - 0.05, y0 - 0.06, x1 + 0.05, y0), grey=0.72)
        sketch.shade(0.6, sketch.box(x0 - 0.05, y0 - 0.09, x1 + 0.05, y0 - 0.06))
    frame = 0.8 if style != "office" else 0.3
    sketch.fill(sketch.box(x0, y0, x1, y1), grey=frame)
    glass = 0.10 + 0.12 * rng.random()
    sketch.fill(sketch.box(x0 + 0.03, y0 + 0.03, x1 - 0.03, y1 - 0.03), rgb=(glass, glass * 1.08, glass * 1.18))
    sketch.shade(1 + 1.5 * (sketch.y - y0) ** 2, sketch.box(x0 + 0.03, y0 + 0.03, x1 - 0.03, y1 - 0.03))
    if rng.random() < 0.4:
        tone, drop = 0.3 + 0.35 * rng.random(), 0.1 + 0.3 * rng.random()
        sketch.fill(sketch.box(x0 + 0.03, y1 - drop, x1 - 0.03, y1 - 0.03), rgb=(tone, tone * 0.97, tone * 0.9))
    middle = (y0 + y1) / 2
    sketch.fill(sketch.box(column + 0.49, y0, column + 0.51, y1), grey=frame)
    sketch.fill(sketch.box(x0, middle, x1, middle + 0.025), grey=frame * 0.95)
    sketch.shade(0.55, sketch.box(x0, y1 - 0.05, x1, y1))


def draw_gable(rng: np.random.Generator) -> Texture:
    """The triangle of wall under a pitched roof."""
    sketch = Sketch(128, 512)
    triangle = sketch.polygon([(0, 0), (1, 0), (0.5, 1)])
    sketch.fill(triangle, paint=0.62)
    _lay_bricks(sketch, rng)
    edge = triangle * (1 - sketch.polygon([(0.03, -0.06), (0.97, -0.06), (0.5, 0.92)]))
    sketch.fill(edge, grey=0.5)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_shops(rng: np.random.Generator) -> Texture:
    """Ground floor of four shops: fascia in the surface's tint with lettering, dark glass with goods, a door."""
    sketch = Sketch(128, 512, width=BAYS, height=1)
    sketch.fill(sketch.box(0, 0, BAYS, 1), paint=0.75)
    for bay in range(BAYS):
        sketch.fill(sketch.box(bay + 0.04, 0.12, bay + 0.96, 0.74), grey=0.11)
        sketch.shade(1 + 0.5 * (sketch.y - 0.3), sketch.box(bay + 0.04, 0.12, bay + 0.96, 0.74))
        for _ in range(9):
            x, y, w, h = bay + 0.08 + 0.72 * rng.random(), 0.13 + 0.3 * rng.random(), 0.06 + 0.1 * rng.random(), 0.16
            colour = 0.12 + 0.5 * rng.random() * (0.5 + 0.5 * rng.random(3))
            sketch.fill(sketch.box(x, y, min(x + w, bay + 0.94), y + h * rng.random() + 0.03), rgb=tuple(colour))
        for x in (0.03, 0.33, 0.62, 0.94):
            sketch.fill(sketch.box(bay + x, 0.1, bay + x + 0.025, 0.76), paint=0.6)
        if bay % 2:
            sketch.fill(sketch.box(bay + 0.36, 0, bay + 0.6, 0.7), paint=0.35)
            sketch.fill(sketch.box(bay + 0.40, 0.25, bay + 0.56, 0.66), grey=0.16)
        letters = 0.85 if rng.random() < 0.6 else 0.1
        for x in np.arange(bay + 0.2, bay + 0.8, 0.055):
            if rng.random() < 0.85:
                sketch.fill(sketch.box(x, 0.82, x + 0.035, 0.84 + 0.06 * rng.random()), grey=letters)
    sketch.shade(0.6, sketch.box(0, 0.74, BAYS, 0.77))
    sketch.fill(sketch.box(0, 0.94, BAYS, 1), grey=0.45)
    return sketch.finish(wrap_v=False)


def draw_ground_floor(rng: np.random.Generator) -> Texture:
    """Ground floor of houses: brick, every other bay a door, the others a window."""
    sketch = Sketch(128, 512, width=BAYS, height=1)
    sketch.fill(sketch.box(0, 0, BAYS, 1), paint=0.62)
    _lay_bricks(sketch, rng)
    for bay in range(BAYS):
        if bay % 2:
            door = 0.1 + 0.5 * rng.random(3) ** 2
            sketch.fill(sketch.box(bay + 0.32, 0, bay + 0.72, 0.8), grey=0.7)
            sketch.fill(sketch.box(bay + 0.36, 0, bay + 0.68, 0.68), rgb=tuple(door * 0.7))
            sketch.fill(sketch.box(bay + 0.36, 0.7, bay + 0.68, 0.78), grey=0.15)
            sketch.shade(
                0.75, sketch.box(bay + 0.42, 0.1, bay + 0.62, 0.3) + sketch.box(bay + 0.42, 0.36, bay + 0.62, 0.62)
            )
        else:
            _draw_window(sketch.part(bay, 0, bay + 1, 1), rng, bay, 0, "stucco")
    sketch.shade(0.8, sketch.box(0, 0, BAYS, 0.1))
    return sketch.finish(wrap_v=False)


def draw_roof(rng: np.random.Generator) -> Texture:
    """Tiles in courses."""
    sketch = Sketch(128, 128, width=1, height=1)
    sketch.fill(sketch.box(0, 0, 1, 1), paint=0.7)
    sketch.shade(np.clip(1 + 0.1 * draw_noise(rng, 128, 128, falloff=0.5), 0.5, 1.4))
    for i in range(16):
        sketch.shade(0.7, sketch.box(0, i / 16, 1, i / 16 + 0.015))
    return sketch.finish()


def draw_leafy_crown(rng: np.random.Generator) -> Texture:
    """A crown of leaf clumps, lighter above, with a ragged edge; green comes from the tint."""
    sketch = Sketch(256, 256)
    field = np.zeros((256, 256), np.float32)
    for _ in range(40):
        angle, radius = rng.random() * 6.28, 0.38 * rng.random() ** 0.5
        size = 0.05 + 0.10 * rng.random()
        field = np.maximum(field, sketch.oval(0.5 + radius * np.cos(angle), 0.5 + radius * np.sin(angle), size, size))
    leaves, clumps = draw_noise(rng, 256, 256, falloff=0.55), draw_noise(rng, 256, 256, falloff=1.3)
    body = _blur(field, 7)
    inside = np.clip((body - 0.48 + 0.16 * leaves + 0.08 * clumps) * 6, 0, 1) * (body > 0.08)
    tone = 0.52 + 0.15 * clumps + 0.17 * leaves + 0.34 * (sketch.y - 0.5) - 0.12 * (sketch.x - 0.5)
    sketch.fill(inside, paint=1.0)
    sketch.shade(np.clip(tone, 0.08, 1))
    sketch.image[..., SOLID] = np.clip(_blur(inside, 3), 0, 1)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_bare_crown(rng: np.random.Generator) -> Texture:
    """Twigs against the sky; solid is the whole crown, as CamVid's annotators drew it."""
    sketch = Sketch(256, 256)
    tips = [(0.5, 0.0, np.pi / 2 + rng.normal(0, 0.05), 0.2, 0.026)]
    for _ in range(7):
        grown = []
        for x, y, angle, length, thickness in tips:
            x1, y1 = x + length * np.cos(angle), y + length * np.sin(angle)
            piece = sketch.around((x, y), (x1, y1), thickness)
            piece.fill(piece.line((x, y), (x1, y1), thickness), paint=0.35 + 0.1 * rng.random())
            for turn in (-1, 1, 0)[: 3 if thickness > 0.011 else 2]:
                bend = turn * (0.3 + 0.3 * rng.random()) + rng.normal(0, 0.1)
                grown.append((x1, y1, angle + bend, length * (0.7 + 0.15 * rng.random()), thickness * 0.66))
        tips = [tip for tip in grown if 0.03 < tip[0] < 0.97 and tip[1] < 0.96][:160]
    twigs = np.clip(draw_noise(rng, 256, 256, falloff=0.15) - 0.9, 0, 1) * (_blur(sketch.image[..., ALPHA], 10) > 0.12)
    sketch.fill(twigs.astype(np.float32) * 0.55, paint=0.42)
    sketch.image[..., SOLID] = np.clip(_blur(sketch.image[..., ALPHA], 6) * 5, 0, 1)
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_hedge(rng: np.random.Generator) -> Texture:
    """Opaque leaves with a ragged top."""
    sketch = Sketch(128, 256)
    leaves = draw_noise(rng, 128, 256, falloff=0.4)
    top = 0.93 + 0.02 * draw_noise(rng, 1, 256, falloff=0.7)
    sketch.fill((sketch.y < top).astype(np.float32), paint=1.0)
    sketch.shade(np.clip(0.4 + 0.16 * leaves + 0.25 * (sketch.y - 0.5), 0.05, 1))
    return sketch.finish(wrap_v=False)


def draw_bark(rng: np.random.Generator) -> Texture:
    """Bark, rounded by shading; also the skin of posts."""
    sketch = Sketch(128, 32)
    sketch.fill(sketch.box(0, 0, 1, 1), paint=0.8)
    streaks = draw_noise(rng, 128, 32, falloff=0.5)
    sketch.shade(np.clip((1 + 0.16 * streaks) * (0.62 + 0.5 * np.sin(np.pi * sketch.x)), 0, 1.2))
    return sketch.finish(wrap_u=False, wrap_v=False)


def draw_railing(rng: np.random.Generator) -> Texture:
    """Iron bars with air between; all of it counts as fence."""
    sketch = Sketch(64, 256, width=2, height=1)
    sketch.image[..., SOLID] = 1
    for x in np.arange(0.05, 2, 0.125):
        sketch.fill(sketch.box(x, 0, x + 0.045, 0.97), paint=0.5 + 0.1 * rng.random())
    sketch.fill(sketch.box(0, 0.86, 2, 0.95) + sketch.box(0, 0.08, 2, 0.15), paint=0.6)
    sketch.fill(sketch.box(0, 0, 0.1, 1), paint=0.7)
    return sketch.finish(wrap_v=False)


def draw_planks(rng: np.random.Generator) -> Texture:
    """A board fence."""
    sketch = Sketch(64, 256, width=2, height=1)
    for i in range(16):
        sketch.fill(sketch.box(i / 8, 0, i / 8 + 0.11, 0.94 + 0.05 * rng.random()), paint=0.55 + 0.2 * rng.random())
    sketch.fill(sketch.box(0, 0, 2, 0.9) * (1 - sketch.image[..., ALPHA]), grey=0.12)
    sketch.shade(np.clip(1 + 0.1 * draw_noise(rng, 64, 256, falloff=0.5), 0.5, 1.4))
    return sketch.finish(wrap_v=False)


def draw_plain(_: np.random.Generator) -> Texture:
    """Nothing but tint."""
    sketch = Sketch(4, 4)
    sketch.fill(sketch.box(0, 0, 1, 1), paint=1.0)
    return sketch.finish()


def _blur(mask: Mask, radius: int) -> Mask:
    """Box blur by 2 * radius + 1 texels, borders wrap."""
    window = 2 * radius + 1
    for axis in (0, 1):
        padded = np.concatenate((mask, np.take(mask, range(window), axis)), axis).cumsum(axis, dtype=np.float64)
        size = mask.shape[axis]
        ends = np.take(padded, range(window, size + window), axis) - np.take(padded, range(size), axis)
        mask = np.roll(ends / window, radius + 1, axis).astype(np.float32)
    return mask
