"""Names of videos and stores: local paths and fsspec URIs, shown without secrets, opened with sensible time limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

StorageOptions = Mapping[str, Any]  # fsspec's own: endpoint_url, key, secret, anon, ...

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 20
_TRIES_PER_REQUEST = 2  # by the client itself, at once; callers wait longer and try again
_USER_INFO = re.compile(r"(?<=://)(?!arn:aws)(?:[^/@:]+:(?!\d+/)[^@]*|[^/@]*)@")
_CONTAINER = re.compile(r"(?:abfss?|az)://[^/@:]+@", re.IGNORECASE)  # abfss://container@account...


def redact_uri(uri: str) -> str:
    """The URI without user, password, query and (over HTTP) fragment: fit for messages, logs and reports.

    Local paths come back unchanged.

    >>> redact_uri("https://user:secret@host/drive.mp4?signature=abc")
    'https://host/drive.mp4'
    """
    if local_path(uri) is not None:
        return uri
    return "::".join(_redact_link(link) for link in uri.split("::"))


def redact_text(text: str) -> str:
    """One line of a foreign error message with every URL in it redacted, at most 200 characters."""
    line = " ".join(text.split())
    return re.sub(r"\w+://[^\s'\"]+", lambda match: redact_uri(match[0]), line)[:200]


def hide_secrets(text: str, uri: str) -> str:
    """The text without the URI's user, password and query, which a driver may take for part of the bucket or key."""
    parts = urlsplit(uri)
    user = "" if _CONTAINER.match(uri) else parts.netloc.rpartition("@")[0]
    for secret in (parts.query, user, parts.password or ""):
        text = text.replace(secret, "***") if secret else text
    return text


def absolute_uri(uri: str) -> str:
    """The URI as it may be stored: without credentials and query; local paths absolute, so they work from anywhere."""
    path = local_path(uri)
    return redact_uri(uri) if path is None else str(path.absolute())


def local_path(uri: str) -> Path | None:
    """Path for a plain path or file:// URI, None for everything that fsspec has to open."""
    if "::" in uri and "://" in uri:
        return None
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    return Path(rest) if scheme.lower() in ("file", "local") else None


def protocol_of_uri(uri: str) -> str:
    """Lower-case protocol of the outermost link of a URI; "file" for a plain path."""
    return "file" if local_path(uri) is not None else uri.partition("://")[0].lower()


def storage_defaults(uri: str, options: StorageOptions | None = None) -> dict[str, Any]:
    """The options for opening `uri`, with time limits and retries where the user gave none.

    S3: a server that does not answer costs 5 s per connection and 20 s per silence, and a request is tried twice.
    """
    given = dict(options or {})
    if protocol_of_uri(uri) not in ("s3", "s3a"):
        return given
    limits = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"mode": "standard", "total_max_attempts": _TRIES_PER_REQUEST},
    }
    return given | {"config_kwargs": limits | dict(given.get("config_kwargs") or {})}


def _redact_link(link: str) -> str:
    scheme, separator, _ = link.partition("://")
    named = link if _CONTAINER.match(link) else _USER_INFO.sub("", link)
    bare = re.sub(r"[?#].*" if scheme.lower() in ("http", "https") else r"\?.*", "", named)
    return scheme.lower() + bare[len(scheme) :] if separator else bare
