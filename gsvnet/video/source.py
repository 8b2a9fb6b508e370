"""Where video bytes come from: local paths and fsspec URIs, opened read-only, named without secrets.

Nothing here knows about video. FFmpeg sees a source only as bytes without a name (`MediaFile`), so it never
interprets a URI, a playlist or a pattern, and never opens another file by itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, cast

import fsspec

from gsvnet.errors import MissingExtra, NotAVideo, VideoNotFound
from gsvnet.uris import EXTRAS, StorageOptions, local_path, redact_text, redact_uri, storage_defaults

READ_BLOCK_BYTES = 1 << 20
_HASHED_BYTES = 1 << 20


def video_id(uri: str) -> str:
    """A video's id: readable file stem and 12 hex digits of sha256 over the normalised URI.

    Only [A-Za-z0-9._-]; never starts with a dot or underscore. Normalised: real absolute path for local files,
    else the URI without credentials and query.
    """
    path = local_path(uri)
    normalised = f"file://{os.path.realpath(path)}" if path is not None else redact_uri(uri)
    name = normalised.split("::")[0].rstrip("/").rpartition("/")[2]
    stem = re.sub(r"[^A-Za-z0-9.-]+", "_", name.rpartition(".")[0] or name)[:80].lstrip("._")
    return f"{stem or 'video'}-{hashlib.sha256(os.fsencode(normalised)).hexdigest()[:12]}"


def stat_source(uri: str, storage_options: StorageOptions | None = None) -> tuple[int, str]:
    """Size in bytes and identity: size plus the first that exists of version id, etag, mtime in ns, content hash.

    Raises VideoNotFound (nothing there, no permission, store not reachable) or NotAVideo (directory, empty).
    """
    path = local_path(uri)
    with explained(uri):
        if path is not None:
            status = path.stat()
            _check_readable_file(uri, size=status.st_size, is_file=stat.S_ISREG(status.st_mode))
            return status.st_size, f"{status.st_size}:mtime:{status.st_mtime_ns}"
        filesystem, remote_path = fsspec.core.url_to_fs(uri, **storage_defaults(uri, storage_options))
        filesystem.invalidate_cache(remote_path)  # a cached listing may be old, and often lacks the version id
        info = filesystem.info(remote_path)
        size = _check_readable_file(uri, size=info.get("size"), is_file=info.get("type") != "directory")
        tag = _identity_tag(info)
        if tag is None:
            with filesystem.open(remote_path, "rb", block_size=_HASHED_BYTES) as raw:
                tag = f"sha256:{_hash_ends(raw, size)}"
        return size, f"{size}:{tag}"


@contextmanager
def open_source(uri: str, storage_options: StorageOptions | None = None) -> Iterator[MediaFile]:
    """The bytes behind a local path or fsspec URI. Raises as `stat_source`, and for errors met while reading."""
    path = local_path(uri)
    with explained(uri):
        if path is not None:
            status = path.stat()  # checked before opening: opening a named pipe would wait for a writer
            _check_readable_file(uri, size=status.st_size, is_file=stat.S_ISREG(status.st_mode))
            raw = cast(BinaryIO, path.open("rb", buffering=0))
        else:
            filesystem, remote_path = fsspec.core.url_to_fs(uri, **storage_defaults(uri, storage_options))
            # Measured on a 1 h file: other caches and the default block size fetch 2 to 4 times the bytes.
            raw = filesystem.open(remote_path, "rb", cache_type="readahead", block_size=READ_BLOCK_BYTES)
    with raw:
        with explained(uri):
            size = _check_readable_file(uri, size=raw.seek(0, os.SEEK_END), is_file=True)
            raw.seek(0)
        yield MediaFile(raw, size)


class MediaFile:
    """A seekable file of `size` bytes for FFmpeg, whose name says nothing: FFmpeg would take "%03d" for a pattern."""

    name = "video"

    def __init__(self, raw: BinaryIO, size: int) -> None:
        self.size = size
        self._raw = raw

    def read(self, num_bytes: int) -> bytes:
        """At most num_bytes from the current position; empty at the end."""
        return self._raw.read(num_bytes)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position in bytes."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """The current position in bytes."""
        return self._raw.tell()


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn every error of the operating system or a storage client into one VideoNotFound, NotAVideo or MissingExtra.

    The cause is cut off on purpose: its text may hold a signed URL.
    """
    name = redact_uri(uri)
    try:
        yield
    except (VideoNotFound, NotAVideo):
        raise
    except FileNotFoundError:
        raise VideoNotFound("nothing there; check the spelling and, for a bucket, the region", uri=name) from None
    except IsADirectoryError:
        raise NotAVideo("is a folder; name a file or a glob such as FOLDER/*.mp4", uri=name) from None
    except PermissionError:
        raise VideoNotFound("no permission to read; check its rights or the credentials", uri=name) from None
    except ImportError as error:
        scheme = name.partition("://")[0]
        if scheme in EXTRAS:
            raise MissingExtra(error.name or scheme, EXTRAS[scheme]) from None
        raise VideoNotFound(f"a package for {scheme}:// is missing ({error})", uri=name) from None
    except Exception as error:  # storage clients raise whatever they like: botocore, aiohttp, ValueError
        reason = redact_text(f"{type(error).__name__}: {error}")
        raise VideoNotFound(f"cannot be read ({reason}); check address, credentials and network", uri=name) from None


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
