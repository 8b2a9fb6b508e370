"""Names of videos and stores: local paths and fsspec URIs, shown without secrets, opened with sensible time limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

StorageOptions = Mapping[str, Any]  # fsspec's own: endpoint_url, key, secret, anon, ...

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 20
_TRIES_PER_REQUEST = 2  # by the client itself, at once; callers wait longer and try again
_USER_INFO = re.compile(r"(?<=://)(?!arn:aws)(?:[^/?#]*|[^/@:]+:(?!\d+/)[^@]*)@")  # digits and "/": a port
_USER_INFO_OF_BUCKET = re.compile(r"(?<=://)(?!arn:aws)(?:[^/@:]+:[^@]*|[^/@]*)@")
_BUCKETS = ("s3", "s3a", "gs", "gcs")  # no port, and secret keys that may begin as one would
_HALF_PAIRS = re.compile("[\ud800-\udfff]")  # how Python shows bytes in a file name that are no UTF-8
_CONTAINER = re.compile(r"(?:abfss?|az)://[^/@:]+@", re.IGNORECASE)  # abfss://container@account...


def redact_uri(uri: str) -> str:
    """The URI without user, password, query and (over HTTP) fragment: fit for messages, logs and reports.

    Local paths come back unchanged, but that a byte which is no UTF-8 becomes U+FFFD, here as in any URI.

    >>> redact_uri("https://user:secret@host/drive.mp4?signature=abc")
    'https://host/drive.mp4'
    """
    shown = _HALF_PAIRS.sub("\ufffd", uri)
    if local_path(uri) is not None:
        return shown
    return "::".join(_redact_link(link) for link in shown.split("::"))


def redact_text(text: str) -> str:
    """One line of a foreign error message with every URL in it redacted, at most 200 characters.

    Where a URL ends is a guess, so whatever looks like a query is taken out wherever it stands.
    """
    line = " ".join(_HALF_PAIRS.sub("\ufffd", text).split())
    redacted = re.sub(r"(?<!\w)\w+://[^\s'\"]+", lambda match: redact_uri(match[0]), line)
    return re.sub(r"\?[\w.~-]+=[^\s'\"]*", "", redacted)[:200]


def hide_secrets(text: str, uri: str) -> str:
    """The text without the URI's user, password and query, which a driver may take for part of the bucket or key."""
    if local_path(uri) is not None:
        return text
    for link in uri.split("::"):
        _, user = _split_user(link)
        for secret in (link.partition("?")[2], user, user.partition(":")[2]):
            text = text.replace(secret, "***") if secret else text
    return text


def absolute_uri(uri: str) -> str:
    """The URI as it may be stored: without credentials and query; local paths absolute, so they work from anywhere."""
    path = local_path(uri)
    return redact_uri(uri if path is None else str(path.absolute()))


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
    scheme = link.partition("://")[0]
    bare = re.sub(r"(?s)[?#].*" if scheme.lower() in ("http", "https") else r"(?s)\?.*", "", _split_user(link)[0])
    return scheme.lower() + bare[len(scheme) :] if bare.startswith(f"{scheme}://") else bare


def _split_user(link: str) -> tuple[str, str]:
    """The link without its "user:password@", and that, "" where there is none or it is the name of a container."""
    scheme, separator, rest = link.partition("://")
    if _CONTAINER.match(link) or not separator:
        return link, ""
    pattern = _USER_INFO_OF_BUCKET if scheme.lower() in _BUCKETS else _USER_INFO
    named = link
    while found := pattern.search(named):  # a user's name may hold an "@" too
        named = named[: found.start()] + named[found.end() :]
    return named, rest[: len(link) - len(named)].removesuffix("@")
