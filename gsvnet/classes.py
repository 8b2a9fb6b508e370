"""What the class ids in a label map mean: names, colours, the ignore index."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gsvnet.errors import ConfigError

IGNORE = 255
MOST_CHARACTERS = 200  # of a class's name


def _identifier(name: str) -> str:
    text = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
    return text if text and not text[0].isdigit() else f"c_{text}"


@dataclass(frozen=True, kw_only=True)
class ClassSet:
    """An ordered set of classes: id i has names[i] (for people) and colours[i] (RGB, 0..255).

    Ids are 0..C-1 with C <= 255; 255 is always "ignore". Raises ConfigError for duplicate or missing names, and for
    colours outside 0..255.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= 255:
            raise ConfigError(f"class set {self.name!r} has {len(self.names)} classes; 1 to 255 are allowed")
        if len(self.colours) != len(self.names):
            raise ConfigError(f"class set {self.name!r}: {len(self.names)} names but {len(self.colours)} colours")
        if odd := [name for name in (self.name, *self.names) if len(name) > MOST_CHARACTERS or not name.isprintable()]:
            raise ConfigError(f"class set: name {odd[0][:40]!r} has control characters, or more than {MOST_CHARACTERS}")
        if wrong := [colour for colour in self.colours if not all(0 <= level <= 255 for level in colour)]:
            raise ConfigError(f"class set {self.name!r}: colour {wrong[0]}; red, green and blue are 0..255")
        if len(set(self.identifiers)) != len(self.names):
            raise ConfigError(f"class set {self.name!r}: names are not distinct as identifiers: {self.identifiers}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Names fit for SQL: lower case, words joined by underscores ("traffic light" -> "traffic_light")."""
        return tuple(_identifier(name) for name in self.names)

    @property
    def palette(self) -> np.ndarray:
        """Colours (256, 3) uint8 RGB by label; those of no class, 255 among them, are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colours
        return table

    @property
    def hex_colours(self) -> tuple[str, ...]:
        """Colours by class id as the web writes them: "#804080"."""
        return tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in self.colours)

    def colourise(self, labels: np.ndarray) -> np.ndarray:
        """Colours (..., 3) uint8 RGB of labels (...) uint8; ignored pixels are black."""
        return self.palette.take(labels, axis=0)  # ten times as fast as indexing

    def to_dict(self) -> dict:
        """Plain JSON-ready form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> ClassSet:
        """Class set from `to_dict`'s form. Raises ConfigError when a key is missing, or holds something else."""
        try:
            if isinstance(data["names"], str):
                raise TypeError("names is one text")
            return cls(
                name=str(data["name"]),
                names=tuple(str(n) for n in data["names"]),
                colours=tuple((int(r), int(g), int(b)) for r, g, b in data["colours"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"not a class set ({error!r}); keys needed: name, names, colours") from error

    @classmethod
    def from_file(cls, path: str | Path) -> ClassSet:
        """Class set from a JSON file with the keys name, names, colours."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text()))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"cannot read classes from {path}: {error}") from error


CAMVID = ClassSet(
    name="camvid",
    names=(
        "sky", "building", "pole", "road", "pavement", "tree",
        "sign symbol", "fence", "car", "pedestrian", "bicyclist",
    ),
    colours=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
)  # fmt: skip

CITYSCAPES = ClassSet(
    name="cityscapes",
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    colours=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip

CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The official label id of each class of CITYSCAPES, whose own ids are the trainIds; 0 is "unlabeled"."""

CLASS_SETS = {"camvid": CAMVID, "cityscapes": CITYSCAPES}

CITYSCAPES_TO_CAMVID: dict[str, str] = {
    "road": "road",
    "sidewalk": "pavement",
    "building": "building",
    "wall": "building",
    "fence": "fence",
    "pole": "pole",
    "traffic_light": "sign_symbol",
    "traffic_sign": "sign_symbol",
    "vegetation": "tree",
    "terrain": "tree",
    "sky": "sky",
    "person": "pedestrian",
    "rider": "bicyclist",
    "car": "car",
    "truck": "car",
    "bus": "car",
    "train": "car",
    "motorcycle": "bicyclist",
    "bicycle": "bicyclist",
}
"""The CamVid class, by identifier, that pixels of a Cityscapes class are labelled with.

As CamVid's 32 classes became 11: walls joined building, lights and lettering the signs, low plants tree, every vehicle
with four wheels or more car, and a bicycle or motorcycle is one object with its rider.
"""

_ALIASES = (
    {"pavement", "sidewalk"},
    {"tree", "vegetation"},
    {"sign_symbol", "traffic_sign"},
    {"pedestrian", "person"},
    {"bicyclist", "bicycle"},
)


def find_counterparts(source: ClassSet, target: ClassSet) -> dict[int, int]:
    """{target id: source id} of classes that mean the same: equal identifiers, or CamVid's and Cityscapes' words."""
    found = {}
    for wanted, name in enumerate(target.identifiers):
        same = next((words for words in _ALIASES if name in words), {name})
        ids = [i for i, other in enumerate(source.identifiers) if other in same]
        if ids:
            found[wanted] = next((i for i in ids if source.identifiers[i] == name), ids[0])
    return found


def merge_table(source: ClassSet, target: ClassSet) -> np.ndarray:
    """Lookup (256,) uint8 from labels of `source` to labels of `target`, several classes into one; unused ids ignore.

    `merge_table(CITYSCAPES, CAMVID)[labels]` relabels. Equal classes keep their names. Raises ConfigError where a
    class of `source` has no place in `target`.
    """
    table = np.full(256, IGNORE, np.uint8)
    merged = CITYSCAPES_TO_CAMVID if source.names == CITYSCAPES.names and target.names == CAMVID.names else {}
    for label, name in enumerate(source.identifiers):
        wanted = merged.get(name, name)
        if wanted not in target.identifiers:
            raise ConfigError(f"classes {source.name} do not merge into {target.name}: no counterpart of {name!r}")
        table[label] = target.identifiers.index(wanted)
    return table
