"""The street itself: endless blocks of buildings, gardens and parks, each drawn from its own random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvnet.classes import CAMVID
from gsvnet.synthetic.camera import Course
from gsvnet.synthetic.catalogue import TEXTURE_IDS, VARIANTS, WALL_STYLES
from gsvnet.synthetic.figures import add_car, pick_car_paint
from gsvnet.synthetic.quads import QuadList, Quads, Tint
from gsvnet.synthetic.textures import BAY_M, BAYS, STOREY_M

BLOCK_M, CROSSING_M, CELL_M = 48.0, 9.0, 2.0
ROAD_M, FRONT_M, PARKED_M = 4.2, 7.9, 3.55  # half widths: road, building line, middle of parked cars
ROOF_M, RIDGE_M = 4.0, 2.6  # from the front to the ridge of a roof, and its height over the wall
STATIC_STREAM = 1

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(len(CAMVID))

BRICKS: tuple[Tint, ...] = ((0.62, 0.50, 0.38), (0.50, 0.36, 0.29), (0.66, 0.60, 0.48), (0.42, 0.34, 0.30))
PLASTERS: tuple[Tint, ...] = ((0.85, 0.84, 0.80), (0.72, 0.68, 0.58), (0.60, 0.62, 0.62), (0.74, 0.64, 0.58))
SHOP_FRONTS: tuple[Tint, ...] = (
    (0.12, 0.26, 0.22), (0.42, 0.12, 0.12), (0.14, 0.18, 0.36), (0.2, 0.2, 0.21), (0.66, 0.62, 0.5), (0.55, 0.45, 0.15),
)  # fmt: skip
ROOFS: tuple[Tint, ...] = ((0.36, 0.36, 0.39), (0.42, 0.31, 0.27), (0.30, 0.29, 0.29))
BOARDS: tuple[Tint, ...] = ((0.06, 0.28, 0.20), (0.08, 0.18, 0.45), (0.75, 0.55, 0.08), (0.10, 0.26, 0.42))


@dataclass(frozen=True, kw_only=True)
class Block:
    """BLOCK_M of street: what stands there, and what the ground must know of it.

    crossing: a side street opens at its beginning. grass: (2,) bool, left and right, beyond the pavement.
    heights: (2, cells) float32 metres of what throws shadow onto the road.
    """

    quads: Quads
    crossing: bool
    grass: tuple[bool, bool]
    heights: NDArray[np.float32]


def build_block(course: Course, seed: int, index: int, car_density: float) -> Block:
    """Block `index` (any integer) of the street of this seed."""
    rng = np.random.default_rng((seed, 11, index + (1 << 31)))
    start, crossing = index * BLOCK_M, bool(rng.random() < 0.36)
    quads = QuadList()
    quads.start(stream=STATIC_STREAM, slot=index, moving=False)
    heights = np.zeros((2, int(BLOCK_M / CELL_M)), np.float32)
    grass = []
    for row, side in enumerate((-1, 1)):
        maker = _SideMaker(course, quads, rng, side, heights[row], start)
        first = start + (CROSSING_M if crossing else 0.0)
        zone = str(rng.choice(("shops", "terrace", "offices", "houses", "park"), p=(0.25, 0.24, 0.13, 0.16, 0.22)))
        grass.append(zone in ("houses", "park"))
        maker.build_zone(zone, first, start + BLOCK_M)
        maker.add_furniture(crossing, first, start + BLOCK_M, zone)
        maker.park_cars(first + 3, start + BLOCK_M - 2, car_density * float(rng.choice((0.0, 0.0, 0.25, 0.6))))
    return Block(quads=quads.finish(), crossing=crossing, grass=(grass[0], grass[1]), heights=heights)


class _SideMaker:
    """Puts up one side of one block; side is -1 on the left and 1 on the right."""

    def __init__(
        self, course: Course, quads: QuadList, rng: np.random.Generator, side: int, heights: NDArray, start: float
    ) -> None:
        self.course, self.quads, self.rng, self.side, self.heights, self.start = (
            course,
            quads,
            rng,
            side,
            heights,
            start,
        )

    def pick(self, options: tuple[Tint, ...]) -> Tint:
        """One of the tints, a little lighter or darker."""
        tint, tone = options[self.rng.integers(len(options))], 1 + 0.12 * self.rng.standard_normal()
        return (tint[0] * tone, tint[1] * tone, tint[2] * tone)

    def build_zone(self, zone: str, first: float, last: float) -> None:
        """Buildings or greenery from y = first to last."""
        if zone == "park":
            self.plant_park(first, last)
            return
        y, neighbour = first, 0.0
        while last - y > 4:
            width = BAY_M * int(self.rng.integers(2, 4 if zone == "houses" else 6))
            width = last - y if last - y - width < 5 else width
            gap = 2.5 if zone == "houses" else 0.0
            top = self.build_house(zone, y, y + width - gap, neighbour)
            y, neighbour = y + width, 0.0 if gap else top
        if zone == "houses":
            texture, top = ("planks", 1.3) if self.rng.random() < 0.5 else ("railing", 1.1)
            self.add_strip(FRONT_M, first, last, 0.0, top, TEXTURE_IDS[texture], FENCE, (0.5, 0.46, 0.4), 2.0)

    def build_house(self, zone: str, y0: float, y1: float, neighbour: float) -> float:
        """Height of a building put up from y0 to y1, the one before it being `neighbour` metres high."""
        rng = self.rng
        storeys = {"houses": 2, "terrace": int(rng.integers(2, 5)), "shops": int(rng.integers(3, 6))}.get(zone, 0)
        storeys = storeys or int(rng.integers(3, 7))
        front = FRONT_M + (4.5 if zone == "houses" else 0.0)
        style = WALL_STYLES[rng.integers(2)] if zone != "offices" else WALL_STYLES[2 + rng.integers(2)]
        tint = self.pick(BRICKS if style == "brick" else PLASTERS)
        bays, variant = max(1, round((y1 - y0) / BAY_M)), rng.integers(VARIANTS)
        ground = 3.5 if zone in ("shops", "offices") else 2.9
        top = ground + (storeys - 1) * STOREY_M
        corner, shift = rng.integers(BAYS) / BAYS, rng.integers(BAYS) / BAYS
        if zone == "shops" or (zone == "offices" and rng.random() < 0.5):
            below, below_tint = f"shops {variant}", self.pick(SHOP_FRONTS)
        else:
            below, below_tint = f"ground floor {variant}", tint
        tile = (bays / BAYS, 1.0, corner, 0.0)
        self.add_wall(front, y0, y1, 0.0, ground, TEXTURE_IDS[below], BUILDING, below_tint, tile)
        tile = (bays / BAYS, (storeys - 1) / BAYS, corner, shift)
        self.add_wall(front, y0, y1, ground, top, TEXTURE_IDS[f"{style} {variant}"], BUILDING, tint, tile)
        pitched = zone in ("houses", "terrace") or (zone == "shops" and rng.random() < 0.6)
        if top > neighbour:
            self.add_end_wall(front, y0, neighbour, top, pitched, tint)
        self.add_roof(front, y0, y1, top, pitched, tint)
        cells = slice(int((y0 - self.start) / CELL_M), int(np.ceil((y1 - self.start) / CELL_M)))
        self.heights[cells] = max(0.0, top - (front - FRONT_M))
        return top

    def add_wall(
        self, side_m: float, y0: float, y1: float, z0: float, z1: float, texture: int, label: int, tint: Tint,
        tile: tuple[float, float, float, float],
    ) -> None:  # fmt: skip
        """A wall along the street that faces the road."""
        a, b = (y0, y1) if self.side < 0 else (y1, y0)
        origin, end = self.course.point(self.side * side_m, a, z0), self.course.point(self.side * side_m, b, z0)
        self.quads.add(origin, end - origin, (0, 0, z1 - z0), texture=texture, label=label, tint=tint, tile=tile)

    def add_strip(
        self, side_m: float, y0: float, y1: float, z0: float, z1: float, texture: int, label: int, tint: Tint,
        period: float,
    ) -> None:  # fmt: skip
        """A long low wall, hedge or fence in pieces that follow the bend."""
        pieces = max(1, round((y1 - y0) / 8))
        for i in range(pieces):
            a, b = y0 + (y1 - y0) * i / pieces, y0 + (y1 - y0) * (i + 1) / pieces
            self.add_wall(side_m, a, b, z0, z1, texture, label, tint, ((b - a) / period, 1.0, 0.0, 0.0))

    def add_end_wall(self, front: float, y: float, low: float, top: float, pitched: bool, tint: Tint) -> None:
        """The near end wall of a building from z = low up, seen where a gap or a low neighbour leaves it free."""
        deep = 2 * ROOF_M
        left = front if self.side > 0 else -front - deep
        tile = (deep / (BAYS * BAY_M), (top - low) / (BAYS * STOREY_M), 0.0, 0.0)
        wall, up = TEXTURE_IDS["bare wall"], (0, 0, top - low)
        self.quads.add(
            self.course.point(left, y, low), (deep, 0, 0), up, texture=wall, label=BUILDING, tint=tint, tile=tile
        )
        if pitched:
            corner = self.course.point(left, y, top - 0.02)
            self.quads.add(
                corner, (deep, 0, 0), (0, 0, RIDGE_M), texture=TEXTURE_IDS["gable"], label=BUILDING, tint=tint
            )

    def add_roof(self, front: float, y0: float, y1: float, top: float, pitched: bool, tint: Tint) -> None:
        """A slope with a chimney, or a parapet."""
        if not pitched:
            self.add_wall(
                front - 0.12, y0, y1, top - 0.1, top + 0.5, TEXTURE_IDS["plain"], BUILDING, tint, (1, 1, 0, 0)
            )
            return
        rng, slates = self.rng, self.pick(ROOFS)
        a, b = (y0, y1) if self.side < 0 else (y1, y0)
        origin, end = (
            self.course.point(self.side * (front - 0.25), a, top - 0.05),
            self.course.point(self.side * (front - 0.25), b, top - 0.05),
        )
        tile = ((y1 - y0) / 3, 1.5, 0.0, 0.0)
        slope = (self.side * (ROOF_M + 0.25), 0, RIDGE_M)
        self.quads.add(origin, end - origin, slope, texture=TEXTURE_IDS["roof"], label=BUILDING, tint=slates, tile=tile)
        if rng.random() < 0.7:
            y = y0 + 0.4
            foot = self.course.point(self.side * (front + 2.6) - 0.5, y, top + 1.2)
            stone = (tint[0] * 0.8, tint[1] * 0.8, tint[2] * 0.8)
            tile = (0.12, 0.2, 0.0, 0.0)
            for across in ((1.0, 0, 0), (0, -self.side * 1.4, 0)):
                corner = foot if across[0] else foot + (0.5 - 0.5 * self.side, 0.7 + 0.7 * self.side, 0)
                self.quads.add(
                    corner, across, (0, 0, 2.4), texture=TEXTURE_IDS["bare wall"], label=BUILDING, tint=stone, tile=tile
                )

    def plant_park(self, first: float, last: float) -> None:
        """Fence or hedge along the pavement, trees in rows behind, a far hedge."""
        rng, side = self.rng, self.side
        leafy = rng.random() < 0.5
        green = self.pick(((0.30, 0.36, 0.20), (0.36, 0.38, 0.22)))
        self.add_strip(24.0, first, last, 0.0, 4.5, TEXTURE_IDS["hedge"], TREE, green, 8.0)
        if rng.random() < 0.75:
            self.add_strip(FRONT_M, first, last, 0.0, 1.25, TEXTURE_IDS["railing"], FENCE, (0.28, 0.29, 0.3), 2.0)
        else:
            self.add_strip(FRONT_M + 0.3, first, last, 0.0, 1.5, TEXTURE_IDS["hedge"], TREE, green, 5.0)
        for row, step in ((9.0, 9.0), (15.0, 11.0)):
            for y in np.arange(first + 2 + 4 * rng.random(), last - 1, step):
                self.plant_tree(side * (row + rng.normal(0, 0.8)), float(y + rng.normal(0, 1.0)), leafy, 1.0)
        self.heights[::3] = 4.0

    def plant_tree(self, side_m: float, y: float, leafy: bool, scale: float) -> None:
        """A trunk and two crowns, one before the other."""
        rng, variant = self.rng, self.rng.integers(VARIANTS)
        height = (7.5 + 4.5 * rng.random()) * scale
        width, base = height * (0.62 + 0.2 * rng.random()), height * (0.24 if leafy else 0.2)
        thick = 0.035 * height
        bark = (0.36, 0.33, 0.30)
        foot = self.course.point(side_m, y)
        trunk_top = base + (0.25 if leafy else 0.04) * height
        self.quads.add(
            foot - (thick / 2, 0, 0),
            (thick, 0, 0),
            (0, 0, trunk_top),
            texture=TEXTURE_IDS["bark"],
            label=TREE,
            tint=bark,
        )
        green = self.pick(((0.34, 0.42, 0.20), (0.40, 0.44, 0.24), (0.46, 0.40, 0.24)))
        for shift, depth, size in ((0.1, 0.9, 0.92), (0.0, -0.5, 1.0)) if leafy else ((0.0, 0.0, 1.0),):
            name = f"leafy {(variant + (depth > 0)) % VARIANTS}" if leafy else f"bare {variant}"
            left = foot + (-width * size / 2 + shift * width, depth, base)
            up = (0, 0, (height - base) * size)
            self.quads.add(
                left,
                (width * size, 0, 0),
                up,
                texture=TEXTURE_IDS[name],
                label=TREE,
                tint=green if leafy else (0.62, 0.56, 0.5),
            )

    def add_furniture(self, crossing: bool, first: float, last: float, zone: str) -> None:
        """Lamps, lights, signs, street trees, bollards, railings between pavement and road."""
        rng, side = self.rng, self.side
        kerb = side * (ROAD_M + 0.45)
        for y in (first + 4, first + 4 + 20.0)[: 2 if side < 0 else 1]:
            self.add_lamp(kerb, y + 6 * (side > 0))
        if crossing:
            self.add_traffic_light(kerb, first - CROSSING_M - 0.8)
            self.add_traffic_light(kerb, first + 0.6)
            if rng.random() < 0.6:
                self.add_strip(
                    ROAD_M + 0.25,
                    first + 1.2,
                    first + 9,
                    0.0,
                    1.05,
                    TEXTURE_IDS["railing"],
                    FENCE,
                    (0.42, 0.43, 0.44),
                    2.0,
                )
        for y in rng.uniform(first + 2, last - 2, int(rng.integers(1, 4))):
            self.add_sign(kerb + side * 0.2, float(y))
        if zone in ("shops", "offices"):
            for y in rng.uniform(first + 1, last - 1, 3):
                self.add_shop_sign(float(y))
        if rng.random() < 0.3:
            for y in np.arange(first + 10, last - 4, 1.8)[: int(rng.integers(5, 12))]:
                self.add_post(kerb, float(y), 0.16, 0.95, (0.22, 0.22, 0.23))
        if zone != "park" and rng.random() < 0.45:
            for y in np.arange(first + 8, last - 3, 12.0):
                self.plant_tree(side * (ROAD_M + 1.1), float(y), bool(rng.random() < 0.5), 0.72)

    def add_post(self, side_m: float, y: float, width: float, height: float, tint: Tint) -> None:
        """An upright post, `width` wide."""
        foot = self.course.point(side_m - width / 2, y)
        self.quads.add(foot, (width, 0, 0), (0, 0, height), texture=TEXTURE_IDS["bark"], label=POLE, tint=tint)

    def add_lamp(self, side_m: float, y: float) -> None:
        """A street lamp whose arm reaches over the road."""
        tint = (0.42, 0.43, 0.42)
        self.add_post(side_m, y, 0.16, 7.6, tint)
        head = self.course.point(side_m, y, 7.5)
        reach = -self.side * 1.7
        plain = TEXTURE_IDS["plain"]
        self.quads.add(head, (reach, 0, 0.25), (0, 0, 0.12), texture=plain, label=POLE, tint=tint)
        self.quads.add(
            head + (reach, 0, 0.2), (reach * 0.4, 0, 0.02), (0, 0, 0.2), texture=plain, label=POLE, tint=(0.6, 0.6, 0.6)
        )

    def add_sign(self, side_m: float, y: float) -> None:
        """A traffic sign or a board on a post."""
        rng = self.rng
        name = str(rng.choice(("limit sign", "warning sign", "blue sign", "board", "board")))
        wide, high = (1.5 + 0.6 * rng.random(), 0.95) if name == "board" else (0.75, 0.75)
        low = 2.1 + 0.5 * rng.random()
        self.add_post(side_m, y, 0.12, low + high, (0.45, 0.46, 0.47))
        left = self.course.point(side_m - wide / 2, y - 0.06, low)
        tint = self.pick(BOARDS)
        self.quads.add(left, (wide, 0, 0), (0, 0, high), texture=TEXTURE_IDS[name], label=SIGN, tint=tint)

    def add_shop_sign(self, y: float) -> None:
        """A board that juts out from a facade."""
        wide, high, low = 0.9, 0.7 + 0.6 * self.rng.random(), 2.9 + 0.6 * self.rng.random()
        left = self.course.point(self.side * (FRONT_M - wide / 2 - 0.05) - wide / 2, y, low)
        texture = TEXTURE_IDS["board"]
        self.quads.add(left, (wide, 0, 0), (0, 0, high), texture=texture, label=SIGN, tint=self.pick(SHOP_FRONTS))

    def add_traffic_light(self, side_m: float, y: float) -> None:
        """A post with a signal head."""
        self.add_post(side_m, y, 0.13, 3.3, (0.25, 0.26, 0.26))
        left = self.course.point(side_m - 0.22, y - 0.08, 2.4)
        tint = (0.15, 0.95, 0.55)
        self.quads.add(left, (0.44, 0, 0), (0, 0, 1.0), texture=TEXTURE_IDS["traffic light"], label=SIGN, tint=tint)

    def park_cars(self, first: float, last: float, density: float) -> None:
        """Cars along the kerb, on the left facing away, on the right facing us."""
        for y in np.arange(first, last, 6.2):
            model, chance, shift = int(self.rng.integers(8)), self.rng.random(), self.rng.normal(0, 0.25)
            paint = pick_car_paint(self.rng)
            if chance < density:
                middle = float(y + shift)
                spot = self.course.point(self.side * PARKED_M, middle)
                add_car(self.quads, spot, self.course.slope(middle), -self.side, model, paint)
