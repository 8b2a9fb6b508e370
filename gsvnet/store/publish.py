"""Make an object visible by one create-only operation: whole or not at all, the first writer wins.

One function per kind of store, all under the contract suite in tests/contracts/test_publish_contract.py:

local    temporary file with a leading dot in the same folder, fsync, link, fsync folder
s3       one PUT with If-None-Match: * from the spool file, never a multipart upload
memory   exists and put under a lock (tests)
azure    one upload with overwrite=False: tried by hand against Azurite with adlfs 2026.8, in no test
gcs      one upload with generation match 0: written from the source of gcsfs 2026.10, never run

Any other store is refused: without such a condition two writers could replace each other's object under a reader.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.spec import AbstractFileSystem

from gsvnet.errors import AlreadyPublished, ConfigError, StoreError
from gsvnet.outages import http_status
from gsvnet.store import s3
from gsvnet.store.faults import attempt
from gsvnet.store.filesystem import StorageOptions, open_filesystem, protocol_of
from gsvnet.store.temporary import create_temporary, sweep_temporary
from gsvnet.uris import redact_uri

Source = Path | bytes

_memory_lock = threading.Lock()


def publish_file(
    local_path: str | Path, uri: str, storage_options: StorageOptions = None, unsafe_commit: bool = False
) -> None:
    """Create the object `uri` from a local file, which stays.

    Raises AlreadyPublished when the object exists, NoSpace, StoreUnavailable, StoreRefused or StoreError, and
    ConfigError for a store without a create-only operation; `unsafe_commit` allows those with a check before the
    write, which two writers at once can both pass.
    """
    _publish(Path(local_path), uri, storage_options, unsafe_commit)


def publish_bytes(data: bytes, uri: str, storage_options: StorageOptions = None, unsafe_commit: bool = False) -> None:
    """Create the small object `uri`. Raises as `publish_file` does."""
    _publish(data, uri, storage_options, unsafe_commit)


def replace_bytes(data: bytes, uri: str, storage_options: StorageOptions = None) -> None:
    """Write a derived object, over an older one where there is one; readers see the old or the new one whole."""
    fs, path = open_filesystem(uri, storage_options)
    attempt("write", uri, _REPLACE.get(protocol_of(fs), _replace_any), fs, path, data)
    fs.invalidate_cache(fs._parent(path))


def sweep_unpublished(uri: str, storage_options: StorageOptions = None) -> list[Path]:
    """Remove what dead writers of this host left below a local folder; the removed paths. Elsewhere nothing is left."""
    fs, path = open_filesystem(uri, storage_options)
    return sweep_temporary(path, recursive=True) if protocol_of(fs) == "file" and Path(path).is_dir() else []


def _publish(source: Source, uri: str, storage_options: StorageOptions, unsafe_commit: bool) -> None:
    fs, path = open_filesystem(uri, storage_options)
    create = _CREATE.get(protocol_of(fs), _create_unsafe if unsafe_commit else None)
    if create is None:
        raise ConfigError(
            f"{redact_uri(uri)}: {protocol_of(fs)}:// has no create-only write that this program knows; use a local "
            "path, s3://, gs:// or az://, or --unsafe-commit where only one job writes"
        )

    def try_once() -> None:
        try:
            create(fs, path, source)
        except Exception as error:
            if isinstance(error, FileExistsError) or http_status(error) == 412:  # stores differ in how they say it
                raise AlreadyPublished(f"{redact_uri(uri)} exists already") from error
            raise

    attempt("write", uri, try_once)
    fs.invalidate_cache(fs._parent(path))


def _create_local(fs: AbstractFileSystem, path: str, source: Source) -> None:
    target = Path(path)
    _make_folders(target.parent)
    _through_temporary(source, target, _link)


def _create_memory(fs: AbstractFileSystem, path: str, source: Source) -> None:
    with _memory_lock:
        if fs.exists(path):
            raise FileExistsError(path)
        fs.pipe_file(path, _content(source))


def _create_unsafe(fs: AbstractFileSystem, path: str, source: Source) -> None:
    """Under a name that readers skip, then moved: half an object of a write that broke off would count as published."""
    if fs.exists(path):
        raise FileExistsError(path)
    folder, _, name = path.rpartition("/")
    fs.pipe_file(f"{folder}/.{name}", _content(source))
    fs.mv(f"{folder}/.{name}", path)


def _create_gcs(fs: AbstractFileSystem, path: str, source: Source) -> None:
    """mode="create" sends ifGenerationMatch=0, a lost race answers 412, which gcsfs raises as FileExistsError.

    A chunk size above the content's makes it one request instead of a resumable upload.
    """
    data = _content(source)
    fs.pipe_file(path, data, mode="create", chunksize=len(data) + 1)


def _create_azure(fs: AbstractFileSystem, path: str, source: Source) -> None:
    """overwrite=False sends If-None-Match: * with the blob, or with the list that commits its blocks."""
    fs.pipe_file(path, _content(source), overwrite=False)


def _create_s3(fs: Any, path: str, source: Source) -> None:
    """One PUT with the source opened anew. A 412 after a lost answer may be our own object: its content is the same."""
    if _size(source) > s3.MAX_PUT_BYTES:
        raise StoreError(f"{_size(source)} bytes are too many for one S3 PUT (5 GiB); choose smaller shards")
    try:
        with _open(source) as body:
            s3.put(fs, path, body, create=True)
    except Exception as error:
        if http_status(error) == 501:
            raise ConfigError(f"s3://{path} knows no If-None-Match on PUT; another store, please") from error
        raise


_CREATE: dict[str, Callable[[Any, str, Source], None]] = {
    "file": _create_local,
    "memory": _create_memory,
    "s3": _create_s3,
    "gs": _create_gcs,
    "abfs": _create_azure,
}


def _replace_local(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    target = Path(path)
    _make_folders(target.parent)
    _through_temporary(data, target, os.replace)


def _replace_s3(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    s3.put(fs, path, io.BytesIO(data), create=False)


def _replace_any(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    fs.pipe_file(path, data)


_REPLACE: dict[str, Callable[[Any, str, bytes], None]] = {"file": _replace_local, "s3": _replace_s3}


def _through_temporary(source: Source, target: Path, put_in_place: Callable[[Path, Path], None]) -> None:
    """Write the content beside its target, force it to disk, put it in place, force the folder to disk."""
    temporary, file = create_temporary(target.parent)
    try:
        with file:  # open, hence locked, until it is in place
            with _open(source) as content:
                shutil.copyfileobj(content, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
            put_in_place(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _link(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except FileExistsError:
        if not temporary.samefile(target):  # a network disk may do the link and lose the answer
            raise
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise ConfigError(f"the file system of {target.parent} has no hard links; choose another folder") from error
        raise


def _make_folders(folder: Path) -> None:
    """Like mkdir -p; each new folder's entry is forced to disk."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(folder)) from error
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(source: Source) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _content(source: Source) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source


def _size(source: Source) -> int:
    return source.stat().st_size if isinstance(source, Path) else len(source)
