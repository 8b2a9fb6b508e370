"""Where video bytes come from: local paths and fsspec URIs, opened read-only, named without secrets.

Nothing here knows about video. FFmpeg sees a source only as bytes without a name (`MediaFile`), so it never
interprets a URI, a playlist or a pattern, and never opens another file by itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.spec import AbstractFileSystem

from gsvnet.errors import (
    GsvnetError,
    NotAVideo,
    SourceChanged,
    VideoError,
    VideoNotFound,
)
from gsvnet.outages import retry_outages
from gsvnet.uris import (
    StorageOptions,
    local_path,
    protocol_of_uri,
    redact_uri,
    storage_defaults,
)
from gsvnet.video.explain import explain, explained
from gsvnet.video.ranges import RangedReader

_HASHED_BYTES = 1 << 20


def video_id(uri: str) -> str:
    """A video's id: readable file stem and 12 hex digits of sha256 over the normalised URI.

    Only [A-Za-z0-9._-]; never starts with a dot, underscore or dash. Normalised: real absolute path for local files,
    else the URI without credentials and query.
    """
    path = local_path(uri)
    normalised = f"file://{os.path.realpath(path)}" if path is not None else redact_uri(uri)
    name = normalised.split("::")[0].rstrip("/").rpartition("/")[2]
    stem = re.sub(r"[^A-Za-z0-9.-]+", "_", name.rpartition(".")[0] or name)[:80].lstrip("._-")
    return f"{stem or 'video'}-{hashlib.sha256(os.fsencode(normalised)).hexdigest()[:12]}"


def stat_source(uri: str, storage_options: StorageOptions | None = None) -> tuple[int, str]:
    """Size in bytes and identity: size plus the first that exists of version id, etag, mtime in ns, content hash.

    Raises VideoNotFound (nothing there, no permission), NotAVideo (directory, empty), or SourceUnavailable.
    """
    path = local_path(uri)
    with explained(uri):
        if path is not None:
            return _stat_local(uri, path)
        return retry_outages()(_stat_remote, uri, *_open_filesystem(uri, storage_options))


@contextmanager
def open_source(
    uri: str, storage_options: StorageOptions | None = None, *, identity: str | None = None
) -> Iterator[MediaFile]:
    """The bytes behind a local path or fsspec URI.

    identity: what the file has to be, as `stat_source` says, from opening to closing; else SourceChanged.
    Raises as `stat_source`, and for errors met while reading.
    """
    with (_open_local if local_path(uri) is not None else _open_remote)(uri, storage_options) as media:
        _check_identity(uri, media.found, identity)
        try:
            yield media
        except VideoError as error:
            if media.error is not None:  # what FFmpeg makes of it is a guess
                raise media.error from None
            if not isinstance(error, SourceChanged):
                _check_identity(uri, media.look(), identity)
            raise
        if media.error is not None:  # FFmpeg may take an error for the end of the file
            raise media.error
        # S3 answers 412 to a range of a changed object (If-Match); elsewhere it shows when looking again.
        if identity is not None and protocol_of_uri(uri) not in ("s3", "s3a"):
            _check_identity(uri, media.look(), identity)


class MediaFile:
    """A seekable file of `size` bytes for FFmpeg, whose name says nothing: FFmpeg would take "%03d" for a pattern.

    error: what reading met, if anything; it is raised as well. found: identity at opening. look(): identity now.
    """

    name = "video"

    def __init__(
        self,
        read_at: Callable[[int, int], bytes],
        size: int,
        *,
        uri: str = "",
        found: str = "",
        look: Callable[[], str] = str,
    ) -> None:
        self.size, self.found, self.look = size, found, look
        self.error: GsvnetError | None = None
        self._fetch, self._uri, self._position = read_at, uri, 0

    def read_at(self, start: int, num_bytes: int) -> bytes:
        """At most num_bytes from `start`; empty at the end. Leaves the position as it is."""
        if self.error is not None:  # FFmpeg reads on after an error, and each read would wait for the store anew
            raise self.error
        try:
            return self._fetch(start, max(0, min(num_bytes, self.size - start)))
        except Exception as error:
            self.error = explain(error, self._uri)
            raise self.error from None

    def read(self, num_bytes: int) -> bytes:
        """At most num_bytes from the current position; empty at the end."""
        data = self.read_at(self._position, num_bytes)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position in bytes."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """The current position in bytes."""
        return self._position

    def end_opening(self) -> None:
        """Hear that the container is open: what is read from now on is no header."""


class InOrder:
    """A file without seeking, so that FFmpeg reads it from start to end and looks for no index."""

    name = "video"

    def __init__(self, source: MediaFile) -> None:
        self.read = source.read
        self.end_opening = source.end_opening
        source.seek(0)


@contextmanager
def _open_local(uri: str, storage_options: StorageOptions | None) -> Iterator[MediaFile]:
    path = local_path(uri)
    assert path is not None, "asked before"
    with explained(uri):
        _stat_local(uri, path)  # before opening: opening a named pipe would wait for a writer
        raw = path.open("rb", buffering=0)
    with raw:

        def read_at(start: int, num_bytes: int) -> bytes:
            return os.pread(raw.fileno(), num_bytes, start)

        def look() -> str:  # of the opened file, whatever has its name by now
            return _local_identity(os.fstat(raw.fileno()))

        yield MediaFile(read_at, os.fstat(raw.fileno()).st_size, uri=uri, found=look(), look=look)


@contextmanager
def _open_remote(uri: str, storage_options: StorageOptions | None) -> Iterator[MediaFile]:
    with explained(uri):
        filesystem, path = _open_filesystem(uri, storage_options)
        raw = retry_outages()(_open_uncached, filesystem, path)
    with raw:
        with explained(uri):
            size = _check_readable_file(uri, size=raw.seek(0, os.SEEK_END), is_file=True)
            details = getattr(raw, "details", None)  # what S3 told at opening; others are asked once more
            tag = _identity_tag(details) if isinstance(details, dict) else None
            found = f"{size}:{tag}" if tag else retry_outages()(_stat_remote, uri, filesystem, path)[1]

        def fetch(start: int, stop: int) -> bytes:
            raw.seek(start)
            return raw.read(stop - start)

        reader = RangedReader(fetch, size, (uri, found))
        look = partial(_look_again, uri, storage_options)
        media = MediaFile(reader.read, size, uri=uri, found=found, look=look)
        media.end_opening = reader.end_opening  # type: ignore[method-assign]
        yield media


def _look_again(uri: str, storage_options: StorageOptions | None) -> str:
    return stat_source(uri, storage_options)[1]


def _open_filesystem(uri: str, storage_options: StorageOptions | None) -> tuple[AbstractFileSystem, str]:
    filesystem, path = fsspec.core.url_to_fs(uri, **storage_defaults(uri, storage_options))
    if hasattr(filesystem, "retries"):
        filesystem.retries = 1  # s3fs nests two loops of five tries; ours lies above them and knows when to stop
    return filesystem, path


def _open_uncached(filesystem: AbstractFileSystem, path: str) -> BinaryIO:
    filesystem.invalidate_cache(path)  # a cached listing may be old, and often lacks the version id
    return filesystem.open(path, "rb", cache_type="none")


def _stat_local(uri: str, path: Path) -> tuple[int, str]:
    status = path.stat()
    _check_readable_file(uri, size=status.st_size, is_file=stat.S_ISREG(status.st_mode))
    return status.st_size, _local_identity(status)


def _local_identity(status: os.stat_result) -> str:
    return f"{status.st_size}:mtime:{status.st_mtime_ns}"


def _stat_remote(uri: str, filesystem: AbstractFileSystem, path: str) -> tuple[int, str]:
    filesystem.invalidate_cache(path)
    info = filesystem.info(path)
    size = _check_readable_file(uri, size=info.get("size"), is_file=info.get("type") != "directory")
    tag = _identity_tag(info)
    if tag is None:
        with filesystem.open(path, "rb", block_size=_HASHED_BYTES) as raw:
            tag = f"sha256:{_hash_ends(raw, size)}"
    return size, f"{size}:{tag}"


def _check_identity(uri: str, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise SourceChanged(
            f"the file changed since it was planned (was {expected}, is {found}); use another output",
            uri=redact_uri(uri),
        )


def _check_readable_file(uri: str, *, size: int | None, is_file: bool) -> int:
    name = redact_uri(uri)
    if not is_file:
        raise NotAVideo("is not a regular file; name a file or a glob such as FOLDER/*.mp4", uri=name)
    if size is None:
        raise VideoNotFound("the server does not tell the size; copy the file to a store that does", uri=name)
    if size == 0:
        raise NotAVideo("the file is empty; copy or record it again", uri=name)
    return int(size)


def _identity_tag(info: Mapping[str, Any]) -> str | None:
    """Version id, etag or mtime from an fsspec info record; stores spell them differently."""
    known = {re.sub("[^a-z]", "", key.lower()): value for key, value in info.items() if value not in (None, "", "null")}
    for label, keys in (("version", ("versionid", "generation")), ("etag", ("etag",))):
        for key in keys:
            if key in known:
                return f"{label}:{str(known[key]).strip(chr(34))}"
    for key in ("mtime", "lastmodified", "modified", "updated", "created"):
        if key in known:
            return f"mtime:{_nanoseconds(known[key])}"
    return None


def _nanoseconds(moment: datetime | float | str) -> int | str:
    if isinstance(moment, datetime):
        return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    return moment if isinstance(moment, str) else int(moment * 10**9)


def _hash_ends(raw: BinaryIO, size: int) -> str:
    digest = hashlib.sha256(raw.read(_HASHED_BYTES))
    raw.seek(max(0, size - _HASHED_BYTES))
    digest.update(raw.read(_HASHED_BYTES))
    return digest.hexdigest()
