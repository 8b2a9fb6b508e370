"""Drawing quads onto a picture that remembers which surface each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvnet.synthetic.camera import Camera, Doubles
from gsvnet.synthetic.catalogue import load_texture
from gsvnet.synthetic.light import Light
from gsvnet.synthetic.quads import Quads
from gsvnet.synthetic.ripmap import ALPHA, PAINT, SOLID, Floats, pick_level, sample_texture

NEAR_M, FAR_M, FADE_M, HAZE_M = 0.25, 143.0, 25.0, 380.0
TINY_PX = 1.5  # quads whose box has less area are left out
EDGE_PX = 0.3  # quads are drawn larger by this much, so that neighbours join without a gap


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """colour (h * w, 3) float32 in 0..1; nearness (h * w,) float32, 1 / depth in metres; surface (h * w,) int32."""

    colour: Floats
    nearness: Floats
    surface: NDArray[np.int32]
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Quads as a camera sees them: planes (N, 3, 3) to pixels, boxes (N, 4) x0 y0 x1 y1 pixels, depth (N,) metres."""

    planes: Doubles
    boxes: NDArray[np.int64]
    depth: Doubles
    order: NDArray[np.int64]


def see_quads(quads: Quads, camera: Camera) -> Sight:
    """Where the quads fall in the picture; `order` lists those to draw, far to near."""
    planes = camera.see_planes(quads.origin, quads.across, quads.up)
    corners = np.array(((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1.0)))
    points = np.einsum("nij,cj->nci", planes, corners)
    boxes, nearest = _bound(points, camera)
    depth = points[..., 2].mean(1)
    outward = np.cross(quads.across, quads.up)
    facing = ((camera.position - quads.origin) * outward).sum(1) > 0
    visible = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (facing | ~quads.closed) & (nearest < FAR_M)
    sizes = np.ptp(points[..., :2] / np.maximum(points[..., 2:], NEAR_M), axis=1)
    visible &= sizes.prod(1) > TINY_PX
    drawn = np.flatnonzero(visible & (np.abs(np.linalg.det(planes)) > 1e-9))
    # By the farthest corner: a tree then follows the long wall that it stands before, and blends with it.
    order = drawn[np.argsort(-points[drawn, :, 2].max(1), kind="stable")]
    return Sight(planes=planes, boxes=boxes, depth=np.maximum(depth, 0.5), order=order)


def _bound(points: Doubles, camera: Camera) -> tuple[NDArray[np.int64], Doubles]:
    """Pixel boxes (N, 4) around quads clipped at NEAR_M, empty if out of sight; depth (N,) of the nearest corners."""
    following = np.roll(points, -1, axis=1)
    step = following[..., 2] - points[..., 2]
    share = (NEAR_M - points[..., 2]) / np.where(step == 0, 1, step)
    cuts = points + np.clip(share, 0, 1)[..., None] * (following - points)
    outline = np.concatenate((points, cuts), axis=1)
    valid = outline[..., 2] >= NEAR_M - 1e-9
    pixels = outline[..., :2] / np.maximum(outline[..., 2:], NEAR_M)
    low = np.where(valid[..., None], pixels, np.inf).min(1)
    high = np.where(valid[..., None], pixels, -np.inf).max(1)
    limits = np.array((camera.width, camera.height))
    start = np.clip(np.floor(np.nan_to_num(low, posinf=1e6)) - 1, 0, limits)
    stop = np.clip(np.ceil(np.nan_to_num(high, neginf=-1e6)) + 2, 0, limits)
    return np.concatenate((start, stop), axis=1).astype(np.int64), points[..., 2].min(1)


def draw_quads(canvas: Canvas, quads: Quads, sight: Sight, light: Light, sun: Doubles, first_surface: int) -> None:
    """Draw all quads of `sight.order`; quad i becomes surface first_surface + i."""
    normal = np.cross(quads.across, quads.up)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    lit = np.clip(normal @ sun, 0, 1)[:, None]
    shine = ((np.array(light.ambient) + np.array(light.sun) * lit) * light.exposure / 255).astype(np.float32)
    clear = np.exp(-sight.depth / HAZE_M).astype(np.float32)
    fade = np.clip((FAR_M - sight.depth) / FADE_M, 0, 1).astype(np.float32)
    inverses = np.zeros(sight.planes.shape, np.float32)
    inverses[sight.order] = np.linalg.inv(sight.planes[sight.order])
    haze = np.array(light.horizon, np.float32) * np.float32(0.92 / 255)
    for i in sight.order:
        _draw_quad(
            canvas, inverses[i], sight.boxes[i], quads.texture[i], quads.tile[i], quads.tint[i],
            shine[i] * clear[i], haze * (1 - clear[i]), fade[i], first_surface + int(i),
        )  # fmt: skip


def _draw_quad(
    canvas: Canvas, inverse: Floats, box: NDArray[np.int64], texture_id: int, tile: Floats, tint: Floats,
    shine: Floats, haze: Floats, fade: np.float32, surface: int,
) -> None:  # fmt: skip
    """Draw one quad: coverage from its edges, texture by position, nearer wins."""
    x0, y0, x1, y1 = box
    x, y = np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)[:, None]
    u, v, w = (row[0] * x + (row[1] * y + row[2]) for row in inverse)
    cover = np.maximum(_cover(u, w, inverse[0], inverse[2]), 0) * _cover(v, w, inverse[1], inverse[2])
    flat = (np.arange(y0, y1)[:, None] * canvas.width + np.arange(x0, x1)).ravel()
    cover, w = cover.ravel(), w.ravel()
    chosen = np.flatnonzero((cover > 0.004) & (w > canvas.nearness.take(flat)))
    if len(chosen) == 0:
        return
    pixels, nearness, cover = flat.take(chosen), w.take(chosen), cover.take(chosen) * fade
    depth = 1 / nearness
    u, v = u.ravel().take(chosen) * depth, v.ravel().take(chosen) * depth
    texture = load_texture(texture_id)
    size_u, size_v = texture.columns * abs(tile[0]), texture.rows * abs(tile[1])
    step_u = np.maximum(abs(inverse[0, 0] - u * inverse[2, 0]), abs(inverse[0, 1] - u * inverse[2, 1])) * depth * size_u
    step_v = np.maximum(abs(inverse[1, 0] - v * inverse[2, 0]), abs(inverse[1, 1] - v * inverse[2, 1])) * depth * size_v
    u = np.minimum(np.maximum(u, 0), 1) * tile[0] + tile[2]
    v = np.minimum(np.maximum(v, 0), 1) * tile[1] + tile[3]
    texels = sample_texture(texture, u, v, pick_level(step_u, texture.columns), pick_level(step_v, texture.rows))
    alpha = texels[:, ALPHA] * (cover / 255)
    colour = (texels[:, :PAINT] + texels[:, PAINT : PAINT + 1] * tint) * shine
    colour += texels[:, ALPHA : ALPHA + 1] * haze
    colour *= cover[:, None]
    colour += canvas.colour.take(pixels, axis=0) * (1 - alpha)[:, None]
    canvas.colour[pixels] = colour
    solid = texels[:, SOLID] * cover >= 127.5
    canvas.nearness[pixels[solid]] = nearness[solid]
    canvas.surface[pixels[solid]] = surface


def _cover(u: Floats, w: Floats, row_u: Floats, row_w: Floats) -> Floats:
    """Share of each pixel between the edges u = 0 and u = 1 from its distances to these lines; outside 0 or less."""
    low = u * np.float32(1 / max(np.hypot(row_u[0], row_u[1]), 1e-20))
    high = (w - u) * np.float32(1 / max(np.hypot(row_w[0] - row_u[0], row_w[1] - row_u[1]), 1e-20))
    reach = np.float32(0.5 + EDGE_PX)
    return np.minimum(low + reach, 1) + np.minimum(high + reach, 1) - 1
