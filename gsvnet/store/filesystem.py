"""Any fsspec URI as a file system and a path, with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.store import s3
from gsvnet.store.faults import attempt, describe, is_missing
from gsvnet.uris import EXTRAS, protocol_of_uri, redact_uri, storage_defaults

StorageOptions = Mapping[str, Any] | None  # fsspec's own: endpoint_url, key, secret, anon, ...

# s3fs reads on by up to 50 MiB, so that a query over pixel counts fetched every mask.
_NO_READ_AHEAD = {"default_cache_type": "none"}


def open_filesystem(uri: str, storage_options: StorageOptions = None) -> tuple[AbstractFileSystem, str]:
    """File system of a URI and the path in it. A plain path is a local one.

    Raises MissingExtra where the driver is not installed, ConfigError for an unknown protocol or refused options.
    """
    options = storage_defaults(uri, storage_options)
    if protocol_of_uri(uri) in ("s3", "s3a"):
        options = _NO_READ_AHEAD | options
    try:
        fs, path = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        protocol = uri.partition("://")[0]
        raise MissingExtra(f"the driver of {protocol}://", EXTRAS.get(protocol, "s3")) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"cannot open {redact_uri(uri)}: {describe(error)}") from error
    return fs, path


def protocol_of(fs: AbstractFileSystem) -> str:
    """First protocol name of a file system, e.g. "file", "s3", "memory"."""
    return fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]


def read_bytes(uri: str, storage_options: StorageOptions = None) -> bytes | None:
    """Content of a small object, or None when there is none.

    Raises StoreUnavailable, StoreRefused, or StoreError when it cannot be read.
    """
    fs, path = open_filesystem(uri, storage_options)
    return read_path(fs, path, uri)


def read_path(fs: AbstractFileSystem, path: str, uri: str) -> bytes | None:
    """`read_bytes` of a path in a file system; uri: what messages call it."""

    def read() -> bytes | None:
        try:
            return s3.get(fs, path) if protocol_of(fs) == "s3" else fs.cat_file(path)
        except Exception as error:
            if is_missing(error):
                return None
            raise

    return attempt("read", uri, read)


def has_object(uri: str, storage_options: StorageOptions = None) -> bool:
    """Whether there is an object, by one request. Raises as `read_bytes` does."""
    fs, path = open_filesystem(uri, storage_options)

    def look() -> bool:
        try:
            return s3.exists(fs, path) if protocol_of(fs) == "s3" else bool(fs.exists(path))
        except Exception as error:
            if is_missing(error):
                return False
            raise

    return attempt("read", uri, look)


def remove_path(fs: AbstractFileSystem, path: str, uri: str) -> None:
    """Remove an object; it may be gone already. Raises as `read_bytes` does."""

    def remove() -> None:
        try:
            s3.remove(fs, path) if protocol_of(fs) == "s3" else fs.rm_file(path)
        except Exception as error:
            if not is_missing(error):
                raise

    attempt("remove", uri, remove)
