"""Errors of operating systems and storage clients, told as ours: what is wrong with which video, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gsvnet.errors import GsvnetError, MissingExtra, NotAVideo, SourceChanged, SourceUnavailable, VideoNotFound
from gsvnet.outages import error_code, has_expired, http_status, is_outage
from gsvnet.uris import EXTRAS, redact_text, redact_uri


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn every error of the operating system or a storage client into one of this package (see `explain`)."""
    try:
        yield
    except Exception as error:
        raise explain(error, uri) from None


def explain(error: Exception, uri: str) -> GsvnetError:
    """VideoNotFound, NotAVideo, SourceChanged, SourceUnavailable or MissingExtra for an error met at `uri`.

    Raise it `from None`: the cause's text may hold a signed URL.
    """
    name = redact_uri(uri)
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception) and not _is_missing(error):
        error = error.__cause__  # over HTTP, fsspec says "not found" to whatever went wrong
    reason = redact_text(f"{type(error).__name__}: {error}")
    if isinstance(error, GsvnetError):
        return error
    if has_expired(error):
        said = f"the credentials have expired, or are for another region ({error_code(error)}); renew them"
        return SourceUnavailable(said, uri=name)
    if http_status(error) == 412:
        return SourceChanged("the file was replaced while it was read; use another output", uri=name)
    if isinstance(error, FileNotFoundError):
        return VideoNotFound("nothing there; check the spelling and, for a bucket, the region", uri=name)
    if isinstance(error, IsADirectoryError):
        return NotAVideo("is a folder; name a file or a glob such as FOLDER/*.mp4", uri=name)
    if isinstance(error, PermissionError):
        said = f" ({redact_text(str(error))})" if error.errno is None and str(error) else ""  # by a server
        return VideoNotFound(f"no permission to read{said}; check its rights or the credentials", uri=name)
    if isinstance(error, ImportError):
        return _missing_package(error, name)
    if is_outage(error):
        return SourceUnavailable(f"storage does not answer ({reason}); check endpoint and network", uri=name)
    return VideoNotFound(f"cannot be read ({reason}); check address, credentials and network", uri=name)


def _is_missing(error: FileNotFoundError) -> bool:
    return http_status(error) in (None, 404) and not is_outage(error)


def _missing_package(error: ImportError, name: str) -> GsvnetError:
    scheme = name.partition("://")[0]
    if scheme in EXTRAS:
        return MissingExtra(error.name or scheme, EXTRAS[scheme])
    return VideoNotFound(f"a package for {scheme}:// is missing ({error})", uri=name)
