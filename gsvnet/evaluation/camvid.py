"""CamVid as files: images and truth of a split, in the layout

index.csv                    split, sequence, frame_30hz, stem, ...: one row per image
classes.json                 classes (names in id order) and void (the id of unlabelled pixels)
images/<split>/<stem>.*      RGB, any format that Pillow decodes
labels/<split>/<stem>.png    class ids
"""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np

from gsvnet.classes import CAMVID, IGNORE
from gsvnet.errors import ConfigError, MissingExtra

SPLITS = ("train", "val", "test")
_CLIP_STEP = 3  # in frames at 30 Hz; the val clip has 2, the stills of train and test are 30 apart


@dataclass(frozen=True, kw_only=True)
class CamvidFrame:
    """One labelled image: where its files are, and its place in the drive (frame_30hz: in frames at 30 Hz)."""

    sequence: str
    frame_30hz: int
    image: Path
    labels: Path
    void: int

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 RGB and truth (H, W) uint8 with 255 = ignore.

        Raises ConfigError for files that do not decode, sizes that differ, and ids that are no class.
        """
        image, truth = _read_pixels(self.image, "RGB"), _read_pixels(self.labels, None)
        if truth.shape != image.shape[:2]:
            raise ConfigError(f"{self.labels}: labels have shape {truth.shape}, their image has {image.shape[:2]}")
        wrong = (truth >= len(CAMVID)) & (truth != self.void) & (truth != IGNORE)
        if wrong.any():
            raise ConfigError(
                f"{self.labels}: class id {truth[wrong][0]}; allowed: 0..{len(CAMVID) - 1} and {self.void} (void)"
            )
        return image, np.where(truth == self.void, IGNORE, truth).astype(np.uint8)


def list_frames(root: str | Path, split: str) -> tuple[CamvidFrame, ...]:
    """Frames of a split, by sequence and time. Raises ConfigError naming the path that is missing or wrong."""
    root = Path(root)
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    for path in (root / "images" / split, root / "labels" / split, root / "index.csv", root / "classes.json"):
        if not path.exists():
            raise ConfigError(f"no {path}; CamVid's layout is images/<split>, labels/<split>, index.csv, classes.json")
    void = _read_void(root / "classes.json")
    images = {path.stem: path for path in (root / "images" / split).iterdir()}
    frames = [_find_frame(row, root, images, void) for row in _read_index(root / "index.csv") if row["split"] == split]
    if not frames:
        raise ConfigError(f"{root / 'index.csv'} has no row of split {split!r}")
    return tuple(sorted(frames, key=lambda frame: (frame.sequence, frame.frame_30hz)))


def is_clip(frames: tuple[CamvidFrame, ...]) -> bool:
    """Whether the frames are one gapless clip, close enough in time to propagate from one to the next."""
    steps = {b.frame_30hz - a.frame_30hz for a, b in pairwise(frames)}
    return len({frame.sequence for frame in frames}) == 1 and len(steps) == 1 and steps <= set(range(1, _CLIP_STEP + 1))


def _read_void(path: Path) -> int:
    """The id of unlabelled pixels. Raises ConfigError when the names are not those of CamVid's 11 classes."""
    try:
        about = json.loads(path.read_text())
        names, void = [str(name) for name in about["classes"]], int(about["void"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({error!r}); keys needed: classes, void") from error
    if [_squeeze(name) for name in names] != [_squeeze(name) for name in CAMVID.names]:
        raise ConfigError(f"{path}: classes are {names}; they must be {list(CAMVID.names)}")
    return void


def _squeeze(name: str) -> str:
    return "".join(name.lower().replace("_", " ").split())


def _read_index(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = {"split", "sequence", "frame_30hz", "stem"} - set(reader.fieldnames or ())
        if missing:
            raise ConfigError(f"{path} lacks the columns {sorted(missing)}")
        return list(reader)


def _find_frame(row: dict[str, str], root: Path, images: dict[str, Path], void: int) -> CamvidFrame:
    stem, split = row["stem"], row["split"]
    labels = root / "labels" / split / f"{stem}.png"
    if stem not in images:
        raise ConfigError(f"no image {root / 'images' / split / stem}.*, which index.csv names")
    if not labels.is_file():
        raise ConfigError(f"no {labels}, the labels of {images[stem].name}")
    if not row["frame_30hz"].isdecimal():
        raise ConfigError(f"{root / 'index.csv'}: frame_30hz of {stem} is {row['frame_30hz']!r}, not a number")
    return CamvidFrame(
        sequence=row["sequence"], frame_30hz=int(row["frame_30hz"]), image=images[stem], labels=labels, void=void
    )


def _read_pixels(path: Path, mode: str | None) -> np.ndarray:
    """Pixels of a file: (H, W, 3) in mode "RGB"; class ids (H, W) as stored when mode is None."""
    try:
        with _pillow().open(path) as image:
            pixels = np.array(image.convert(mode) if mode else image)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if mode is None and (pixels.ndim != 2 or pixels.dtype != np.uint8):
        raise ConfigError(f"{path}: labels are {pixels.dtype} {pixels.shape}; needed: one 8-bit channel of ids")
    return pixels


def _pillow() -> ModuleType:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise MissingExtra("pillow", "train") from error
