"""What moves: cars, cyclists and walkers, each a function of time alone.

Most move in streams: slots at even spacing that glide along the street at one speed, each slot filled or empty and
furnished by its own random numbers. So the traffic never ends and any moment can be drawn without the ones before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gsvnet.synthetic.camera import LANE_M, Course, Drive
from gsvnet.synthetic.figures import MODELS, add_car, add_cyclist, add_pedestrian, pick_car_paint
from gsvnet.synthetic.quads import QuadList
from gsvnet.synthetic.street import BLOCK_M, ROAD_M

BEHIND_M, NEAR_M, AHEAD_M = 6.0, 45.0, 130.0
LEADER_STREAM, CROSSER_STREAM, FIRST_STREAM = 2, 3, 10
LEADER_PERIOD_S = 34.0


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Things in slots `spacing_m` apart, `side_m` from the street's middle, moving at `speed_m_s` along +y."""

    kind: str
    side_m: float
    spread_m: float
    speed_m_s: float
    spacing_m: float
    share: float


STREAMS = (
    Stream(kind="car", side_m=1.55, spread_m=0.1, speed_m_s=-8.5, spacing_m=24.0, share=0.4),
    Stream(kind="cyclist", side_m=-2.45, spread_m=0.05, speed_m_s=4.2, spacing_m=42.0, share=0.4),
    Stream(kind="cyclist", side_m=2.75, spread_m=0.05, speed_m_s=-4.5, spacing_m=55.0, share=0.4),
    Stream(kind="walker", side_m=-6.3, spread_m=0.5, speed_m_s=1.25, spacing_m=11.0, share=0.5),
    Stream(kind="walker", side_m=-5.9, spread_m=0.4, speed_m_s=-1.35, spacing_m=11.0, share=0.5),
    Stream(kind="walker", side_m=6.3, spread_m=0.5, speed_m_s=1.3, spacing_m=10.0, share=0.5),
    Stream(kind="walker", side_m=5.9, spread_m=0.4, speed_m_s=-1.2, spacing_m=10.0, share=0.5),
)


def add_traffic(
    quads: QuadList, course: Course, drive: Drive, seed: int, time_s: float, cars: float, people: float
) -> None:
    """Append all that moves near the camera at `time_s`; cars and people scale how many there are (1: usual)."""
    here = drive.travelled_m(time_s)
    for number, stream in enumerate(STREAMS):
        share = stream.share * (cars if stream.kind == "car" else people)
        shift = stream.speed_m_s * time_s
        first = math.floor((here - BEHIND_M - shift) / stream.spacing_m) - 1
        last = math.ceil((here + AHEAD_M - shift) / stream.spacing_m) + 1
        for slot in range(first, last):
            rng = np.random.default_rng((seed, 23 + number, slot + (1 << 31)))
            filled, jitter, side = rng.random() < share, rng.uniform(-0.3, 0.3), rng.uniform(-1, 1)
            y = (slot + jitter) * stream.spacing_m + shift
            if filled and here - BEHIND_M < y < here + AHEAD_M:
                quads.start(stream=FIRST_STREAM + number, slot=slot, moving=True)
                spot = course.point(stream.side_m + side * stream.spread_m, y)
                _add_thing(quads, stream, spot, course.slope(y), time_s, rng, near=y - here < NEAR_M)
    if cars > 0:
        _add_leader(quads, course, here, seed, time_s)
    if people > 0:
        _add_crossers(quads, course, drive, seed, time_s)


def _add_thing(
    quads: QuadList,
    stream: Stream,
    spot: np.ndarray,
    slope: float,
    time_s: float,
    rng: np.random.Generator,
    *,
    near: bool,
) -> None:
    """One car, cyclist or walker of a stream."""
    facing = 1 if stream.speed_m_s > 0 else -1
    phase = rng.uniform(0, 2 * math.pi)
    if stream.kind == "car":
        add_car(quads, spot, slope, facing, int(rng.integers(len(MODELS))), pick_car_paint(rng))
    elif stream.kind == "cyclist":
        add_cyclist(quads, spot, slope, facing, phase + 6.0 * time_s, rng)
    else:
        add_pedestrian(quads, spot, (0.0, float(facing)), phase + 5.2 * time_s, rng, near=near)


def _add_leader(quads: QuadList, course: Course, here: float, seed: int, time_s: float) -> None:
    """A car ahead in our lane that comes near and pulls away again, another one every LEADER_PERIOD_S."""
    episode, part = divmod(time_s / LEADER_PERIOD_S, 1.0)
    rng = np.random.default_rng((seed, 41, int(episode) + (1 << 31)))
    nearest, model = rng.uniform(11.0, 30.0), int(rng.integers(len(MODELS)))
    y = here + nearest + (AHEAD_M + 60 - nearest) * abs(2 * part - 1) ** 3
    if rng.random() < 0.75 and y < here + AHEAD_M:
        quads.start(stream=LEADER_STREAM, slot=int(episode), moving=True)
        add_car(quads, course.point(LANE_M - 0.1, y), course.slope(y), 1, model, pick_car_paint(rng))


def _add_crossers(quads: QuadList, course: Course, drive: Drive, seed: int, time_s: float) -> None:
    """People who cross the road well ahead of the camera, at most one in a block."""
    here = drive.travelled_m(time_s)
    for block in range(math.floor((here + 14) / BLOCK_M), math.floor((here + AHEAD_M) / BLOCK_M) + 1):
        rng = np.random.default_rng((seed, 43, block + (1 << 31)))
        y, direction = (block + rng.uniform(0.1, 0.9)) * BLOCK_M, 1 if rng.random() < 0.5 else -1
        # The walk is timed by when the camera would arrive at mean speed, less a margin for its changes of speed.
        start = y / drive.speed_m_s - rng.uniform(11.5, 14.0)
        side = direction * (1.3 * (time_s - start) - ROAD_M - 1.2)
        if rng.random() < 0.55 and abs(side) < ROAD_M + 1.2 and y > here + 9:
            quads.start(stream=CROSSER_STREAM, slot=block, moving=True)
            add_pedestrian(
                quads, course.point(side, y), (float(direction), 0.0), 5.4 * time_s, rng, near=y - here < NEAR_M
            )
