"""Which frames an export writes: by SQL, by number, or those that a file lists, such as that of `gsvnet review`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gsvnet.errors import ConfigError
from gsvnet.export.beside import Beside
from gsvnet.export.config import ExportConfig
from gsvnet.store.filesystem import StorageOptions, read_bytes
from gsvnet.store.query import select_frames
from gsvnet.store.read import Labels
from gsvnet.uris import protocol_of_uri, redact_uri

_COLUMNS = ("video", "frame_index")
_NONE = np.empty(0, np.int64)


def choose_frames(labels: Labels, config: ExportConfig) -> dict[str, np.ndarray]:
    """Indices (N,) int64, ascending, of the chosen frames of each video (by id, sorted) that has some.

    Raises ConfigError for a condition that is none, or a file that lists what is not there.
    """
    if config.frames_from is None:
        return select_frames(labels, where=config.where, every=config.every, videos=config.video, limit=config.limit)
    listed = read_frames(labels, config.frames_from, config.storage_options)
    wanted = {labels.find_video(video) for video in config.video} or set(listed)
    chosen = {video: indices for video, indices in listed.items() if video in wanted}
    if chosen and (config.where is not None or config.every > 1):
        among = select_frames(labels, where=config.where, every=config.every, videos=list(chosen))
        chosen = {video: np.intersect1d(chosen[video], indices) for video, indices in among.items()}
    return _cut(chosen, config.limit)


def choose_pairs(beside: Beside, config: ExportConfig) -> dict[str, np.ndarray]:
    """As `choose_frames`, of the videos that both outputs have, by OUT's ids.

    Of OUT2 come the frames that OUT has no row of, unless a file lists the frames, which are OUT's then.
    """
    first, second = beside.outputs
    both = replace(config, video=tuple(beside.videos), limit=None)
    chosen = choose_frames(first, both)
    if config.frames_from is None:
        among = tuple(beside.videos.values())
        others = select_frames(second, where=config.where, every=config.every, videos=among)
        for video, other in beside.videos.items():
            more = np.setdiff1d(others.get(other, _NONE), first.indices(video), assume_unique=True)
            chosen[video] = np.union1d(chosen.get(video, _NONE), more)
    return _cut(dict(sorted(chosen.items())), config.limit)


def _cut(chosen: Mapping[str, np.ndarray], limit: int | None) -> dict[str, np.ndarray]:
    """The first so many frames, without videos that have none."""
    room = sum(map(len, chosen.values())) if limit is None else limit
    found = {}
    for video, indices in chosen.items():
        if len(some := indices[:room]):
            found[video] = some
            room -= len(some)
    return found


def read_frames(labels: Labels, uri: str, storage_options: StorageOptions = None) -> dict[str, np.ndarray]:
    """Indices (N,) int64, ascending, of each video (by id, sorted) that a CSV or JSON file lists.

    The file has columns, or objects with, `video` (as `find_video` takes it) and `frame_index`, in any order; others do
    not matter. storage_options: used where the file is in the same kind of store as the labels.

    Raises ConfigError where it cannot be read so, or where a frame has no row.
    """
    name = redact_uri(uri)
    data = read_bytes(uri, storage_options if protocol_of_uri(uri) == protocol_of_uri(labels.uri) else None)
    if data is None:
        raise ConfigError(f"--frames-from {name}: no such file")
    found: dict[str, set[int]] = {}
    for number, record in enumerate(_parse(data, name), 1):
        try:
            video, index = _to_text(record["video"]), _to_index(record["frame_index"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"--frames-from {name}: frame {number} has no {' or no whole '.join(_COLUMNS)}; got {record!r:.200}"
            ) from error
        found.setdefault(video, set()).add(index)
    by_id: dict[str, set[int]] = {}
    for video, indices in found.items():
        by_id.setdefault(labels.find_video(video), set()).update(indices)
    chosen = {video: np.array(sorted(by_id[video]), np.int64) for video in sorted(by_id)}
    for video, listed in chosen.items():
        missing = np.setdiff1d(listed, labels.indices(video))
        if len(missing):
            raise ConfigError(f"--frames-from {name}: {video} has no labels of frame {missing[0]}")
    return chosen


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _to_index(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or abs(index := int(value)) >= 2**63:
        raise ValueError
    return index


def _parse(data: bytes, name: str) -> Iterable[Mapping[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
        if text.lstrip()[:1] not in ("[", "{"):
            return list(csv.DictReader(io.StringIO(text, newline="")))
        records = json.loads(text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise ConfigError(f"--frames-from {name} is neither CSV nor JSON: {error}") from error
    if not isinstance(records, list):
        raise ConfigError(f"--frames-from {name}: a list of objects is needed, as `gsvnet review --write` makes it")
    return records
