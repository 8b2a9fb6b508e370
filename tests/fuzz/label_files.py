"""Label files: whatever one holds, each public reader gives what it promises or raises one of gsvnet's errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from gsvnet.store.compact_file import write_compacted
from gsvnet.store.described import LabelFiles, describe_files
from gsvnet.store.inspect_file import Expected, inspect_footer, inspect_whole
from gsvnet.store.job import read_job
from gsvnet.store.later_columns import group_by_columns
from gsvnet.store.read import open_labels
from gsvnet.store.row_groups import FrameChoice, count_frames, list_row_groups
from gsvnet.store.scan import list_stored
from gsvnet.store.schema import later_schema
from tests.fuzz import sound
from tests.fuzz.choices import Choices
from tests.fuzz.hostile_parquet import hostile_file
from tests.fuzz.workplace import refused, sound_output


def fuzz_one(data: bytes) -> None:
    """Read one hostile label file in every way."""
    choices = Choices(data)
    compacted = choices.flag()
    folder, path = _output(compacted), sound.COMPACTED_PATH if compacted else sound.LABEL_PATH
    folder.write(path, hostile_file(choices, compacted=compacted))
    _read_rows(folder, choices)
    _read_places(folder, choices)
    _inspect(folder, choices)
    _describe(folder, path)
    if not compacted:
        _copy(folder)


@cache
def _output(compacted: bool) -> sound.Folder:
    if not compacted:
        return sound_output("label-files")
    folder = sound_output("compacted-files")
    (folder.path / sound.LABEL_PATH).unlink()
    folder.write("_job.json", sound.JOB | {"compacted": {"source": "out", "files": 1}})
    return folder


def _read_rows(folder: sound.Folder, choices: Choices) -> None:
    """Everything that one asks of `Labels`."""
    labels = open_labels(folder.out)
    video = sound.VIDEO
    wanted: list[np.ndarray] = []
    with refused():
        wanted.append(labels.indices(video)[:64])
    asked = wanted[0] if wanted else np.arange(sound.NUM_FRAMES)
    seconds = [0.0, 0.1, 1e9, choices.number()]
    calls: list[Callable[[], object]] = [
        lambda: _check_maps(labels.labels_at(video, asked), len(asked)),
        lambda: _check_maps(labels.uncertain_at(video, asked), len(asked)),
        lambda: labels.labels_in_range(video, 0, 5, 2),
        lambda: labels.frames_played_at(video, seconds),
        lambda: labels.labels_played_at(video, seconds[:2]),
        lambda: list(labels.stream(video)),
        lambda: labels.footer(video).to_metadata(1),
        lambda: labels.find_video(sound.FOOTER.uri),
        lambda: labels.find_video("nothing"),
        lambda: labels.class_table,
        *(lambda index=index: labels.row(video, index) for index in asked[:3]),
    ]
    for call in calls:
        with refused():
            call()


def _check_maps(maps: np.ndarray, count: int) -> None:
    assert (len(maps), maps.dtype, maps.ndim) == (count, np.uint8, 3)


def _read_places(folder: sound.Folder, choices: Choices) -> None:
    """Row groups as a data loader shares them out."""
    labels = open_labels(folder.out)
    with refused():
        groups = list_row_groups(labels)
        count_frames(labels, groups, FrameChoice(every=1 + choices.below(4)))
    with refused():
        list_row_groups(labels, [sound.VIDEO])
    group_by_columns(labels.paths, later_schema(labels.classes).names)


def _inspect(folder: sound.Folder, choices: Choices) -> None:
    """What `gsvnet verify` does. All that is wrong with a file is a fault, no error."""
    expected = Expected.of(read_job(folder.out))
    (file,) = next(list_stored(folder.out))
    inspect_footer(file, expected)
    found = inspect_whole(file, expected, sample=1 + choices.below(4))
    if not found.faults and _is_sound_enough(folder):
        labels = open_labels(folder.out)
        labels.labels_at(sound.VIDEO, labels.indices(sound.VIDEO))


def _is_sound_enough(folder: sound.Folder) -> bool:
    """Only masks that were not sampled may be damaged in a file without faults."""
    expected = Expected.of(read_job(folder.out))
    (file,) = next(list_stored(folder.out))
    return not inspect_whole(file, expected, sample=64).faults


def _describe(folder: sound.Folder, path: str) -> None:
    """The rows that a manifest would have."""
    size = (folder.path / path).stat().st_size
    with refused():
        describe_files(LabelFiles(out=folder.out, job=read_job(folder.out).fingerprint, paths=(path,), sizes=(size,)))


def _copy(folder: sound.Folder) -> None:
    """What `gsvnet compact` does, and its copy is sound."""
    expected, target = Expected.of(read_job(folder.out)), folder.path.parent / "copy.parquet"
    files = next(list_stored(folder.out))
    with refused():
        write_compacted(files, str(target), expected=expected, spool_dir=folder.path.parent)
        target.unlink()
