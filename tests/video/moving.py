"""Moving pictures whose motion is exactly known: a drawn street that is panned or zoomed, and a drive through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from gsvnet.synthetic import SceneConfig, StreetScene
from gsvnet.video.motion import FrameMotion

_STEP_PX = (3.3, -1.4)  # of the pan, at 360 rows
_ZOOM, _TURN = 1.012, 0.002  # per frame; radians
_FPS = 66  # divides by the distances 1, 2, 3, 6 and 11: a slower scene then has the flow over that many frames


@dataclass(frozen=True)
class Moving:
    """Images (h, w, 3) uint8, and where a point of frame t, (2, ...) pixels, is in frame s, and whether it shows."""

    name: str
    images: tuple[np.ndarray, ...]

    def truth(self, t: int, s: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Motion (2, ...) in pixels from frame t to frame s of points (2, ...), and whether they are seen there."""
        height, width = self.images[0].shape[:2]
        if self.name == "street":
            assert s == 0, "a scene knows its past only"
            drive = StreetScene(street_config(height, width, fps=_FPS // t)).frame(1)
            column, row = np.rint(points).astype(np.intp)
            return drive.flow[:, row, column], drive.flow_valid[row, column]
        to, origin = frame_map(self.name, s, height, width), frame_map(self.name, t, height, width)
        world = np.tensordot(origin[:, :2], points, 1) + origin[:, 2].reshape(2, *[1] * (points.ndim - 1))
        back = np.linalg.inv(to[:, :2])
        there = np.tensordot(back, world - to[:, 2].reshape(2, *[1] * (points.ndim - 1)), 1)
        inside = (there > -0.5).all(0) & (there[0] < width - 0.5) & (there[1] < height - 0.5)
        return there - points, inside


def street_config(height: int, width: int, fps: int = _FPS) -> SceneConfig:
    return SceneConfig(height=height, width=width, fps=fps, speed_m_s=35, seed=5, noise=1.5, light="bright")


def frame_map(name: str, t: int, height: int, width: int) -> np.ndarray:
    """(2, 3): from pixels of frame t to pixels of the still picture, twice as high and wide, that it shows."""
    middle = np.array(((width - 1) / 2, (height - 1) / 2))
    if name == "pan":
        linear, shift = np.eye(2), np.array(_STEP_PX) * t * height / 360
    else:
        scale, angle = _ZOOM**-t, _TURN * t
        linear = scale * np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
        shift = np.zeros(2)
    return np.column_stack((linear, 2 * middle + 0.5 + shift - linear @ middle))


def field(dx: float, dy: float, distance: int, *, rotation: int = 0, rows: int = 2, columns: int = 3) -> FrameMotion:
    """A frame of cells that all have one vector, in pixels, and one distance."""
    vector = np.zeros((2, rows, columns), np.float32)
    vector[0], vector[1] = dx, dy
    return FrameMotion(
        index=0,
        pts=0,
        vector=vector,
        distance=np.full((rows, columns), distance, np.int8),
        height=8 * rows,
        width=8 * columns,
        rotation=rotation,
    )


@lru_cache(maxsize=8)
def draw(name: str, height: int, width: int, num_frames: int) -> Moving:
    """name: "pan", "zoom" (with a slight turn) or "street" (a drive)."""
    if name == "street":
        scene = StreetScene(street_config(height, width))
        return Moving(name, tuple(scene.image(t) for t in range(num_frames)))
    config = SceneConfig(height=2 * height, width=2 * width, seed=5, noise=1.5, light="bright")
    still = StreetScene(config).image(0).astype(np.float32)
    return Moving(
        name, tuple(_warp(still, frame_map(name, t, height, width), height, width) for t in range(num_frames))
    )


def _warp(still: np.ndarray, to_still: np.ndarray, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    column = to_still[0, 0] * x + to_still[0, 1] * y + to_still[0, 2]
    row = to_still[1, 0] * x + to_still[1, 1] * y + to_still[1, 2]
    left, top = np.floor(column).astype(np.intp), np.floor(row).astype(np.intp)
    along, down = (column - left)[..., None], (row - top)[..., None]
    upper = still[top, left] * (1 - along) + still[top, left + 1] * along
    lower = still[top + 1, left] * (1 - along) + still[top + 1, left + 1] * along
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


def encode(
    path: Path, images: Sequence[np.ndarray], codec: str = "libx264", options: Mapping[str, str] | None = None,
    gop: int = 250,
) -> str:  # fmt: skip
    """The path of a video of these images."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=dict(options or {}))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.gop_size, stream.codec_context.thread_count = "yuv420p", gop, 1
        for t, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = t
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return str(path)


def halve(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The images at half their size, by averaging 2x2 pixels."""
    return [np.rint(i.reshape(i.shape[0] // 2, 2, i.shape[1] // 2, 2, 3).mean((1, 3))).astype(np.uint8) for i in images]


def draw_texture(seed: int) -> np.ndarray:
    """A picture (480, 640) uint8 of soft blocks."""
    picture = np.kron(np.random.default_rng(seed).uniform(0, 255, (60, 80)), np.ones((8, 8)))
    for _ in range(3):
        picture = (picture + sum(np.roll(picture, shift, axis) for shift in (-1, 1) for axis in (0, 1))) / 5
    return picture.astype(np.uint8)


def pan_texture(height: int, width: int, num_frames: int, step: tuple[int, int] = (3, 2)) -> list[np.ndarray]:
    """RGB images in each of which what it shows was `step` pixels (dx, dy) away in the one before."""
    texture = draw_texture(0)
    corners = [(60 + step[0] * t, 60 + step[1] * t) for t in range(num_frames)]
    return [np.repeat(texture[y : y + height, x : x + width, None], 3, 2) for x, y in corners]
