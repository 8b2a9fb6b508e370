"""What lies below a folder of any store, page by page: a page in memory, no request per object."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.spec import AbstractFileSystem

from gsvnet.store import s3
from gsvnet.store.faults import attempt, is_missing
from gsvnet.store.filesystem import StorageOptions, open_filesystem, protocol_of

PAGE_FILES = 1_000


class StoredFile(NamedTuple):
    """path: in the file system. size: bytes. modified: seconds since 1970, 0 where the store does not say."""

    path: str
    size: int
    modified: float = 0.0


def list_pages(uri: str, storage_options: StorageOptions = None) -> Iterator[list[StoredFile]]:
    """All files below a folder, in pages of at most PAGE_FILES; no folder: none.

    S3: one request per page, in the order of the keys. Other buckets: fsspec's own listing, all at once.
    Raises StoreUnavailable, StoreRefused or StoreError.
    """
    fs, path = open_filesystem(uri, storage_options)
    if protocol_of(fs) == "s3":
        yield from _s3_pages(fs, path, uri)
        return
    found = _local_files(path, uri) if protocol_of(fs) == "file" else _found_files(fs, path, uri)
    while page := list(islice(found, PAGE_FILES)):
        yield page


def list_files(uri: str, storage_options: StorageOptions = None) -> list[str]:
    """Paths of all files below a folder, sorted. No folder: no files. Raises as `list_pages` does."""
    return sorted(file.path for page in list_pages(uri, storage_options) for file in page)


def _s3_pages(fs: AbstractFileSystem, folder: str, uri: str) -> Iterator[list[StoredFile]]:
    token: str | None = ""
    while token is not None:
        page, token = attempt("list", uri, s3.list_page, fs, folder, token)
        yield [StoredFile(*each) for each in page]


def _local_files(folder: str, uri: str) -> Iterator[StoredFile]:
    folders, followed = [folder], {os.path.realpath(folder)}
    while folders:
        here = folders.pop()
        if here != folder and Path(here).is_symlink():
            target = os.path.realpath(here)
            if target in followed:  # links may lead in circles
                continue
            followed.add(target)
        inner, files = attempt("list", uri, _scan, here)
        folders += reversed(inner)
        yield from files


def _scan(folder: str) -> tuple[list[str], list[StoredFile]]:
    """Sorted: the folders and the files in a local folder. A file that is gone by now is left out."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    files.append(StoredFile(entry.path, entry.stat().st_size, entry.stat().st_mtime))
    except (FileNotFoundError, NotADirectoryError):
        pass
    return sorted(folders), sorted(files)


def _found_files(fs: AbstractFileSystem, folder: str, uri: str) -> Iterator[StoredFile]:
    def find() -> dict[str, dict]:
        fs.invalidate_cache()
        try:
            return fs.find(folder, detail=True)
        except Exception as error:
            if is_missing(error):
                return {}
            raise

    for path, info in attempt("list", uri, find).items():
        yield StoredFile(path, info["size"], _modified(info))
    fs.invalidate_cache()


def _modified(info: dict[str, Any]) -> float:
    """When a file was written: every driver of fsspec has its own name and type for it."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        match info.get(name):
            case datetime() as moment:
                return moment.timestamp()
            case float() | int() as seconds:
                return float(seconds)
    return 0.0
