"""The row groups of an output, to be shared out among readers, and which of their frames are wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gsvnet.store.layout import list_label_pages, split_shard_path
from gsvnet.store.manifest import read_manifest
from gsvnet.store.read import Labels

CHOICE_COLUMNS = ("video", "frame_index", "status")
_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """The row groups of label files, numbered through file after file.

    paths: in the file system. stops (F,) int64: how many row groups the files up to and with each one have.
    """

    paths: Sequence[str]
    stops: np.ndarray

    def __len__(self) -> int:
        return int(self.stops[-1]) if len(self.stops) else 0

    def place(self, number: int) -> tuple[str, int]:
        """Path of the file that row group `number` is in, and its number in that file."""
        file = int(np.searchsorted(self.stops, number, side="right"))
        return self.paths[file], int(number - (self.stops[file - 1] if file else 0))


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """Frames whose status is ok, of `videos` (ids; none: of all), whose index is a multiple of `every`.

    indices: of each video (by id) only these, ascending; None: any.
    """

    videos: Collection[str] = ()
    every: int = 1
    indices: Mapping[str, np.ndarray] | None = None

    def rows(self, table: pa.Table) -> np.ndarray:
        """Numbers (n,) int64, ascending, of the chosen rows of a table with CHOICE_COLUMNS."""
        frames = table["frame_index"].to_numpy()
        chosen = pc.equal(table["status"], "ok").to_numpy() & (frames % self.every == 0)
        video = table["video"].combine_chunks().dictionary_encode()
        codes = video.indices.to_numpy()
        for code, name in enumerate(video.dictionary.to_pylist()):
            chosen &= (codes != code) | self._has(name, frames)
        return np.flatnonzero(chosen)

    def _has(self, video: str, frames: np.ndarray) -> np.ndarray | bool:
        if self.indices is None:
            return not self.videos or video in self.videos
        wanted = self.indices.get(video, np.empty(0, np.int64))
        near = wanted[np.searchsorted(wanted, frames.min()) : np.searchsorted(wanted, frames.max(), side="right")]
        return np.isin(frames, near)


def list_row_groups(labels: Labels, videos: Collection[str] = ()) -> RowGroups:
    """The row groups of an output, in the order of its files; videos: only of files with frames of these ids.

    `_manifest.parquet` says how many a file has; the footers of files that it does not know are opened, by threads.
    """
    paths = _files_with(labels, videos) if videos else labels.paths
    counts = _counts_in_manifest(labels, paths)
    unknown = np.flatnonzero(counts < 0)
    counts[unknown] = [len(file.starts) - 1 for file in labels.files.open_all([paths[i] for i in unknown])]
    return RowGroups(paths=paths, stops=counts.cumsum())


def count_frames(labels: Labels, groups: RowGroups, choice: FrameChoice) -> np.ndarray:
    """Chosen frames (N,) int64 of each row group; reads CHOICE_COLUMNS of all of them, by threads."""
    starts = [0, *groups.stops[:-1]]

    def count(file: int) -> list[int]:
        tables = (
            labels.files.read_group(*groups.place(number), CHOICE_COLUMNS)
            for number in range(starts[file], groups.stops[file])
        )
        return [len(choice.rows(table)) for table in tables]

    with ThreadPoolExecutor(_THREADS) as pool:
        counts = [number for found in pool.map(count, range(len(groups.stops))) for number in found]
    return np.array(counts, np.int64)


def _files_with(labels: Labels, videos: Collection[str]) -> list[str]:
    if labels.job.compacted is None:
        return [path for path in labels.paths if split_shard_path(path)[0] in videos]
    return [file.path for file in labels.files.open_all(labels.paths) if not file.by_video.keys().isdisjoint(videos)]


def _counts_in_manifest(labels: Labels, paths: Sequence[str]) -> np.ndarray:
    """Row groups (F,) int64 per file, -1 where the manifest does not say, or says it of a file of another size."""
    manifest = read_manifest(labels.uri, labels.storage_options)
    pages = list_label_pages(labels.uri, labels.storage_options) if len(manifest) else ()
    sizes = {file.path: file.size for page in pages for file in page}
    below = pa.array(["labels/{}/{}.parquet".format(*split_shard_path(path)) for path in paths], pa.string())
    at = pc.index_in(below, value_set=manifest["path"].combine_chunks())
    counts = pc.fill_null(manifest["row_groups"].take(at), -1).to_numpy()
    stated = pc.fill_null(manifest["bytes"].take(at), -1).to_numpy()
    return np.where(stated == [sizes.get(path, 0) for path in paths], counts, -1)
