"""Labels of an output: an Arrow dataset for queries, and masks by video and frame."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from gsvnet.classes import IGNORE, ClassSet
from gsvnet.errors import ConfigError, CorruptLabels, StoreError
from gsvnet.store.codec import CODEC, decode_mask
from gsvnet.store.faults import attempt
from gsvnet.store.filesystem import StorageOptions, open_filesystem
from gsvnet.store.job import JobRecord, read_job
from gsvnet.store.layout import list_label_files, split_shard_path
from gsvnet.store.schema import FrameRow, ShardFooter, label_schema, parse_footer, table_to_rows
from gsvnet.uris import redact_uri

T = TypeVar("T")

_MASK_COLUMNS = ("status", "height", "width", "codec", "mask")


@dataclass(frozen=True)
class _File:
    """An opened label file. starts: frame index at which each row group starts, then the end."""

    path: str
    footer: ShardFooter
    starts: tuple[int, ...]


def open_labels(uri: str, storage_options: StorageOptions = None) -> Labels:
    """The labels of an output folder, as they are now; shards that appear later need a new call.

    Raises StoreError when there is no output, or when a newer version wrote it.
    """
    return Labels(uri, read_job(uri, storage_options), storage_options)


class Labels:
    """Read-only view of one output. job: its record. classes: what the ids mean."""

    def __init__(self, uri: str, job: JobRecord, storage_options: StorageOptions = None) -> None:
        self.uri, self.job = uri, job
        self._storage_options = storage_options
        self._fs, _ = open_filesystem(uri, storage_options)
        self._paths = list_label_files(uri, storage_options)
        self._by_video: dict[str, list[str]] = {}
        for path in self._paths:
            self._by_video.setdefault(split_shard_path(path)[0], []).append(path)
        self._read_group = lru_cache(maxsize=8)(self._read_row_group)
        self._open_file = lru_cache(maxsize=4096)(self._read_footer)

    @property
    def classes(self) -> ClassSet:
        """The classes of the labels."""
        return self.job.classes

    @property
    def videos(self) -> list[str]:
        """Ids of the videos that have labels, sorted."""
        return list(self._by_video)

    @cached_property
    def frames(self) -> pads.Dataset:
        """All rows as an Arrow dataset; filters and column choices reach the files."""
        schema = label_schema(self.classes)
        return pads.dataset(self._paths, schema=schema, format="parquet", filesystem=self._fs)

    def labels_at(self, video: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Label maps (N, H, W) uint8 of frames of one video, in the order asked for; duplicates are allowed.

        video: id, or its readable stem, its URI or the URI's file name where only one video has it. Pixels are class
        ids or 255; a lost frame (status "decode_error") is 255 all over. Raises ConfigError for an unknown or
        ambiguous video, StoreError naming the frames that have no row, CorruptLabels.
        """
        wanted = [int(index) for index in indices]
        video = self.find_video(video)
        places = self._locate(video, sorted(set(wanted)))
        order = np.argsort(wanted, kind="stable")  # each row group is read once
        labels = np.empty((len(wanted), *self._mask_size(video)), np.uint8)
        for at in order:
            path, group, row = places[wanted[at]]
            table = self._read_group(path, group, _MASK_COLUMNS)
            labels[at] = _decode_row(table.slice(row, 1), f"{path}, frame {wanted[at]}")
        return labels

    def __reduce__(self) -> tuple:
        return (Labels, (self.uri, self.job, self._storage_options))

    def row(self, video: str, index: int) -> FrameRow:
        """All columns of one frame. Raises as `labels_at` does."""
        path, group, row = self._locate(self.find_video(video), [index])[index]
        return table_to_rows(self._read_group(path, group, None).slice(row, 1))[0]

    def footer(self, video: str) -> ShardFooter:
        """Footer of a video's first label file: its URI, identity, time base, and how the labels were made."""
        return self._open_file(self._by_video[self.find_video(video)][0]).footer

    def find_video(self, video: str) -> str:
        """Id of the one video that has this id, readable stem, URI or file name.

        Raises ConfigError when no video or more than one has.
        """
        if video in self._by_video:
            return video
        found = [v for v in self._by_video if re.sub(r"[-_.]?[0-9a-f]{12}$", "", v) == video]
        if not found:
            uris = {v: self._open_file(paths[0]).footer.uri for v, paths in self._by_video.items()}
            found = [v for v, uri in uris.items() if uri == video]
            found = found or [v for v, uri in uris.items() if uri.rpartition("/")[2] == video]
        if len(found) != 1:
            known = ", ".join((found or self.videos)[:10]) or "none"
            problem = "more than one video is" if found else "no video with labels is"
            raise ConfigError(f"{problem} called {video!r} in {redact_uri(self.uri)}; videos there: {known}")
        return found[0]

    def _mask_size(self, video: str) -> tuple[int, int]:
        table = self._read_group(self._by_video[video][0], 0, ("height", "width"))
        return table["height"][0].as_py(), table["width"][0].as_py()

    def _locate(self, video: str, indices: list[int]) -> dict[int, tuple[str, int, int]]:
        """Path, row group and row in it of each frame. Files of a video are in frame order: bisect over footers."""
        paths = self._by_video[video]
        places, missing = {}, []
        for index in indices:
            at = bisect_right(paths, index, key=lambda path: self._open_file(path).footer.first_frame) - 1
            starts = self._open_file(paths[at]).starts if at >= 0 else (0, 0)
            if starts[0] <= index < starts[-1]:
                group = bisect_right(starts, index) - 1
                places[index] = (paths[at], group, index - starts[group])
            else:
                missing.append(index)
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            raise StoreError(f"{redact_uri(self.uri)}: {video} has no labels of frame {shown}")
        return places

    def _read_footer(self, path: str) -> _File:
        metadata = self._read_file(path, path, pq.read_metadata)
        footer, num_rows = parse_footer(metadata.metadata, path)
        if num_rows != metadata.num_rows:
            raise CorruptLabels(f"{path} has {metadata.num_rows} rows, its footer says {num_rows}")
        counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        return _File(path, footer, tuple(accumulate(counts, initial=footer.first_frame)))

    def _read_row_group(self, path: str, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        def read(file: BinaryIO) -> pa.Table:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            return parquet.read_row_group(group, columns=list(columns) if columns else None)

        return self._read_file(path, f"{path}, row group {group},", read)

    def _read_file(self, path: str, what: str, read: Callable[[BinaryIO], T]) -> T:
        """What `read` makes of a label file, tried again while the store is out. what: begins the message."""

        def open_and_read() -> T:
            try:
                with self._fs.open(path, "rb") as file:
                    return read(file)
            except (OSError, pa.ArrowException) as error:
                if isinstance(error, OSError) and (type(error) is not OSError or error.errno or error.__cause__):
                    raise  # the store's; Arrow's own have neither number nor cause
                raise CorruptLabels(f"{what} cannot be read: {error}") from error

        return attempt("read", path, open_and_read)


def _decode_row(table: pa.Table, where: str) -> np.ndarray:
    record = table.to_pylist()[0]
    height, width = record["height"], record["width"]
    if record["status"] != "ok":
        return np.full((height, width), IGNORE, np.uint8)
    if record["codec"] != CODEC:
        raise StoreError(f"{where}: codec {record['codec']!r} is not known to this gsvnet ({CODEC}): upgrade gsvnet")
    try:
        return decode_mask(record["mask"], height, width)
    except CorruptLabels as error:
        raise CorruptLabels(f"{where}: {error}") from error
