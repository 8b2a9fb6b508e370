"""Names and places inside an output folder OUT. FORMAT.md draws the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gsvnet.chunks import shard_name
from gsvnet.errors import ConfigError
from gsvnet.store.committed import Committed
from gsvnet.store.filesystem import StorageOptions
from gsvnet.store.listing import StoredFile, list_pages

MANIFEST, VIDEOS, SUCCESS = "_manifest.parquet", "_videos.parquet", "_SUCCESS"
EXPORT_JOURNAL = ".gsvnet-export.jsonl"  # in the folder of every export
COMPACTED = "compacted"  # the folder of all files of a compacted output; no video id is that short

MOST_FILES = 10_000_000  # label files in one folder: their names have seven digits at most

_LABEL_FILE = re.compile(r"\d{6,7}\.parquet")
_NAME = re.compile(r"[^\W_][\w.-]{0,199}")  # letters of any script, digits, "_", "-", "."


def check_name(name: str) -> str:
    """The name itself if it can stand in a path of the output, else ConfigError.

    Allowed are letters, digits, "_", "-" and ".", not "_" or "." first: readers skip such files, and no name leaves
    the output. At most 200 characters.
    """
    if not _NAME.fullmatch(name) or len(name.encode()) > 220:
        raise ConfigError(f"{name!r} is no name for an output: letters, digits, '_', '-', '.' are, none of '_-.' first")
    return name


def job_uri(out: str) -> str:
    """URI of the job record."""
    return _below(out, "_job.json")


def settled_uri(out: str, device: str) -> str:
    """URI of what the first run of a job on this kind of device ("cpu", "cuda") settled for all later ones."""
    return _below(out, "_settled", f"{check_name(device)}.json")


def labels_uri(out: str) -> str:
    """URI of the folder that holds all label files."""
    return _below(out, "labels")


def shard_uri(out: str, video_id: str, shard_name: str) -> str:
    """URI of one shard's Parquet object."""
    return _below(out, "labels", check_name(video_id), f"{check_name(shard_name)}.parquet")


def plan_uri(out: str, video_id: str) -> str:
    """URI of a video's stored plan."""
    return _below(out, "_plan", f"{check_name(video_id)}.json")


def failure_uri(out: str, video_id: str, shard_name: str | None = None) -> str:
    """URI of the record that a shard, or a whole video, was given up."""
    stem = "video" if shard_name is None else check_name(shard_name)
    return _below(out, "_failed", check_name(video_id), f"{stem}.json")


def probe_uri(out: str, token: str) -> str:
    """URI of the small object by which the actors of a running job prove that they see this output."""
    return _below(out, "_probe", check_name(token))


def derived_uri(out: str, name: str) -> str:
    """URI of a derived file: MANIFEST, VIDEOS, SUCCESS or a report."""
    return _below(out, name)


def list_committed(out: str, storage_options: StorageOptions = None) -> Committed:
    """The shards that have labels: a set of (video id, shard name), by one listing.

    Raises StoreUnavailable, StoreRefused or StoreError.
    """
    committed = Committed()
    for page in list_label_pages(out, storage_options):
        for file in page:
            committed.add(*split_shard_path(file.path))
    return committed


def list_label_files(out: str, storage_options: StorageOptions = None) -> list[str]:
    """Paths in the file system of every label file, sorted by video id and shard. Raises as `list_committed` does."""
    pages = list_label_pages(out, storage_options)
    return sorted((file.path for page in pages for file in page), key=_order_of)


def list_label_pages(out: str, storage_options: StorageOptions = None) -> Iterator[list[StoredFile]]:
    """Paths in the file system, sizes and times of every label file, page by page. Raises as `list_committed` does.

    Files of other names below labels/, such as "000000 (copy).parquet", are none; `gsvnet verify` names them.
    """
    for page in list_pages(labels_uri(out), storage_options):
        yield [file for file in page if _LABEL_FILE.fullmatch(file.path.rpartition("/")[2])]


def split_shard_path(path: str) -> tuple[str, str]:
    """(video id, shard name) from the path of a label file."""
    _, video_id, file = path.rsplit("/", 2)
    return video_id, file.removesuffix(".parquet")


def _order_of(path: str) -> tuple[str, int, str]:
    """By this, label files come in the order of videos and frames: shard 1000000 after 999999."""
    video_id, name = split_shard_path(path)
    return video_id, len(name), name


def parse_label_path(path: str) -> tuple[str, int] | None:
    """(folder, index) of a label file's path below the output, "labels/<folder>/<index>.parquet"; None for another."""
    found = re.fullmatch(r"labels/([^/]+)/(\d{6,7})\.parquet", path)
    if found is None or shard_name(int(found[2])) != found[2]:
        return None
    return found[1], int(found[2])


def _below(out: str, *parts: str) -> str:
    return "/".join((out.rstrip("/"), *parts))
