"""The street's course, the camera that drives along it, and planes seen by that camera.

World: x to the right, y along the street, z up, metres. Camera: x right, y down, z forward. Pixel (x, y) is sampled
at its integer coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

LANE_M = -1.2  # the camera keeps to the left of the middle, as in CamVid
BENDS = ((4.6, 290.0), (2.4, 131.0))  # (amplitude, wavelength) in metres


@dataclass(frozen=True, kw_only=True)
class Course:
    """How the street winds: its middle is at x = sum of sines of y."""

    phases: tuple[float, float]

    def middle(self, y: float) -> float:
        """x of the middle of the street at y, metres."""
        return sum(a * math.sin(2 * math.pi * y / w + p) for (a, w), p in zip(BENDS, self.phases))

    def slope(self, y: float) -> float:
        """dx/dy of the middle of the street."""
        return sum(a * 2 * math.pi / w * math.cos(2 * math.pi * y / w + p) for (a, w), p in zip(BENDS, self.phases))

    def middle_near(self, y: float, ahead: NDArray[np.float32]) -> NDArray[np.float32]:
        """x of the middle at y + ahead, relative to x at y; precise in float32 however far y is."""
        total = np.full_like(ahead, -self.middle(y))
        for (amplitude, wavelength), phase in zip(BENDS, self.phases):
            start = math.fmod(2 * math.pi * y / wavelength + phase, 2 * math.pi)
            total += np.float32(amplitude) * np.sin(ahead * np.float32(2 * math.pi / wavelength) + np.float32(start))
        return total

    def point(self, side: float, y: float, z: float = 0.0) -> Doubles:
        """World point `side` metres to the right of the middle."""
        return np.array((self.middle(y) + side, y, z))


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole: position (3,) metres, rotation (3, 3) world to camera, intrinsics (3, 3) in pixels."""

    position: Doubles
    rotation: Doubles
    intrinsics: Doubles
    height: int
    width: int

    def see_planes(self, origin: Doubles, across: Doubles, up: Doubles) -> Doubles:
        """(N, 3, 3): maps (u, v, 1) on the plane origin + u across + v up to depth * (x, y, 1) in pixels."""
        plane = np.stack((across, up, origin - self.position), axis=-1)
        return (self.intrinsics @ self.rotation) @ plane

    def see_directions(self) -> Doubles:
        """(3, 3): maps a world direction to a multiple of (x, y, 1) in pixels."""
        return self.intrinsics @ self.rotation


@dataclass(frozen=True, kw_only=True)
class Drive:
    """Where the camera is at a time: steady progress with gentle changes of speed, sway and bounce."""

    course: Course
    speed_m_s: float
    shake: float
    phases: tuple[float, ...]

    def travelled_m(self, time_s: float) -> float:
        """y of the camera; it never moves backwards."""
        rate = 2 * math.pi / 26
        ripple = 0.55 / rate * (math.sin(rate * time_s + self.phases[0]) - math.sin(self.phases[0]))
        return self.speed_m_s * (time_s + ripple)

    def camera(self, time_s: float, height: int, width: int) -> Camera:
        """The camera at `time_s` for frames of height x width pixels."""
        y = self.travelled_m(time_s)
        waves = [math.sin(2 * math.pi * time_s * f + p) for f, p in zip((0.11, 0.07, 1.7, 0.9, 2.3, 0.13), self.phases)]
        side = LANE_M + 0.22 * waves[0]
        yaw = math.atan(self.course.slope(y + 6.0)) + 0.025 * waves[1] * self.shake
        pitch = (0.0035 * waves[2] + 0.004 * waves[3]) * self.shake
        roll = (0.003 * waves[4] + 0.006 * waves[5]) * self.shake
        position = self.course.point(side, y, 1.42 + 0.012 * self.shake * waves[2])
        focal = 0.94 * min(width, height * 4 / 3)
        intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, 0.495 * height], [0, 0, 1.0]])
        rotation = _rotation(yaw, pitch, roll)
        return Camera(position=position, rotation=rotation, intrinsics=intrinsics, height=height, width=width)


def _rotation(yaw: float, pitch: float, roll: float) -> Doubles:
    """World to camera (3, 3): yaw to the right, pitch up, roll clockwise, radians."""
    forward = np.array((math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch)))
    right = np.array((math.cos(yaw), -math.sin(yaw), 0.0))
    down = np.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    return np.stack((c * right + s * down, c * down - s * right, forward))
