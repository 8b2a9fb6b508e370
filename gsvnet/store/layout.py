"""Names and places inside an output folder OUT. FORMAT.md draws the tree."""

from __future__ import annotations

import re

from gsvnet.errors import ConfigError
from gsvnet.store.filesystem import StorageOptions, list_files

MANIFEST, VIDEOS, SUCCESS = "_manifest.parquet", "_videos.parquet", "_SUCCESS"

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


def list_committed(out: str, storage_options: StorageOptions = None) -> set[tuple[str, str]]:
    """(video id, shard name) of every label file in the output, by one listing."""
    return {split_shard_path(path) for path in list_label_files(out, storage_options)}


def list_label_files(out: str, storage_options: StorageOptions = None) -> list[str]:
    """Paths in the file system of every label file, sorted by video id and shard."""
    files = [path for path in list_files(labels_uri(out), storage_options) if path.endswith(".parquet")]
    return sorted((path for path in files if not path.rpartition("/")[2].startswith(".")), key=split_shard_path)


def split_shard_path(path: str) -> tuple[str, str]:
    """(video id, shard name) from the path of a label file."""
    _, video_id, file = path.rsplit("/", 2)
    return video_id, file.removesuffix(".parquet")


def _below(out: str, *parts: str) -> str:
    return "/".join((out.rstrip("/"), *parts))
