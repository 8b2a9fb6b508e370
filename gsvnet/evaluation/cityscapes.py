"""Cityscapes as files, found by their names anywhere below a folder that is called like the split

leftImg8bit_sequence/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png (or .jpg)     RGB
gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_labelTrainIds.png (or _labelIds.png)  class ids

One frame of each snippet is labelled; propagation to it starts on the frames just before. Any other folders will do,
as long as the split is one of them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from gsvnet.classes import CITYSCAPES, IGNORE
from gsvnet.errors import ConfigError
from gsvnet.evaluation.dataset import Clip, Frame, LabelIds, ScoredClips

FRAMES_PER_SECOND = 17
_NAME = re.compile(
    r"(?P<drive>[^_]+_\d{6})_(?P<frame>\d{6})_(?P<kind>leftImg8bit\.(?:png|jpg)|gtFine_(?:labelTrainIds|labelIds)\.png)"
)
_CLASS_OF_ID = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # labelIds of the 19 classes

TRAIN_IDS = LabelIds(classes={**{i: i for i in range(19)}, IGNORE: IGNORE}, allowed=f"0..18 and {IGNORE} (void)")
LABEL_IDS = LabelIds(
    classes={i: _CLASS_OF_ID.index(i) if i in _CLASS_OF_ID else IGNORE for i in (*range(34), IGNORE)},
    allowed=f"0..33 and {IGNORE} (void)",
)


@dataclass
class _Drive:
    """Files of one sequence, by frame number."""

    images: dict[int, Path] = field(default_factory=dict)
    labels: dict[int, Path] = field(default_factory=dict)


def open_cityscapes(root: str | Path, split: str, *, keyframe_interval: int) -> ScoredClips:
    """The labelled frames of a split, each scored at every distance below the keyframe interval.

    Raises ConfigError naming the file where an image, or one of the frames before a labelled one, is missing.
    """
    drives = _find_drives(Path(root), split)
    clips = [clip for name in sorted(drives) for clip in _cut_clips(name, drives[name], keyframe_interval)]
    if not clips:
        raise ConfigError(f"no *_gtFine_labelTrainIds.png or *_gtFine_labelIds.png below {root} in a folder {split}")
    return ScoredClips(
        dataset="cityscapes",
        split=split,
        classes=CITYSCAPES,
        clips=tuple(clips),
        keyframe_interval=keyframe_interval,
        step_ms=1000 / FRAMES_PER_SECOND,
    )


def _find_drives(root: Path, split: str) -> dict[str, _Drive]:
    """Files of every sequence, by <city>_<sequence>.

    Of two files for one thing the first by name of its folder's path counts, snippets before single images, and train
    ids before label ids.
    """
    if not root.is_dir():
        raise ConfigError(f"no folder {root}")
    found: list[tuple[bool, bool, Path, re.Match[str]]] = []
    for folder, _, names in os.walk(root, followlinks=True):
        path = Path(folder)
        if split in path.relative_to(root).parts:
            single = "leftImg8bit_sequence" not in path.parts
            found += [(single, "labelIds" in m["kind"], path / m[0], m) for n in names if (m := _NAME.fullmatch(n))]
    drives: dict[str, _Drive] = {}
    for _, _, path, match in sorted(found, key=lambda entry: entry[:3]):
        drive = drives.setdefault(match["drive"], _Drive())
        files = drive.labels if match["kind"].startswith("gtFine") else drive.images
        files.setdefault(int(match["frame"]), path)
    return drives


def _cut_clips(name: str, drive: _Drive, keyframe_interval: int) -> list[Clip]:
    """The gapless runs of images that hold labelled frames."""
    for labelled in sorted(drive.labels):
        for number in range(labelled, labelled - keyframe_interval, -1):
            if number not in drive.images:
                raise ConfigError(
                    f"no {name}_{number:06d}_leftImg8bit.png or .jpg; keyframe interval {keyframe_interval} needs "
                    f"{keyframe_interval} frames up to the labelled {drive.labels[labelled].name}"
                )
    runs: list[list[int]] = []
    for number in sorted(drive.images):
        if not runs or runs[-1][-1] + 1 != number:
            runs.append([])
        runs[-1].append(number)
    return [_make_clip(name, drive, run) for run in runs if not drive.labels.keys().isdisjoint(run)]


def _make_clip(name: str, drive: _Drive, run: list[int]) -> Clip:
    frames = [Frame(image=drive.images[n], labels=drive.labels.get(n), ids=_ids_of(drive.labels.get(n))) for n in run]
    return Clip(
        name=f"{name}_{run[0]:06d}",
        frames=tuple(frames),
        scored=tuple(index for index, number in enumerate(run) if number in drive.labels),
    )


def _ids_of(labels: Path | None) -> LabelIds:
    return LABEL_IDS if labels is not None and labels.name.endswith("_labelIds.png") else TRAIN_IDS
