"""Sun, sky and exposure, drifting slowly from one mood to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

MOOD_S = 40.0
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Light:
    """Colours are RGB in 0..1 as the camera shows them; ambient, sun and exposure multiply surface colours.

    cloud: 0 none .. 1 covered. cloud_tone: brightness of clouds.
    """

    ambient: Colour
    sun: Colour
    zenith: Colour
    horizon: Colour
    cloud: float
    cloud_tone: float
    exposure: float


MOODS = {
    "bright": Light(
        ambient=(0.56, 0.58, 0.62), sun=(0.80, 0.77, 0.70), zenith=(0.80, 0.90, 0.99), horizon=(0.99, 1.0, 1.0),
        cloud=0.3, cloud_tone=1.05, exposure=1.0,
    ),
    "clear": Light(
        ambient=(0.48, 0.51, 0.57), sun=(0.90, 0.84, 0.72), zenith=(0.52, 0.70, 0.92), horizon=(0.90, 0.95, 0.99),
        cloud=0.35, cloud_tone=1.0, exposure=1.0,
    ),
    "overcast": Light(
        ambient=(0.92, 0.93, 0.95), sun=(0.08, 0.08, 0.08), zenith=(0.86, 0.88, 0.90), horizon=(0.97, 0.98, 0.98),
        cloud=0.8, cloud_tone=0.95, exposure=0.85,
    ),
    "dusk": Light(
        ambient=(0.50, 0.51, 0.55), sun=(0.10, 0.09, 0.08), zenith=(0.45, 0.51, 0.60), horizon=(0.85, 0.86, 0.86),
        cloud=0.9, cloud_tone=0.66, exposure=0.9,
    ),
}  # fmt: skip
_USUAL = ("bright", "clear", "overcast", "bright", "dusk")


def light_at(time_s: float, seed: int, light: str) -> Light:
    """The light at `time_s`: of one mood, or for "varied" on the way from one to the next; always with slow ripples."""
    if light == "varied":
        number, part = divmod(time_s / MOOD_S, 1.0)
        mood = _mix(_mood(seed, int(number)), _mood(seed, int(number) + 1), part * part * (3 - 2 * part))
    else:
        mood = MOODS[light]
    ripple = 1 + 0.035 * math.sin(2 * math.pi * time_s / 9.7 + seed) + 0.02 * math.sin(2 * math.pi * time_s / 3.9)
    return replace(mood, exposure=mood.exposure * ripple)


def sun_direction(seed: int) -> NDArray[np.float64]:
    """Unit vector (3,) to the sun; it stands on one side of the street."""
    rng = np.random.default_rng((seed, 5))
    across = rng.choice((-1, 1)) * rng.uniform(0.45, 0.8)
    direction = np.array((across, rng.uniform(-0.7, 0.15), rng.uniform(0.5, 0.8)))
    return direction / np.linalg.norm(direction)


def _mood(seed: int, number: int) -> Light:
    return MOODS[_USUAL[np.random.default_rng((seed, 6, number + (1 << 31))).integers(len(_USUAL))]]


def _mix(a: Light, b: Light, share: float) -> Light:
    """The light `share` of the way from a to b."""

    def blend(x: float, y: float) -> float:
        return x + (y - x) * share

    def blend_colours(x: Colour, y: Colour) -> Colour:
        return (blend(x[0], y[0]), blend(x[1], y[1]), blend(x[2], y[2]))

    return Light(
        ambient=blend_colours(a.ambient, b.ambient),
        sun=blend_colours(a.sun, b.sun),
        zenith=blend_colours(a.zenith, b.zenith),
        horizon=blend_colours(a.horizon, b.horizon),
        cloud=blend(a.cloud, b.cloud),
        cloud_tone=blend(a.cloud_tone, b.cloud_tone),
        exposure=blend(a.exposure, b.exposure),
    )
