"""Road, pavement, grass and sky: the parts of the picture that have no edges of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvnet.synthetic.camera import Camera, Course, Doubles
from gsvnet.synthetic.canvas import HAZE_M, Canvas
from gsvnet.synthetic.catalogue import TEXTURE_IDS, load_texture
from gsvnet.synthetic.light import Light
from gsvnet.synthetic.ripmap import Floats, pick_level, sample_texture
from gsvnet.synthetic.street import (
    BLOCK_M,
    BUILDING,
    CELL_M,
    CROSSING_M,
    FRONT_M,
    PAVEMENT,
    ROAD,
    ROAD_M,
    SKY,
    TREE,
    Block,
)

SKY_SURFACE, FAR_TREES, FAR_HOUSES, ROAD_SURFACE, PAVEMENT_SURFACE, GRASS_SURFACE, NUM_SURFACES = range(7)
SURFACE_LABELS = np.array((SKY, TREE, BUILDING, ROAD, PAVEMENT, TREE), np.uint8)
HORIZON_M = 900.0
DASH_M = 6.0


@dataclass(frozen=True, kw_only=True)
class GroundTable:
    """What the ground must know of the street near the camera, in cells of CELL_M from y = start."""

    start: float
    crossing: NDArray[np.bool_]
    grass: NDArray[np.bool_]
    heights: Floats


def tabulate_ground(blocks: Mapping[int, Block]) -> GroundTable:
    """The table of consecutive blocks."""
    cells = int(BLOCK_M / CELL_M)
    along = np.arange(cells) * CELL_M
    return GroundTable(
        start=min(blocks) * BLOCK_M,
        crossing=np.concatenate([(along < CROSSING_M - 0.01) & b.crossing for b in blocks.values()]),
        grass=np.concatenate([np.repeat(np.array(b.grass)[:, None], cells, 1) for b in blocks.values()], axis=1),
        heights=np.concatenate([b.heights for b in blocks.values()], axis=1),
    )


def ground_plane(camera: Camera) -> Doubles:
    """(3, 3): maps (x, y, 1), metres relative to the camera's foot, to pixels times depth."""
    foot = np.array(((camera.position[0], camera.position[1], 0.0),))
    return camera.see_planes(foot, np.array(((1.0, 0, 0),)), np.array(((0, 1.0, 0),)))[0]


def draw_sky(canvas: Canvas, camera: Camera, light: Light, seed: int) -> None:
    """Fill the picture with sky, clouds and a hazy skyline far away."""
    rows = np.arange(canvas.height, dtype=np.float32)[:, None]
    columns = np.arange(canvas.width, dtype=np.float32)
    inverse = np.linalg.inv(camera.see_directions()).astype(np.float32)
    x, y, z = (r[0] * columns + (r[1] * rows + r[2]) for r in inverse)
    # The street's heading is nearly +y, so z / |y| is close to the tangent of the elevation.
    height = (z / np.maximum(y, 1e-3)).ravel()
    bearing = (x / np.maximum(y, 1e-3)).ravel()
    above = np.flatnonzero(height > -0.02)
    height, bearing = height[above], bearing[above]
    lift = np.clip(height, 0, 1)[:, None] ** 0.6
    colour = np.array(light.horizon, np.float32) * (1 - lift) + np.array(light.zenith, np.float32) * lift
    plane = 0.35 / (np.maximum(height, 0) + 0.22)
    level = np.zeros((), np.int32)
    clouds = sample_texture(
        load_texture(TEXTURE_IDS["stains"]), bearing * plane * 0.7 + seed * 0.37, plane * 1.3, level, level
    )
    amount = np.clip((clouds[:, :1] / 255 - (0.78 - 0.55 * light.cloud)) * 3, 0, 1) * (0.35 + 0.65 * lift)
    shade = light.cloud_tone * (1.04 - 0.25 * amount * light.cloud)
    colour += amount * (shade - colour)
    canvas.colour[above] = colour
    canvas.surface[above] = SKY_SURFACE
    _draw_skyline(canvas, above, height, bearing, light, seed)


def _draw_skyline(canvas: Canvas, above: NDArray, height: Floats, bearing: Floats, light: Light, seed: int) -> None:
    """Far trees and houses, at infinity."""
    turn = bearing * 40 + seed
    trees = 0.028 + 0.010 * np.sin(turn * 0.9) + 0.006 * np.sin(turn * 2.3 + 1) + 0.0025 * np.sin(turn * 9.1)
    blocks = np.sin(np.floor(turn * 1.3) * 12.9898) * 43758.547
    houses = 0.012 + 0.045 * (blocks - np.floor(blocks)) ** 2
    haze = np.array(light.horizon, np.float32)
    for edge, surface, tone in ((houses, FAR_HOUSES, (0.42, 0.41, 0.42)), (trees, FAR_TREES, (0.34, 0.38, 0.33))):
        hit = height < edge
        tint = np.array(tone, np.float32) * np.float32(light.exposure * (light.ambient[1] + light.sun[1] * 0.4))
        canvas.colour[above[hit]] = tint * 0.6 + haze * 0.4 * np.float32(light.exposure)
        canvas.surface[above[hit]] = surface


def draw_ground(canvas: Canvas, camera: Camera, course: Course, table: GroundTable, light: Light, sun: Doubles) -> None:
    """Draw road with lane marks, kerbs, pavement and grass below the horizon, with the shadows of the houses."""
    inverse = np.linalg.inv(ground_plane(camera)).astype(np.float32)
    rows, columns = np.arange(canvas.height, dtype=np.float32)[:, None], np.arange(canvas.width, dtype=np.float32)
    x, y, nearness = ((r[0] * columns + (r[1] * rows + r[2])).ravel() for r in inverse)
    pixels = np.flatnonzero(nearness > 1 / HORIZON_M)
    nearness = nearness[pixels]
    depth = 1 / nearness
    x, y = x[pixels] * depth, y[pixels] * depth
    here = camera.position[1]
    side = x + np.float32(camera.position[0] - course.middle(here)) - course.middle_near(here, y)
    cells = np.clip(((y + np.float32(here - table.start)) / CELL_M).astype(np.int32), 0, len(table.crossing) - 1)
    right = (side > 0).astype(np.int32)
    reach = np.abs(side)
    crossing = table.crossing[cells]
    road = (reach < ROAD_M) | crossing
    grass = ~road & (reach > FRONT_M) & table.grass[right, cells]
    step_x, step_y = (
        depth * np.float32(1 / camera.intrinsics[0, 0]),
        depth * depth * np.float32(1 / (camera.intrinsics[1, 1] * camera.position[2])),
    )
    colour = np.empty((len(pixels), 3), np.float32)
    spot = _Spot(x=x, y=y, side=side, step_x=step_x, step_y=step_y, camera=camera)
    for mask, name, period, tint in (
        (road, "asphalt", 5.0, (0.40, 0.405, 0.42)), (~road & ~grass, "paving", 2.4, (0.45, 0.44, 0.43)),
        (grass, "grass", 4.0, (0.30, 0.36, 0.19)),
    ):  # fmt: skip
        colour[mask] = spot.texture(name, period, mask) * (np.array(tint, np.float32) * 2)
    colour *= 0.62 + 0.76 * spot.texture("stains", 23.0, slice(None))
    _paint_road(colour, spot, np.flatnonzero(road), crossing, here)
    kerb = ~road & (reach < ROAD_M + 0.16)
    colour[kerb] = colour[kerb] * 0.4 + np.float32(0.3)
    shine = _shine(side, cells, table, light, sun)
    clear = np.exp(depth * np.float32(-1 / HAZE_M))[:, None]
    haze = np.array(light.horizon, np.float32) * np.float32(0.92)
    canvas.colour[pixels] = colour * shine * clear + haze * (1 - clear)
    canvas.nearness[pixels] = nearness * np.float32(0.985)
    canvas.surface[pixels] = np.where(road, ROAD_SURFACE, np.where(grass, GRASS_SURFACE, PAVEMENT_SURFACE))


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """Points of the ground, one per pixel: x, y relative to the camera, side from the middle, metres per pixel."""

    x: Floats
    y: Floats
    side: Floats
    step_x: Floats
    step_y: Floats
    camera: Camera

    def texture(self, name: str, period: float, mask: NDArray | slice) -> Floats:
        """Brightness (M, 1) in 0..1 of a texture anchored to the world."""
        texture = load_texture(TEXTURE_IDS[name])
        start_x, start_y = (math.fmod(self.camera.position[i], period) / period for i in (0, 1))
        u = self.x[mask] * np.float32(1 / period) + np.float32(start_x)
        v = self.y[mask] * np.float32(1 / period) + np.float32(start_y)
        density = np.float32(texture.columns / period)
        level_x = pick_level(self.step_x[mask] * density, texture.columns)
        level_y = pick_level(self.step_y[mask] * density, texture.rows)
        return sample_texture(texture, u, v, level_x, level_y)[:, :1] * np.float32(1 / 255)


def _paint_road(colour: Floats, spot: _Spot, road: NDArray, crossing: NDArray, here: float) -> None:
    """Tyre tracks, gutters, and lane marks, smoothed to the size of a pixel."""
    side, y, step_x, step_y = spot.side[road], spot.y[road], spot.step_x[road], spot.step_y[road]
    reach = np.abs(side)
    inside = ~crossing[road]
    tracks = 1 - 0.07 * np.cos((reach - 1.6) * np.float32(2 * np.pi / 1.5)) * (reach < 3.2)
    gutter = 1 - 0.35 * np.clip((reach - ROAD_M + 0.22) * 6, 0, 1) * inside
    colour[road] *= (tracks * gutter)[:, None]
    along = np.mod(y + np.float32(math.fmod(here, DASH_M)), np.float32(DASH_M))
    dash = _band(along, 1.0, 3.0, step_y) + _band(along, 1.0 + DASH_M, 3.0 + DASH_M, step_y)
    marks = dash * _band(side, -0.06, 0.06, step_x) * inside
    lines = _band(reach, ROAD_M - 0.42, ROAD_M - 0.33, step_x) + _band(reach, ROAD_M - 0.62, ROAD_M - 0.53, step_x)
    give_way = _band(reach, ROAD_M + 0.1, ROAD_M + 0.35, step_x) * _band(np.mod(along, 1.0), 0.0, 0.6, step_y) * ~inside
    for strength, tone in ((marks + give_way, (0.82, 0.83, 0.82)), (lines * inside, (0.66, 0.58, 0.30))):
        weight = np.clip(strength, 0, 1)[:, None] * 0.85
        colour[road] += weight * (np.array(tone, np.float32) - colour[road])


def _band(position: Floats, start: float, stop: float, step: Floats) -> Floats:
    """Share of a pixel, `step` metres long, that lies between start and stop."""
    low, high = np.maximum(position - step / 2, start), np.minimum(position + step / 2, stop)
    return (np.maximum(high - low, 0) / step).astype(np.float32)


def _shine(side: Floats, cells: NDArray, table: GroundTable, light: Light, sun: Doubles) -> Floats:
    """Light (N, 3) on the ground: full sun except where the houses on the sun's side stand before it."""
    sunward = 1 if sun[0] > 0 else -1
    length = np.float32(abs(sun[0]) / sun[2])
    edge = np.float32(FRONT_M) - table.heights[int(sunward > 0)][cells] * length
    shadow = np.clip((side * sunward - edge) / 0.5, 0, 1)[:, None]
    sunny = np.array(light.sun, np.float32) * np.float32(sun[2])
    return (np.array(light.ambient, np.float32) + sunny * (1 - shadow)) * np.float32(light.exposure)
