"""Flat textured parallelograms: all that stands on the street is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Vector = Sequence[float] | NDArray[np.float64]
Tint = tuple[float, float, float]

WHITE: Tint = (1.0, 1.0, 1.0)
PARTS_PER_SLOT, SLOTS = 1 << 12, 1 << 32


@dataclass(frozen=True, kw_only=True)
class Quads:
    """N parallelograms origin + u across + v up, u and v in 0..1; across x up points outwards.

    key: (N,) int64, the same in every frame. origin, across, up: (N, 3) float64 metres. texture: (N,) int.
    tile: (N, 4) float32, texture coordinates are (u, v) * tile[:2] + tile[2:]. tint: (N, 3). label: (N,) uint8.
    moving: (N,) bool, in the world. closed: (N,) bool, invisible from behind.
    """

    key: NDArray[np.int64]
    origin: NDArray[np.float64]
    across: NDArray[np.float64]
    up: NDArray[np.float64]
    texture: NDArray[np.int64]
    tile: NDArray[np.float32]
    tint: NDArray[np.float32]
    label: NDArray[np.uint8]
    moving: NDArray[np.bool_]
    closed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.key)


def join_quads(groups: Sequence[Quads]) -> Quads:
    """All quads of the groups, in order."""
    return Quads(**{f.name: np.concatenate([getattr(g, f.name) for g in groups]) for f in fields(Quads)})


class QuadList:
    """Quads being gathered. Keys follow from `stream` (kind of thing), `slot` (which one) and the order of parts."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []
        self.start(stream=0, slot=0, moving=False)

    def start(self, *, stream: int, slot: int, moving: bool) -> None:
        """Begin a new thing: the quads that follow are its parts."""
        self._base = (stream * SLOTS + slot + SLOTS // 2) * PARTS_PER_SLOT
        self._part, self._moving = 0, moving

    def add(
        self,
        origin: Vector,
        across: Vector,
        up: Vector,
        *,
        texture: int,
        label: int,
        tint: Tint = WHITE,
        tile: tuple[float, float, float, float] = (1.0, 1.0, 0.0, 0.0),
        closed: bool = False,
    ) -> None:
        """Append one quad; see Quads for the meaning."""
        key = self._base + self._part
        self._part += 1
        self._rows.append((key, origin, across, up, texture, tile, tint, label, self._moving, closed))

    def finish(self) -> Quads:
        """The quads gathered so far."""
        columns = list(zip(*self._rows)) if self._rows else [()] * 10
        return Quads(
            key=np.array(columns[0], np.int64),
            origin=np.array(columns[1], np.float64).reshape(-1, 3),
            across=np.array(columns[2], np.float64).reshape(-1, 3),
            up=np.array(columns[3], np.float64).reshape(-1, 3),
            texture=np.array(columns[4], np.int64),
            tile=np.array(columns[5], np.float32).reshape(-1, 4),
            tint=np.array(columns[6], np.float32).reshape(-1, 3),
            label=np.array(columns[7], np.uint8),
            moving=np.array(columns[8], np.bool_),
            closed=np.array(columns[9], np.bool_),
        )
