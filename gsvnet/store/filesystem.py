"""Any fsspec URI as a file system and a path, with errors that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from gsvnet.errors import ConfigError, MissingExtra, StoreError
from gsvnet.uris import EXTRAS, redact_uri, storage_defaults

StorageOptions = Mapping[str, Any] | None  # fsspec's own: endpoint_url, key, secret, anon, ...


def open_filesystem(uri: str, storage_options: StorageOptions = None) -> tuple[AbstractFileSystem, str]:
    """File system of a URI and the path in it. A plain path is a local one.

    Raises MissingExtra where the driver is not installed, ConfigError for an unknown protocol or refused options.
    """
    try:
        fs, path = fsspec.core.url_to_fs(uri, **storage_defaults(uri, storage_options))
    except ImportError as error:
        protocol = uri.partition("://")[0]
        raise MissingExtra(f"the driver of {protocol}://", EXTRAS.get(protocol, "s3")) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"cannot open {redact_uri(uri)}: {error}") from error
    return fs, path


def protocol_of(fs: AbstractFileSystem) -> str:
    """First protocol name of a file system, e.g. "file", "s3", "memory"."""
    return fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]


def read_bytes(uri: str, storage_options: StorageOptions = None) -> bytes | None:
    """Content of a small object, or None when there is none. Raises StoreError when it cannot be read."""
    fs, path = open_filesystem(uri, storage_options)
    try:
        return fs.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # every driver has errors of its own
        raise StoreError(f"cannot read {redact_uri(uri)}: {describe(error)}") from error


def list_files(uri: str, storage_options: StorageOptions = None) -> list[str]:
    """Paths of all files below a folder, by one listing, sorted. No folder: no files.

    Raises StoreError when the listing fails.
    """
    fs, path = open_filesystem(uri, storage_options)
    try:
        fs.invalidate_cache()
        return sorted(fs.find(path))
    except FileNotFoundError:
        return []
    except Exception as error:
        raise StoreError(f"cannot list {redact_uri(uri)}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """One line for a driver's error: its class and message."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]
