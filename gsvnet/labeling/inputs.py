"""From what the user typed to a list of video URIs: paths, globs, folders, fsspec URIs, @list files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import fsspec
from fsspec.utils import get_protocol

from gsvnet.errors import ConfigError, GsvnetError
from gsvnet.store.filesystem import open_filesystem
from gsvnet.uris import redact_text, redact_uri

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".flv", ".wmv")
    + (".3gp", ".h264", ".h265", ".hevc", ".mxf", ".ogv", ".y4m")
)


def expand_inputs(inputs: Iterable[str], *, storage_options: dict | None = None) -> list[str]:
    """Video URIs in the order given, without duplicates.

    A folder stands for all files below it whose suffix is a video's, a glob for what it matches, @file for the lines of
    that file (# starts a comment). A plain path is taken as it is: whether it can be read shows when it is planned.
    Raises ConfigError for a list, folder or glob that yields nothing: such a job would silently label less than asked.
    """
    found: dict[str, None] = {}
    for text in inputs:
        for uri in _lines(text[1:], storage_options) if text.startswith("@") else [text]:
            found.update(dict.fromkeys(_expand(uri, storage_options)))
    return list(found)


def _lines(path: str, storage_options: dict | None) -> Iterator[str]:
    try:
        with fsspec.open(path, "rt", **_options(path, storage_options)) as file:
            lines = [line.split(" #")[0].strip() for line in file]
    except Exception as error:  # storage clients raise whatever they like
        raise _unreadable("read the list", path, error) from None
    uris = [line for line in lines if line and not line.startswith("#")]
    if not uris:
        raise ConfigError(f"the list {path} names no video")
    if nested := next((u for u in uris if u.startswith("@")), None):
        raise ConfigError(f"the list {path} names another list, {nested}; name it on the command line instead")
    base = Path(path).parent if get_protocol(path) == "file" else None
    yield from (str(base / u) if base and "://" not in u and not Path(u).is_absolute() else u for u in uris)


def _expand(uri: str, storage_options: dict | None) -> list[str]:
    is_glob = any(c in uri.split("://")[-1].split("?X-")[0] for c in "*[") or ("://" not in uri and "?" in uri)
    local = get_protocol(uri) == "file"
    if local and Path(uri.removeprefix("file://")).exists():
        is_glob = False  # a file whose name holds such a character
    elif local and not is_glob:
        return [uri]
    if uri.split("://")[0] in ("http", "https") or not (is_glob or local or uri.endswith("/")):
        return [uri]
    try:
        filesystem, path = open_filesystem(uri, _options(uri, storage_options))
        if is_glob:
            paths = sorted(p for p in filesystem.glob(path) if _is_video(p))
        elif filesystem.isdir(path):
            paths = sorted(p for p in filesystem.find(path) if _is_video(p))
        else:
            return [uri]
    except GsvnetError:
        raise
    except Exception as error:
        raise _unreadable("list", uri, error) from None
    if not paths:
        raise ConfigError(f"{uri}: no video there; files with these suffixes count: {' '.join(sorted(VIDEO_SUFFIXES))}")
    return paths if local else [filesystem.unstrip_protocol(p) for p in paths]


def _unreadable(what: str, uri: str, error: Exception) -> ConfigError:
    reason = redact_text(str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")
    return ConfigError(f"cannot {what} {redact_uri(uri)}: {reason}; check address, rights and credentials")


def _is_video(path: str) -> bool:
    name = Path(path).name
    return not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES


def _options(uri: str, storage_options: dict | None) -> dict:
    return {} if get_protocol(uri) == "file" else dict(storage_options or {})
