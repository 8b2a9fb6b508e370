"""Sun, sky and exposure, drifting slowly from one mood to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

MOOD_S = 40.0


@dataclass(frozen=True, kw_only=True)
class Light:
    """Colours are RGB in 0..1 as the camera shows them; ambient, sun and exposure multiply surface colours.

    cloud: 0 none .. 1 covered. glare: how far the sky is blown out.
    """

    ambient: tuple[float, float, float]
    sun: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    cloud: float
    cloud_tone: float
    exposure: float


MOODS = {
    "bright": Light(
        ambient=(0.46, 0.48, 0.52), sun=(0.80, 0.77, 0.70), zenith=(0.80, 0.90, 0.99), horizon=(0.99, 1.0, 1.0),
        cloud=0.3, cloud_tone=1.05, exposure=1.0,
    ),
    "clear": Light(
        ambient=(0.40, 0.43, 0.49), sun=(0.90, 0.84, 0.72), zenith=(0.52, 0.70, 0.92), horizon=(0.90, 0.95, 0.99),
        cloud=0.35, cloud_tone=1.0, exposure=1.0,
    ),
    "overcast": Light(
        ambient=(0.72, 0.73, 0.75), sun=(0.08, 0.08, 0.08), zenith=(0.86, 0.88, 0.90), horizon=(0.97, 0.98, 0.98),
        cloud=0.8, cloud_tone=0.95, exposure=0.85,
    ),
    "dusk": Light(
        ambient=(0.36, 0.37, 0.41), sun=(0.10, 0.09, 0.08), zenith=(0.45, 0.51, 0.60), horizon=(0.85, 0.86, 0.86),
        cloud=0.9, cloud_tone=0.66, exposure=0.9,
    ),
}  # fmt: skip
_USUAL = ("bright", "clear", "overcast", "bright", "dusk")


def light_at(time_s: float, seed: int, light: str) -> Light:
    """The light at `time_s`: of one mood, or for "varied" on the way from one to the next; always with slow ripples."""
    if light == "varied":
        number, part = divmod(time_s / MOOD_S, 1.0)
        a, b = (_mood(seed, int(number) + step) for step in (0, 1))
        weight = part * part * (3 - 2 * part)
        mixed = {f.name: _mix(getattr(a, f.name), getattr(b, f.name), weight) for f in fields(Light)}
    else:
        mixed = {f.name: getattr(MOODS[light], f.name) for f in fields(Light)}
    ripple = 1 + 0.035 * math.sin(2 * math.pi * time_s / 9.7 + seed) + 0.02 * math.sin(2 * math.pi * time_s / 3.9)
    return Light(**{**mixed, "exposure": mixed["exposure"] * ripple})


def sun_direction(seed: int) -> NDArray[np.float64]:
    """Unit vector (3,) to the sun; it stands on one side of the street."""
    rng = np.random.default_rng((seed, 5))
    across = rng.choice((-1, 1)) * rng.uniform(0.45, 0.8)
    direction = np.array((across, rng.uniform(-0.7, 0.15), rng.uniform(0.5, 0.8)))
    return direction / np.linalg.norm(direction)


def _mood(seed: int, number: int) -> Light:
    return MOODS[_USUAL[np.random.default_rng((seed, 6, number + (1 << 31))).integers(len(_USUAL))]]


def _mix(a, b, weight: float):  # noqa: ANN001, ANN202
    if isinstance(a, tuple):
        return tuple(x + (y - x) * weight for x, y in zip(a, b))
    return a + (b - a) * weight
