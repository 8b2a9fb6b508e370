"""Labels of an output: an Arrow dataset for queries, and masks by video and frame."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, CorruptLabels, StoreError
from gsvnet.store.codec import check_size
from gsvnet.store.filesystem import StorageOptions, open_filesystem
from gsvnet.store.indices import check_are_several, to_integers
from gsvnet.store.job import JobRecord, read_job
from gsvnet.store.label_file import (
    MASK_COLUMNS,
    UNCERTAIN_COLUMNS,
    LabelFile,
    LabelFileReader,
    decode_row,
    decode_uncertain,
)
from gsvnet.store.layout import list_label_files, split_shard_path
from gsvnet.store.schema import FrameRow, ShardFooter, label_schema, table_to_rows
from gsvnet.store.sources import Source
from gsvnet.store.unlocked import unlock
from gsvnet.uris import local_path, redact_uri
from gsvnet.words import count

_KEPT_TIMES, _KEPT_SIZES = 256, 4096
_LOCATED_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class LabeledFrame:
    """One frame of `video`: its row, and its labels (H, W) uint8, 255 all over where the frame was lost."""

    video: str
    row: FrameRow
    labels: np.ndarray


@dataclass(frozen=True)
class _Piece:
    """A run of frames of a video: the source at place `number` among those of its video in one label file."""

    path: str
    number: int


@dataclass(frozen=True)
class _Place:
    """Where a frame's row is: row `row` of a row group of a label file."""

    path: str
    group: int
    row: int


def open_labels(uri: str | Path, storage_options: StorageOptions = None) -> Labels:
    """The labels of an output folder, as they are now; shards that appear later need a new call.

    Raises StoreError when there is no output, or when a newer version wrote it.
    """
    uri = os.fspath(uri)
    return Labels(uri, read_job(uri, storage_options), storage_options)


class Labels:
    """Read-only view of one output. job: its record. paths: of its label files in the file system; None: lists them.

    video, everywhere: an id, or its readable stem, its URI or the URI's file name where only one video has it.
    Masks are (H, W) uint8: class ids or 255; a lost frame (status "decode_error") is 255 all over.
    Methods raise ConfigError for an unknown or ambiguous video, StoreError naming frames that have no row, and
    CorruptLabels, naming the file, for one that is damaged.
    """

    def __init__(
        self, uri: str, job: JobRecord, storage_options: StorageOptions = None, paths: list[str] | None = None
    ) -> None:
        self.uri, self.job, self.storage_options = uri, job, storage_options
        fs, _ = open_filesystem(uri, storage_options)
        self.files = LabelFileReader(fs, job.fingerprint)
        self.paths = list_label_files(uri, storage_options) if paths is None else paths
        self._times = lru_cache(maxsize=_KEPT_TIMES)(self._read_times)
        self._mask_size = lru_cache(maxsize=_KEPT_SIZES)(self._read_mask_size)

    def __reduce__(self) -> tuple:
        return (Labels, (self.uri, self.job, self.storage_options, self.paths))

    def __repr__(self) -> str:
        videos, classes = count(len(self.videos), "video"), f"{len(self.classes)} classes"
        return f"<Labels of {videos} and {classes} at {redact_uri(self.uri)}>"

    @property
    def classes(self) -> ClassSet:
        """The classes of the labels: names, identifiers, colours, by id."""
        return self.job.classes

    @property
    def class_table(self) -> pa.Table:
        """One row per class: id, name, identifier (its field in `pixels`), colour ("#804080")."""
        columns = [range(len(self.classes)), self.classes.names, self.classes.identifiers, self.classes.hex_colours]
        return pa.table(dict(zip(("id", "name", "identifier", "colour"), map(list, columns))))

    @property
    def videos(self) -> list[str]:
        """Ids of the videos that have labels, sorted."""
        return list(self._pieces)

    @cached_property
    def frames(self) -> pads.Dataset:
        """All rows as an Arrow dataset; filters and column choices reach the files.

        Columns that came later are null in rows whose file lacks them.
        """
        schema = label_schema(self.classes)
        return unlock(pads.dataset(self.paths, schema=schema, format="parquet", filesystem=self.files.fs))

    def labels_at(self, video: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Label maps (N, H, W) uint8 of frames of one video, in the order asked for; duplicates are allowed."""
        return self._maps_at(video, indices, MASK_COLUMNS, decode_row)

    def uncertain_at(self, video: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Maps (N, H, W) uint8 of frames, asked for as in `labels_at`: 1 where ways to the labels differ, else 0.

        255 all over for a frame without such a map: lost, labeled in one way only, or without `label --uncertain`.
        """
        return self._maps_at(video, indices, UNCERTAIN_COLUMNS, decode_uncertain)

    def labels_played_at(self, video: str, seconds: Sequence[float] | np.ndarray) -> np.ndarray:
        """Label maps (N, H, W) uint8 of the frames that `frames_played_at` finds at times of the video."""
        return self.labels_at(video, self.frames_played_at(video, seconds))

    def labels_in_range(self, video: str, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Label maps (N, H, W) uint8 of the frames start, start + step, ... below stop."""
        if step < 1:
            raise ConfigError(f"step {step}; it must be at least 1")
        return self.labels_at(video, range(start, stop, step))

    def frames_played_at(self, video: str, seconds: Sequence[float] | np.ndarray) -> np.ndarray:
        """Indices (N,) int64 of the frames on screen at times, in seconds on the scale of the column time_s.

        A frame is on screen until the next one; the last one before a gap, or of the video, for as long as the frames
        before it were on average. Raises StoreError for times before the first frame, after the end, or in a gap.
        """
        video = self.find_video(video)
        return np.array([self._frame_played_at(video, second) for second in seconds], np.int64)

    def stream(self, video: str, indices: Sequence[int] | np.ndarray | None = None) -> Iterator[LabeledFrame]:
        """Frames of a video in ascending order, one row group in memory at a time. indices: ascending; None: all."""
        video = self.find_video(video)
        wanted = self.indices(video) if indices is None else indices
        check_are_several(wanted)
        for start in range(0, len(wanted), _LOCATED_AT_ONCE):
            some = to_integers(wanted[start : start + _LOCATED_AT_ONCE])
            located = self._locate(video, some)
            for (path, group), places in groupby((located[index] for index in some), attrgetter("path", "group")):
                table = self.files.read_group(path, group).take([place.row for place in places])
                for row in table_to_rows(table):
                    record = {name: getattr(row, name) for name in MASK_COLUMNS}
                    labels = decode_row(record, f"{path}, frame {row.frame_index}")
                    yield LabeledFrame(video=video, row=row, labels=labels)

    def row(self, video: str, index: int) -> FrameRow:
        """All columns of one frame."""
        (index,) = to_integers([index])
        place = self._locate(self.find_video(video), [index])[index]
        return table_to_rows(self.files.read_group(place.path, place.group).slice(place.row, 1))[0]

    def indices(self, video: str) -> np.ndarray:
        """Indices (N,) int64 of all frames of a video that have a row, ascending."""
        sources = self.sources(video)
        return np.concatenate([np.arange(source.first_frame, source.stop_frame) for source in sources])

    def sources(self, video: str) -> list[Source]:
        """The labeled shards of a video, in frame order; opens each of its files."""
        video = self.find_video(video)
        return self._open_sources([(video, piece) for piece in self._pieces[video]])

    def footer(self, video: str) -> ShardFooter:
        """Footer of a video's first shard: its URI, identity, time base, and how the labels were made."""
        video = self.find_video(video)
        return self._source(video, self._pieces[video][0]).footer

    def find_video(self, video: str) -> str:
        """Id of the one video that has this id, readable stem, URI (of a local one any path to it) or file name.

        Raises ConfigError when no video or more than one has.
        """
        if video in self._pieces:
            return video
        found = [v for v in self._pieces if re.sub(r"[-_.]?[0-9a-f]{12}$", "", v) == video]
        if not found:
            first = self._open_sources([(v, pieces[0]) for v, pieces in self._pieces.items()])
            uris = {source.footer.video: source.footer.uri for source in first}
            found = [v for v, uri in uris.items() if uri == video or _is_same_file(uri, video)]
            found = found or [v for v, uri in uris.items() if uri.rpartition("/")[2] == video]
        if len(found) != 1:
            known = ", ".join((found or self.videos)[:10]) or "none"
            problem = "more than one video is" if found else "no video with labels is"
            raise ConfigError(f"{problem} called {video!r} in {redact_uri(self.uri)}; videos there: {known}")
        return found[0]

    def _maps_at(
        self,
        video: str,
        indices: Sequence[int] | np.ndarray,
        columns: tuple[str, ...],
        decode: Callable[[dict, str], np.ndarray],
    ) -> np.ndarray:
        """What `decode` makes of each frame's columns, (N, H, W) uint8 in the order asked for."""
        wanted = to_integers(indices)
        video = self.find_video(video)
        places = self._locate(video, sorted(set(wanted)))
        order = np.argsort(wanted, kind="stable")  # each row group is read once
        maps = np.empty((len(wanted), *self._mask_size(video)), np.uint8)
        for at in order:
            place = places[wanted[at]]
            table = self.files.read_group(place.path, place.group, columns)
            record = table.slice(place.row, 1).to_pylist()[0]
            found = decode(record, f"{place.path}, frame {wanted[at]}")
            if found.shape != maps.shape[1:]:
                raise CorruptLabels(
                    f"{place.path}, frame {wanted[at]}: a mask of {found.shape[0]} x {found.shape[1]} in a video of "
                    f"{maps.shape[1]} x {maps.shape[2]}"
                )
            maps[at] = found
        return maps

    @cached_property
    def _pieces(self) -> dict[str, list[_Piece]]:
        """The pieces of each video, in frame order. A shard's path tells its video; compacted files are opened."""
        found: dict[str, list[_Piece]] = {}
        if self.job.compacted is None:
            for path in self.paths:
                found.setdefault(split_shard_path(path)[0], []).append(_Piece(path, 0))
            return found
        pieces = [
            (source.footer.video, source.first_frame, _Piece(file.path, number))
            for file in self.files.open_all(self.paths)
            for sources in file.by_video.values()
            for number, source in enumerate(sources)
        ]
        for video, _, piece in sorted(pieces, key=itemgetter(0, 1)):
            found.setdefault(video, []).append(piece)
        return found

    def _open_sources(self, pieces: Sequence[tuple[str, _Piece]]) -> list[Source]:
        """The source of each (video, piece); all files are opened by several threads, each of them once."""
        paths = list(dict.fromkeys(piece.path for _, piece in pieces))
        files = dict(zip(paths, self.files.open_all(paths)))
        return [_source_in(files[piece.path], video, piece) for video, piece in pieces]

    def _source(self, video: str, piece: _Piece) -> Source:
        return _source_in(self.files.open(piece.path), video, piece)

    def _read_mask_size(self, video: str) -> tuple[int, int]:
        place = self._place(video, self._pieces[video][0], 0)
        table = self.files.read_group(place.path, place.group, ("height", "width")).slice(place.row, 1)
        height, width = table["height"][0].as_py(), table["width"][0].as_py()
        check_size(height, width)
        return height, width

    def _locate(self, video: str, indices: list[int]) -> dict[int, _Place]:
        """Where the row of each frame is: pieces are in frame order, so bisect over their footers."""
        pieces = self._pieces[video]
        places, missing = {}, []
        for index in indices:
            at = bisect_right(pieces, index, key=lambda piece: self._source(video, piece).first_frame) - 1
            source = self._source(video, pieces[max(at, 0)])
            if source.first_frame <= index < source.stop_frame:
                places[index] = self._place(video, pieces[at], index - source.first_frame)
            else:
                missing.append(index)
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            raise StoreError(f"{redact_uri(self.uri)}: {video} has no labels of frame {shown}")
        return places

    def _frame_played_at(self, video: str, second: float) -> int:
        pieces = self._pieces[video]
        at = bisect_right(pieces, second, key=lambda piece: self._times(video, piece)[0]) - 1
        if not second >= self._times(video, pieces[0])[0]:
            raise StoreError(f"{video} has no labels at {second} s: its first frame is shown later, or it is no time")
        source, times = self._source(video, pieces[at]), self._times(video, pieces[at])
        follows = at + 1 < len(pieces) and self._source(video, pieces[at + 1]).first_frame == source.stop_frame
        if not follows and second > times[-1] and second >= times[-1] + self._mean_frame_s(video, at):
            raise StoreError(
                f"{video} has no labels at {second} s: frame {source.stop_frame - 1}, at {times[-1]:.3f} s, "
                f"is the last {'before a gap' if at + 1 < len(pieces) else 'with labels'}"
            )
        return source.first_frame + bisect_right(times, second) - 1

    def _mean_frame_s(self, video: str, at: int) -> float:
        """How long frames of a video's piece are on screen on average; those before too where it has one frame."""
        piece = self._pieces[video][at]
        start = piece if len(self._times(video, piece)) > 1 else self._pieces[video][max(at - 1, 0)]
        num_frames = self._source(video, piece).stop_frame - 1 - self._source(video, start).first_frame
        passed_s = float(self._times(video, piece)[-1] - self._times(video, start)[0])
        return passed_s / num_frames if num_frames else 0.0

    def _place(self, video: str, piece: _Piece, offset: int) -> _Place:
        file, row = self.files.open(piece.path), self._source(video, piece).row + offset
        group = bisect_right(file.starts, row) - 1
        return _Place(piece.path, group, row - file.starts[group])

    def _read_times(self, video: str, piece: _Piece) -> np.ndarray:
        """time_s (N,) of a piece's frames."""
        file, source = self.files.open(piece.path), self._source(video, piece)
        first = bisect_right(file.starts, source.row) - 1
        stop = bisect_right(file.starts, source.row + source.num_rows - 1)
        groups = [self.files.read_group(piece.path, group, ("time_s",)) for group in range(first, stop)]
        times = pa.concat_tables(groups)["time_s"].to_numpy()
        return times[source.row - file.starts[first] :][: source.num_rows]


def _is_same_file(uri: str, name: str) -> bool:
    """Whether two names are of one local place; `name` may be relative to here."""
    one, other = local_path(uri), local_path(name)
    return one is not None and other is not None and os.path.realpath(one) == os.path.realpath(other)


def _source_in(file: LabelFile, video: str, piece: _Piece) -> Source:
    sources = file.by_video.get(video)
    if sources is None:
        raise CorruptLabels(f"{piece.path} holds labels of another video, not of {video}; gsvnet verify says more")
    return sources[piece.number]
