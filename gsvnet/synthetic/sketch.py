"""Drawing textures: boxes, ovals, polygons, lines and noise on a small canvas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gsvnet.synthetic.ripmap import ALPHA, CHANNELS, PAINT, SOLID, Texture, build_texture

Mask = NDArray[np.float32]
Point = tuple[float, float]


def draw_noise(rng: np.random.Generator, rows: int, columns: int, *, falloff: float) -> Mask:
    """(rows, columns) periodic noise of mean 0 and deviation 1; falloff 0 is white, 1 cloudy, 2 very smooth."""
    spectrum = np.fft.rfft2(rng.standard_normal((rows, columns)))
    fy, fx = np.fft.fftfreq(rows)[:, None] * rows, np.fft.rfftfreq(columns)[None] * columns
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum * radius**-falloff, s=(rows, columns))
    return (noise / noise.std()).astype(np.float32)


class Sketch:
    """A canvas with (0, 0) at the bottom left and (width, height) at the top right, in units of your choice."""

    def __init__(self, rows: int, columns: int, *, width: float = 1.0, height: float = 1.0) -> None:
        self.image = np.zeros((rows, columns, CHANNELS), np.float32)
        self.x = ((np.arange(columns, dtype=np.float32) + 0.5) * (width / columns))[None]
        self.y = ((np.arange(rows, dtype=np.float32) + 0.5) * (height / rows))[:, None]
        self.softness = max(width / columns, height / rows)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Mask:
        """Mask of the box between two corners."""
        return ((self.x >= x0) & (self.x < x1) & (self.y >= y0) & (self.y < y1)).astype(np.float32)

    def oval(self, x: float, y: float, rx: float, ry: float) -> Mask:
        """Mask of the ellipse around (x, y), soft by about one texel."""
        radius = np.hypot((self.x - x) / rx, (self.y - y) / ry)
        return np.clip((1 - radius) * np.float32(min(rx, ry) / self.softness) + np.float32(0.5), 0, 1)

    def polygon(self, points: Sequence[Point]) -> Mask:
        """Mask of a polygon by the even-odd rule."""
        inside = np.zeros((self.y.shape[0], self.x.shape[1]), bool)
        for (x0, y0), (x1, y1) in zip(points, (*points[1:], points[0])):
            if y0 != y1:
                crosses = (self.y >= min(y0, y1)) & (self.y < max(y0, y1))
                inside ^= crosses & (self.x < x0 + (self.y - y0) * ((x1 - x0) / (y1 - y0)))
        return inside.astype(np.float32)

    def line(self, start: Point, stop: Point, thickness: float) -> Mask:
        """Mask of a line with round ends; thinner than a texel it is fainter instead."""
        dx, dy = stop[0] - start[0], stop[1] - start[1]
        along = ((self.x - start[0]) * dx + (self.y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-12)
        along = np.clip(along, 0, 1)
        distance = np.hypot(self.x - start[0] - along * dx, self.y - start[1] - along * dy)
        cover = np.clip((thickness / 2 - distance) / self.softness + 0.5, 0, 1) * min(1.0, thickness / self.softness)
        return cover.astype(np.float32)

    def fill(
        self, mask: Mask, *, grey: float | None = None, rgb: tuple[float, float, float] | None = None,
        paint: float = 0.0, alpha: float = 1.0, solid: float = 1.0,
    ) -> None:  # fmt: skip
        """Cover the mask with a colour (rgb or grey) or with paint, which takes the surface's tint."""
        colour = rgb if rgb is not None else (grey or 0.0,) * 3
        new = np.array((*(c * alpha for c in colour), paint * alpha, alpha), np.float32)
        cover = (mask * alpha)[..., None]
        self.image[..., :SOLID] = self.image[..., :SOLID] * (1 - cover) + mask[..., None] * new
        self.image[..., SOLID] = np.maximum(self.image[..., SOLID], mask * solid)

    def shade(self, factor: Mask | float, mask: Mask | float = 1.0) -> None:
        """Multiply colour and paint by `factor` within the mask."""
        weight = 1 + (np.asarray(factor, np.float32) - 1) * mask
        self.image[..., : PAINT + 1] *= weight[..., None]

    def part(self, x0: float, y0: float, x1: float, y1: float) -> Sketch:
        """The piece of this canvas between two corners, with the same coordinates; drawing on it draws on the whole."""
        columns = slice(*np.searchsorted(self.x[0], (x0, x1)))
        rows = slice(*np.searchsorted(self.y[:, 0], (y0, y1)))
        piece = Sketch.__new__(Sketch)
        piece.image, piece.x, piece.y = self.image[rows, columns], self.x[:, columns], self.y[rows]
        piece.softness = self.softness
        return piece

    def around(self, start: Point, stop: Point, margin: float) -> Sketch:
        """The piece of this canvas around a line."""
        (x0, x1), (y0, y1) = sorted((start[0], stop[0])), sorted((start[1], stop[1]))
        return self.part(x0 - margin, y0 - margin, x1 + margin, y1 + margin)

    def finish(self, *, wrap_u: bool = True, wrap_v: bool = True) -> Texture:
        """The canvas as a texture, periodic where it wraps."""
        colours = self.image[..., : PAINT + 1]
        np.minimum(colours, self.image[..., ALPHA : ALPHA + 1], out=colours)
        return build_texture(self.image, wrap_u=wrap_u, wrap_v=wrap_v)
