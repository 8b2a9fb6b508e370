"""All textures by name. They are drawn when first used, always the same, whatever the scene's seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from gsvnet.synthetic import sprites, textures
from gsvnet.synthetic.ripmap import Texture

WALL_STYLES = ("brick", "stucco", "office", "panel")
VARIANTS = 3

_DRAW: dict[str, Callable[[np.random.Generator], Texture]] = {
    "asphalt": textures.draw_asphalt,
    "paving": textures.draw_paving,
    "grass": textures.draw_grass,
    "stains": textures.draw_stains,
    "plain": textures.draw_plain,
    "bare wall": partial(textures.draw_wall, style="plain"),
    **{f"{s} {i}": partial(textures.draw_wall, style=s) for s in WALL_STYLES for i in range(VARIANTS)},
    **{f"shops {i}": textures.draw_shops for i in range(VARIANTS)},
    **{f"ground floor {i}": textures.draw_ground_floor for i in range(VARIANTS)},
    "gable": textures.draw_gable,
    "roof": textures.draw_roof,
    **{f"leafy {i}": textures.draw_leafy_crown for i in range(VARIANTS)},
    **{f"bare {i}": textures.draw_bare_crown for i in range(VARIANTS)},
    "hedge": textures.draw_hedge,
    "bark": textures.draw_bark,
    "railing": textures.draw_railing,
    "planks": textures.draw_planks,
    "car side": sprites.draw_car_side,
    "car cabin": sprites.draw_car_cabin_side,
    "car rear": sprites.draw_car_rear,
    "car front": sprites.draw_car_front,
    "bonnet": sprites.draw_bonnet,
    "tyres": sprites.draw_tyres,
    "windscreen": sprites.draw_windscreen,
    "van cabin": sprites.draw_van_side,
    "bus cabin": sprites.draw_bus_side,
    "shadow": sprites.draw_shadow,
    "torso": sprites.draw_torso,
    "head": sprites.draw_head,
    "limb": sprites.draw_limb,
    "bicycle": sprites.draw_bicycle,
    "wheel edge": sprites.draw_wheel_edge,
    "limit sign": sprites.draw_limit_sign,
    "warning sign": sprites.draw_warning_sign,
    "blue sign": sprites.draw_blue_sign,
    "board": sprites.draw_board,
    "traffic light": sprites.draw_traffic_light,
}
_NAMES = tuple(_DRAW)
TEXTURE_IDS = {name: i for i, name in enumerate(_NAMES)}


@cache
def load_texture(texture_id: int) -> Texture:
    """The texture of an id from TEXTURE_IDS."""
    return _DRAW[_NAMES[texture_id]](np.random.default_rng((2021, texture_id)))
