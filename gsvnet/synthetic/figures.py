"""Cars, people and cyclists put together from quads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gsvnet.classes import CAMVID
from gsvnet.synthetic.camera import Doubles
from gsvnet.synthetic.catalogue import TEXTURE_IDS
from gsvnet.synthetic.quads import QuadList, Tint

CAR, PEDESTRIAN, BICYCLIST = (CAMVID.names.index(n) for n in ("car", "pedestrian", "bicyclist"))

CAR_PAINTS: tuple[Tint, ...] = (
    (0.72, 0.74, 0.76), (0.12, 0.12, 0.13), (0.30, 0.31, 0.33), (0.10, 0.14, 0.30), (0.45, 0.08, 0.08),
    (0.82, 0.82, 0.80), (0.12, 0.22, 0.20), (0.50, 0.53, 0.57), (0.16, 0.28, 0.45), (0.42, 0.38, 0.30),
)  # fmt: skip
COATS: tuple[Tint, ...] = (
    (0.10, 0.10, 0.12), (0.16, 0.18, 0.26), (0.28, 0.22, 0.18), (0.40, 0.10, 0.12), (0.30, 0.32, 0.34),
    (0.14, 0.22, 0.18), (0.55, 0.52, 0.48), (0.12, 0.12, 0.14),
)  # fmt: skip
TROUSERS: tuple[Tint, ...] = ((0.10, 0.12, 0.18), (0.09, 0.09, 0.10), (0.22, 0.20, 0.18), (0.14, 0.17, 0.28))
HAIRS: tuple[Tint, ...] = ((0.10, 0.07, 0.05), (0.25, 0.17, 0.10), (0.45, 0.38, 0.28), (0.07, 0.07, 0.07))


@dataclass(frozen=True, kw_only=True)
class CarModel:
    """Measures in metres; rear, front: how far the cabin's foot and roof stand in from the ends (foot, roof)."""

    length: float
    width: float
    waist: float
    height: float
    rear: tuple[float, float]
    front: tuple[float, float]
    cabin: str = "car cabin"


HATCHBACK = CarModel(length=3.9, width=1.72, waist=0.92, height=1.45, rear=(0.05, 0.5), front=(1.05, 1.75))
SALOON = CarModel(length=4.5, width=1.76, waist=0.92, height=1.42, rear=(0.65, 1.2), front=(1.35, 2.0))
ESTATE = CarModel(length=4.5, width=1.76, waist=0.94, height=1.48, rear=(0.03, 0.35), front=(1.3, 1.95))
VAN = CarModel(length=5.0, width=1.95, waist=1.05, height=2.25, rear=(0.0, 0.06), front=(0.7, 1.5), cabin="van cabin")
BUS = CarModel(length=10.0, width=2.5, waist=1.3, height=3.1, rear=(0.0, 0.05), front=(0.0, 0.15), cabin="bus cabin")
MODELS = (HATCHBACK, SALOON, ESTATE, HATCHBACK, VAN, HATCHBACK, SALOON, ESTATE, BUS)


def pick_car_paint(rng: np.random.Generator) -> Tint:
    """A colour that cars have."""
    return CAR_PAINTS[rng.integers(len(CAR_PAINTS))]


def add_car(quads: QuadList, spot: Doubles, slope: float, facing: int, model: int, paint: Tint) -> None:
    """A car with its middle above `spot` (3,); facing 1 drives along +y, -1 towards us; slope is the street's dx/dy."""
    m = MODELS[model]
    ahead = np.array((slope, 1.0, 0.0)) * (facing / math.hypot(slope, 1.0))
    right, up = np.array((ahead[1], -ahead[0], 0.0)), np.array((0.0, 0.0, 1.0))
    half, end, taper = m.width / 2, m.length / 2, 0.78 if m.cabin == "car cabin" else 0.96

    def at(x: float, y: float, z: float) -> Doubles:
        return spot + right * x + ahead * y + up * z

    def face(name: str, corner: Doubles, along: Doubles, top: Doubles, *, mirrored: bool = False) -> None:
        tile, texture = (-1.0, 1.0, 1.0, 0.0) if mirrored else (1.0, 1.0, 0.0, 0.0), TEXTURE_IDS[name]
        across, rise = along - corner, top - corner
        quads.add(corner, across, rise, texture=texture, label=CAR, tint=paint, tile=tile, closed=True)

    shadow = at(-half - 0.3, -end - 0.3, 0.0)
    quads.add(shadow, right * (m.width + 0.6), ahead * (m.length + 0.6), texture=TEXTURE_IDS["shadow"], label=CAR)
    rear_foot, rear_roof = -end + m.rear[0], -end + m.rear[1]
    front_foot, front_roof = end - m.front[0], end - m.front[1]
    bonnet = m.waist - (0.16 if m.front[0] > 0.5 else 0.0)
    narrow, low = half * taper, m.waist - 0.01
    window = "windscreen"
    if m.front[0] > 0:
        face("bonnet", at(-half, front_foot, low), at(half, front_foot, low), at(-half, end - 0.1, bonnet))
    if m.rear[0] > 0.3:
        face("plain", at(-half, -end, low), at(half, -end, low), at(-half, rear_foot, m.waist))
    face("plain", at(-narrow, rear_roof, m.height), at(narrow, rear_roof, m.height), at(-narrow, front_roof, m.height))
    face("car rear", at(-half, -end, 0), at(half, -end, 0), at(-half, -end, m.waist))
    face(window, at(-half, rear_foot, low), at(half, rear_foot, low), at(-half, rear_roof, m.height))
    face("car front", at(half, end, 0), at(-half, end, 0), at(half, end, bonnet))
    face(window, at(half, front_foot, low), at(-half, front_foot, low), at(half, front_roof, m.height))
    axle = 0.62 * end
    face("tyres", at(-half, -axle, 0), at(half, -axle, 0), at(-half, -axle, 0.6))
    face("tyres", at(half, axle, 0), at(-half, axle, 0), at(half, axle, 0.6))
    # The flanks, seen from the right: body with wheels, and the cabin above that leans inwards; mirrored for the left.
    for name, back, front, x, z, top in (
        ("car side", -end, end, half, 0.0, m.waist),
        (m.cabin, rear_foot, front_foot, narrow, low, m.height),
    ):
        face(name, at(half, back, z), at(half, front, z), at(x, back, top))
        face(name, at(-half, front, z), at(-half, back, z), at(-x, front, top), mirrored=True)


def add_pedestrian(
    quads: QuadList, spot: Doubles, walk: tuple[float, float], phase: float, rng: np.random.Generator, *, near: bool
) -> None:
    """A walker with feet on `spot` (3,), walking along the unit vector `walk` (x, y); phase in radians moves the limbs.

    near: with arms and a shadow.
    """
    height, wide = rng.uniform(1.55, 1.85), rng.uniform(0.44, 0.52)
    coat, trousers, hair = (options[rng.integers(len(options))] for options in (COATS, TROUSERS, HAIRS))
    side_view = abs(walk[0]) > abs(walk[1])
    wide *= 0.72 if side_view else 1.0
    swing = 0.45 * math.sin(phase)
    hip, shoulder = spot + (0, 0, 0.52 * height), spot + (0, 0, 0.82 * height)
    spread, reach = (0.0, 0.0) if side_view else (0.2 * wide, 0.46 * wide)
    left = spot + (-wide / 2, -0.03, 0.46 * height)
    quads.add(left, (wide, 0, 0), (0, 0, 0.40 * height), texture=TEXTURE_IDS["torso"], label=PEDESTRIAN, tint=coat)
    _add_head(quads, spot + (0, -0.04, 0.84 * height), 0.16 * height, hair, PEDESTRIAN)
    for sign in (1, -1):
        leg = hip + (sign * spread, 0, 0)
        _add_limb(quads, leg, walk, sign * swing, 0.52 * height, 0.20, trousers, PEDESTRIAN)
    if not near:
        return
    for sign in (1, -1):
        arm = shoulder + (sign * reach, -0.04 if side_view else 0.0, 0)
        _add_limb(quads, arm, walk, -0.8 * sign * swing, 0.37 * height, 0.13, coat, PEDESTRIAN)
    shadow = spot + (-0.4, -0.25, 0.02)
    quads.add(shadow, (0.8, 0, 0), (0, 0.5, 0), texture=TEXTURE_IDS["shadow"], label=PEDESTRIAN)


def add_cyclist(
    quads: QuadList, spot: Doubles, slope: float, facing: int, phase: float, rng: np.random.Generator
) -> None:
    """A rider on a bicycle; facing as for cars, phase in radians turns the pedals."""
    coat, trousers, hair = (options[rng.integers(len(options))] for options in (COATS, TROUSERS, HAIRS))
    coat = (0.75, 0.85, 0.12) if rng.random() < 0.35 else coat
    ahead = np.array((slope, 1.0, 0.0)) * (facing / math.hypot(slope, 1.0))
    up = np.array((0.0, 0.0, 1.0))
    quads.add(spot + (-0.35, -0.9, 0.02), (0.7, 0, 0), (0, 1.8, 0), texture=TEXTURE_IDS["shadow"], label=BICYCLIST)
    bicycle, wheel, torso = (TEXTURE_IDS[n] for n in ("bicycle", "wheel edge", "torso"))
    quads.add(spot - ahead * 0.87, ahead * 1.75, up * 1.05, texture=bicycle, label=BICYCLIST, tint=coat)
    for along in (-0.52, 0.52):
        quads.add(spot + ahead * along - (0.035, 0, 0), (0.07, 0, 0), up * 0.68, texture=wheel, label=BICYCLIST)
    seat, bar = spot - ahead * 0.25 + up * 0.95, spot + ahead * 0.3 + up * 1.02
    for sign in (1, -1):
        pedal = spot + up * (0.32 + 0.17 * math.sin(phase + (sign > 0) * math.pi)) + (sign * 0.1, 0, 0)
        hip = seat + (sign * 0.1, 0, 0)
        leg = pedal + ahead * 0.12 - hip
        quads.add(
            hip + leg - (0.08, 0, 0), (0.16, 0, 0), -leg, texture=TEXTURE_IDS["limb"], label=BICYCLIST, tint=trousers
        )
        shoulder = seat + ahead * 0.3 + up * 0.5 + (sign * 0.2, 0, 0)
        arm = bar + (sign * 0.24, 0, 0) - shoulder
        quads.add(
            shoulder + arm - (0.06, 0, 0), (0.12, 0, 0), -arm, texture=TEXTURE_IDS["limb"], label=BICYCLIST, tint=coat
        )
    quads.add(seat - (0.23, 0, 0.05), (0.46, 0, 0), ahead * 0.32 + up * 0.62, texture=torso, label=BICYCLIST, tint=coat)
    _add_head(quads, seat + ahead * 0.36 + up * 0.54, 0.28, hair, BICYCLIST)


def _add_limb(
    quads: QuadList, joint: Doubles, walk: tuple[float, float], angle: float, length: float, width: float, tint: Tint,
    label: int,
) -> None:  # fmt: skip
    """A limb hanging from `joint`, swung by `angle` along the direction of walking, facing the viewer."""
    reach = np.array((walk[0] * math.sin(angle), walk[1] * math.sin(angle), -math.cos(angle))) * length
    across = np.array((-reach[2], 0.0, reach[0]))
    across *= width / np.linalg.norm(across)
    quads.add(joint + reach - across / 2, across, -reach, texture=TEXTURE_IDS["limb"], label=label, tint=tint)


def _add_head(quads: QuadList, chin: Doubles, size: float, hair: Tint, label: int) -> None:
    """A head that faces along the street, `size` metres high, above `chin`."""
    wide = 0.82 * size
    quads.add(chin - (wide / 2, 0, 0), (wide, 0, 0), (0, 0, size), texture=TEXTURE_IDS["head"], label=label, tint=hair)
