"""A drive through a drawn street: frames with exactly known labels and flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvnet.errors import ConfigError
from gsvnet.synthetic.camera import Camera, Course, Doubles, Drive
from gsvnet.synthetic.canvas import Canvas, draw_quads, see_quads
from gsvnet.synthetic.ground import (
    NUM_SURFACES,
    ROAD_SURFACE,
    SURFACE_LABELS,
    draw_ground,
    draw_sky,
    ground_plane,
    tabulate_ground,
)
from gsvnet.synthetic.light import MOODS, light_at, sun_direction
from gsvnet.synthetic.quads import QuadList, Quads, join_quads
from gsvnet.synthetic.street import BLOCK_M, Block, build_block
from gsvnet.synthetic.traffic import add_traffic

BLOCKS_BEHIND, BLOCKS_AHEAD = 1, 3


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What to draw. height, width: pixels. seed: another seed is another street. fps: frames per second of the drive.

    speed_m_s: mean speed of the camera. cars, people: how many there are, 0 none, 1 usual, 2 twice as many.
    shake: sway and bounce of the camera, 1 usual. light: "varied", or one of bright, clear, overcast, dusk.
    noise: deviation of the sensor's noise in grey levels of 255.
    """

    height: int = 360
    width: int = 480
    seed: int = 0
    fps: int = 15
    speed_m_s: float = 8.0
    cars: float = 1.0
    people: float = 1.0
    shake: float = 1.0
    light: str = "varied"
    noise: float = 3.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 16:
            raise ConfigError(f"scene of {self.height}x{self.width} pixels; at least 16x16 are needed")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed}; it must be 0 or more")
        if self.fps < 1 or self.speed_m_s <= 0:
            raise ConfigError(f"fps {self.fps}, speed_m_s {self.speed_m_s}; both must be above 0")
        if min(self.cars, self.people, self.shake, self.noise) < 0:
            raise ConfigError("cars, people, shake and noise must be 0 or more")
        if self.light != "varied" and self.light not in MOODS:
            raise ConfigError(f"light {self.light!r}; allowed: varied, {', '.join(MOODS)}")


@dataclass(frozen=True, kw_only=True)
class SceneFrame:
    """One frame and its truth.

    image: (h, w, 3) uint8 RGB. labels: (h, w) uint8 ids of gsvnet.classes.CAMVID. flow: (2, h, w) float32 (dx, dy)
    pixels, current -> previous: what is at (x, y) now was at (x + dx, y + dy) one frame ago; 0 where there was no
    such surface. flow_valid: (h, w) bool, the surface was visible there, one frame ago, at the nearest pixel.
    moving: (h, w) bool, part of something that moves in the world.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    flow: NDArray[np.float32]
    flow_valid: NDArray[np.bool_]
    moving: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _View:
    """A drawn frame before noise: image (h, w, 3) float32, surface (h, w); per surface key, plane to pixels, label."""

    image: NDArray[np.float32]
    surface: NDArray[np.int32]
    keys: NDArray[np.int64]
    planes: Doubles
    labels: NDArray[np.uint8]
    moving: NDArray[np.bool_]


class StreetScene:
    """An endless drive. Every frame follows from the config and its index alone; the last few are kept for speed."""

    def __init__(self, config: SceneConfig) -> None:
        self.config = config
        phases = tuple(float(p) for p in np.random.default_rng((config.seed, 3)).uniform(0, 2 * np.pi, 8))
        self._course = Course(phases=(phases[0], phases[1]))
        self._drive = Drive(course=self._course, speed_m_s=config.speed_m_s, shake=config.shake, phases=phases[2:])
        self._sun = sun_direction(config.seed)
        self._blocks: dict[int, Block] = {}
        self._views: dict[int, _View] = {}

    def frame(self, index: int) -> SceneFrame:
        """Frame `index` >= 0; frame 0 has no previous one, so its flow is 0 and nowhere valid."""
        view = self._view(index)
        if index == 0:
            flow, valid = np.zeros((2, *view.surface.shape), np.float32), np.zeros(view.surface.shape, bool)
        else:
            flow, valid = _flow(view, self._view(index - 1))
        return SceneFrame(
            image=self.image(index),
            labels=view.labels[view.surface],
            flow=flow,
            flow_valid=valid,
            moving=view.moving[view.surface],
        )

    def image(self, index: int) -> NDArray[np.uint8]:
        """Only the image (h, w, 3) uint8 RGB of frame `index`, which is cheaper than the whole frame."""
        image = self._view(index).image * np.float32(255)
        if self.config.noise:
            rng = np.random.default_rng((self.config.seed, 77, index))
            image += rng.standard_normal(image.shape, np.float32) * np.float32(self.config.noise)
        return np.rint(image).clip(0, 255).astype(np.uint8)

    def labels(self, index: int) -> NDArray[np.uint8]:
        """Only the labels (h, w) uint8 of frame `index`, which is cheaper than the whole frame."""
        view = self._view(index)
        return view.labels[view.surface]

    def _view(self, index: int) -> _View:
        if index < 0:
            raise ConfigError(f"frame {index}; frames are numbered from 0")
        if index not in self._views:
            self._views = {i: v for i, v in self._views.items() if abs(i - index) <= 1}
            self._views[index] = self._draw(index)
        return self._views[index]

    def _draw(self, index: int) -> _View:
        """Draw the street, far to near."""
        config, time_s = self.config, index / self.config.fps
        camera = self._drive.camera(time_s, config.height, config.width)
        light = light_at(time_s, config.seed, config.light)
        blocks = self._nearby_blocks(camera)
        traffic = QuadList()
        add_traffic(traffic, self._course, self._drive, config.seed, time_s, config.cars, config.people)
        quads = join_quads([*(b.quads for b in blocks.values()), traffic.finish()])
        size = config.height * config.width
        canvas = Canvas(
            colour=np.zeros((size, 3), np.float32), nearness=np.zeros(size, np.float32),
            surface=np.zeros(size, np.int32), height=config.height, width=config.width,
        )  # fmt: skip
        draw_sky(canvas, camera, light, config.seed)
        draw_ground(canvas, camera, self._course, tabulate_ground(blocks), light, self._sun)
        sight = see_quads(quads, camera)
        draw_quads(canvas, quads, sight, light, self._sun, NUM_SURFACES)
        return _finish_view(canvas, camera, quads, sight.planes)

    def _nearby_blocks(self, camera: Camera) -> dict[int, Block]:
        """The blocks in sight, by index, ascending."""
        here = int(camera.position[1] // BLOCK_M)
        wanted = range(here - BLOCKS_BEHIND, here + BLOCKS_AHEAD + 1)
        self._blocks = {
            i: self._blocks.get(i) or build_block(self._course, self.config.seed, i, self.config.cars) for i in wanted
        }
        return self._blocks


def _finish_view(canvas: Canvas, camera: Camera, quads: Quads, planes: Doubles) -> _View:
    """The canvas with its tables; the surfaces without edges come first, with keys of their own."""
    ground, infinity = ground_plane(camera), camera.see_directions()
    # The ground's plane is given relative to the camera's foot; in world coordinates it is the same in all frames.
    to_foot = np.array(((1, 0, -camera.position[0]), (0, 1, -camera.position[1]), (0, 0, 1.0)))
    edgeless = [infinity] * ROAD_SURFACE + [ground @ to_foot] * (NUM_SURFACES - ROAD_SURFACE)
    shape = (canvas.height, canvas.width)
    return _View(
        image=_develop(canvas.colour).reshape(*shape, 3),
        surface=canvas.surface.reshape(shape),
        keys=np.concatenate((np.arange(NUM_SURFACES, dtype=np.int64), quads.key)),
        planes=np.concatenate((np.array(edgeless), planes)),
        labels=np.concatenate((SURFACE_LABELS, quads.label)),
        moving=np.concatenate((np.zeros(NUM_SURFACES, bool), quads.moving)),
    )


def _develop(colour: NDArray[np.float32]) -> NDArray[np.float32]:
    """The camera's tone curve: deep shadows, highlights that clip."""
    colour = np.clip(colour, 0, 1.15)
    return np.minimum(colour * (np.float32(0.86) + np.float32(0.24) * colour), 1)


def _flow(view: _View, previous: _View) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flow (2, h, w) to the previous view and where its target shows the same surface."""
    height, width = view.surface.shape
    used, surface = np.unique(view.surface, return_inverse=True)
    surface = surface.reshape(height, width)
    order = np.argsort(previous.keys)
    found = order[np.searchsorted(previous.keys, view.keys[used], sorter=order).clip(max=len(order) - 1)]
    known = previous.keys[found] == view.keys[used]
    maps = previous.planes[found] @ np.linalg.inv(view.planes[used])
    maps[~known] = np.eye(3)
    maps = (maps / np.abs(maps).max(axis=(1, 2), keepdims=True)).astype(np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    a, b, w = (maps[:, i, 0][surface] * x + maps[:, i, 1][surface] * y + maps[:, i, 2][surface] for i in range(3))
    seen = w > 0
    w = np.where(seen, w, 1)
    flow = np.stack((a / w - x, b / w - y))
    column, row = np.rint(flow[0] + x), np.rint(flow[1] + y)
    valid = seen & known[surface] & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    spot = row[valid].astype(np.int64) * width + column[valid].astype(np.int64)
    valid[valid] = previous.surface.ravel()[spot] == found[surface[valid]]
    flow[:, ~(seen & known[surface])] = 0
    return flow, valid
