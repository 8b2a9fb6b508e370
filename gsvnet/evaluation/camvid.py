"""CamVid as files: images and truth of a split, in the layout

index.csv                    split, sequence, frame_30hz, stem, ...: one row per image
classes.json                 classes (names in id order) and void (the id of unlabelled pixels)
images/<split>/<stem>.*      RGB, any format that Pillow decodes
labels/<split>/<stem>.png    class ids
frames/<sequence>/<stem>.*   where you have them: all images of the drive at 30 Hz, named as the labelled ones

The val split is a clip with every frame labelled. Elsewhere the labelled images are a second apart, and propagation to
them is scored where frames/ has the images in between.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from gsvnet.classes import CAMVID, IGNORE
from gsvnet.errors import ConfigError
from gsvnet.evaluation.dataset import Clip, Frame, LabelIds, ScoredClips

SPLITS = ("train", "val", "test")
_CLIP_STEP = 3  # in frames at 30 Hz; the val clip has 2, the stills of train and test are 30 apart
_TOO_FAR_APART = "frames are too far apart to propagate; only distance 0 is scored (more: with all images in frames/)"


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
        frame = _as_frame(self)
        image = frame.read_image()
        return image, frame.read_truth(image.shape[:2])


def open_camvid(root: str | Path, split: str, *, keyframe_interval: int) -> ScoredClips:
    """The labelled frames of a split, each scored at every distance below the keyframe interval.

    Where nothing lies between the labelled frames only distance 0 is scored, and the notes say so. Raises ConfigError
    as `list_frames` does, for an interval longer than the clip, for a clip with a gap, and for images that are missing
    in frames/.
    """
    frames = list_frames(root, split)
    folder = Path(root) / "frames"
    step: int | None = 1
    notes: tuple[str, ...] = ()
    if is_clip(frames):
        clips, step = [_dense_clip(frames, keyframe_interval)], _steps(frames).pop()
    elif keyframe_interval > 1 and folder.is_dir():
        clips, notes = _sparse_clips(folder, frames, keyframe_interval)
    else:
        if keyframe_interval > 1:
            _check_gaps(Path(root) / "index.csv", frames)
            keyframe_interval, notes = 1, (f"{split}: {_TOO_FAR_APART}",)
        scored = tuple(range(len(frames)))
        clips, step = [Clip(name=split, frames=tuple(map(_as_frame, frames)), scored=scored, stills=True)], None
    return ScoredClips(
        dataset="camvid",
        split=split,
        classes=CAMVID,
        clips=tuple(clips),
        keyframe_interval=keyframe_interval,
        step_ms=step and step * 1000 / 30,
        notes=notes,
    )


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
    stem, times = Counter(frame.labels.stem for frame in frames).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"{root / 'index.csv'} has {times} rows of {stem} in split {split!r}")
    return tuple(sorted(frames, key=lambda frame: (frame.sequence, frame.frame_30hz)))


def is_clip(frames: tuple[CamvidFrame, ...]) -> bool:
    """Whether the frames are one gapless clip, close enough in time to propagate from one to the next."""
    steps = _steps(frames)
    return len({frame.sequence for frame in frames}) == 1 and len(steps) == 1 and steps <= set(range(1, _CLIP_STEP + 1))


def _steps(frames: tuple[CamvidFrame, ...]) -> set[int]:
    return {b.frame_30hz - a.frame_30hz for a, b in pairwise(frames)}


def _check_gaps(index: Path, frames: tuple[CamvidFrame, ...]) -> None:
    """Raises ConfigError for a clip that lacks a frame: one drive, some frames close in time, others farther apart."""
    near = min(_steps(frames), default=_CLIP_STEP + 1)
    if near > _CLIP_STEP or len({frame.sequence for frame in frames}) > 1:
        return
    a, b = next((a, b) for a, b in pairwise(frames) if b.frame_30hz - a.frame_30hz != near)
    raise ConfigError(
        f"{index}: {b.labels.stem} follows {a.labels.stem} after {b.frame_30hz - a.frame_30hz} frames at 30 Hz, others "
        f"after {near}; a frame is missing (--keyframe-interval 1 scores each by itself)"
    )


def _dense_clip(frames: tuple[CamvidFrame, ...], keyframe_interval: int) -> Clip:
    if keyframe_interval > len(frames):
        raise ConfigError(f"keyframe interval {keyframe_interval} is more than the clip's {len(frames)} frames")
    scored = range(keyframe_interval - 1, len(frames))
    return Clip(name=frames[0].sequence, frames=tuple(map(_as_frame, frames)), scored=tuple(scored))


def _sparse_clips(
    folder: Path, frames: tuple[CamvidFrame, ...], keyframe_interval: int
) -> tuple[list[Clip], tuple[str, ...]]:
    """For every labelled frame the frames that lead to it, at 30 Hz; without those at the very start of a drive."""
    clips, dropped = [], []
    for sequence in sorted({frame.sequence for frame in frames}):
        if not (folder / sequence).is_dir():
            raise ConfigError(f"no {folder / sequence}, the images between the labelled ones")
        images = {path.stem: path for path in (folder / sequence).iterdir()}
        for frame in (f for f in frames if f.sequence == sequence):
            if frame.frame_30hz < keyframe_interval - 1:
                dropped.append(frame.labels.stem)
            else:
                clips.append(_sparse_clip(folder, frame, images, keyframe_interval))
    notes = (f"not scored, since the drive starts there: {', '.join(dropped)}",) if dropped else ()
    return clips, notes


def _sparse_clip(folder: Path, frame: CamvidFrame, images: dict[str, Path], keyframe_interval: int) -> Clip:
    earlier = []
    for number in range(frame.frame_30hz - keyframe_interval + 1, frame.frame_30hz):
        stem = _stem_at(frame.labels.stem, number)
        if stem not in images:
            raise ConfigError(
                f"no image {folder / frame.sequence / stem}.*; keyframe interval {keyframe_interval} needs "
                f"{keyframe_interval - 1} frames before {frame.labels.stem}"
            )
        earlier.append(Frame(image=images[stem], labels=None, ids=_ids(frame.void)))
    return Clip(name=frame.labels.stem, frames=(*earlier, _as_frame(frame)), scored=(len(earlier),))


def _stem_at(stem: str, number: int) -> str:
    """ "Seq05VD_f00030", 29 -> "Seq05VD_f00029": the digits at the end are the frame number at 30 Hz."""
    return re.sub(r"\d+$", lambda digits: f"{number:0{len(digits[0])}d}", stem)


def _as_frame(frame: CamvidFrame) -> Frame:
    return Frame(image=frame.image, labels=frame.labels, ids=_ids(frame.void))


def _ids(void: int) -> LabelIds:
    classes = {**{i: i for i in range(len(CAMVID))}, void: IGNORE, IGNORE: IGNORE}
    return LabelIds(classes=classes, allowed=f"0..{len(CAMVID) - 1} and {void} (void)")


def _read_void(path: Path) -> int:
    """The id of unlabelled pixels. Raises ConfigError for one of a class, and for names that are not CamVid's 11."""
    try:
        about = json.loads(path.read_text())
        names, void = [str(name) for name in about["classes"]], int(about["void"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({error!r}); keys needed: classes, void") from error
    if [_squeeze(name) for name in names] != [_squeeze(name) for name in CAMVID.names]:
        raise ConfigError(f"{path}: classes are {names}; they must be {list(CAMVID.names)}")
    if not len(CAMVID) <= void <= IGNORE:
        raise ConfigError(f"{path}: void is {void}; allowed: {len(CAMVID)} to {IGNORE}, as ids below are classes")
    return void


def _squeeze(name: str) -> str:
    return "".join(name.lower().replace("_", " ").split())


def _read_index(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            missing = {"split", "sequence", "frame_30hz", "stem"} - set(reader.fieldnames or ())
            if missing:
                raise ConfigError(f"{path} lacks the columns {sorted(missing)}")
            return list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


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
