"""From what the user typed to a list of video URIs: paths, globs, folders, fsspec URIs, @list files."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fsspec.spec import AbstractFileSystem
from fsspec.utils import get_protocol, glob_translate

from gsvnet.errors import ConfigError, StoreError, StoreRefused, StoreUnavailable
from gsvnet.store.faults import attempt, is_missing
from gsvnet.store.filesystem import open_filesystem, read_bytes
from gsvnet.store.layout import EXPORT_JOURNAL
from gsvnet.store.listing import list_pages
from gsvnet.uris import local_path, redact_uri
from gsvnet.words import count

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".flv", ".wmv")
    + (".3gp", ".h264", ".h265", ".hevc", ".mxf", ".ogv", ".y4m")
)

_MOST_LIST_BYTES = 2**28  # millions of names


def expand_inputs(
    inputs: Iterable[str], *, storage_options: dict | None = None, note: Callable[[str], None] = lambda text: None
) -> list[str]:
    """Video URIs in the order given, without duplicates.

    A folder stands for all files below it whose suffix is a video's, a glob for what it matches, @file for the lines of
    that file (# starts a comment). A plain path is taken as it is: whether it can be read shows when it is planned.
    What `gsvnet export` wrote below a folder, videos with labels painted over them, is left out; `note` hears of it.
    Raises ConfigError for a list, folder or glob that yields nothing (such a job would silently label less than asked)
    or that may not be looked at, and for what is no list or no name, StoreUnavailable when the store does not answer.
    """
    found: dict[str, None] = {}
    for text in inputs:
        if "\0" in text:
            raise ConfigError(f"{text!r} is no name: it holds a NUL")
        for uri in _lines(text[1:], storage_options) if text.startswith("@") else [text]:
            found.update(dict.fromkeys(_expand(uri, storage_options, note)))
    return list(found)


def _lines(path: str, storage_options: dict | None) -> Iterator[str]:
    _check_length(path)
    try:
        content = read_bytes(path, _options(path, storage_options))
    except StoreRefused as error:
        raise ConfigError(str(error)) from None
    except StoreUnavailable:
        raise
    except StoreError as error:
        raise ConfigError(f"cannot read the list {redact_uri(path)}: {error}") from None
    if content is None:
        raise ConfigError(f"cannot read the list {redact_uri(path)}: nothing there; check the spelling")
    text = content.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")  # as Python has names of files
    if "\0" in text:
        raise ConfigError(f"the list {redact_uri(path)} is no text in UTF-8: it holds a NUL; save it as UTF-8")
    uris = [line for line in map(_without_comment, re.split(r"[\r\n]+", text)) if line]
    if not uris:
        raise ConfigError(f"the list {redact_uri(path)} names no video")
    if nested := next((u for u in uris if u.startswith("@")), None):
        raise ConfigError(
            f"the list {redact_uri(path)} names another list, {redact_uri(nested)}; name it on the command line instead"
        )
    local = local_path(path)
    base = None if local is None else local.parent
    yield from (str(base / u) if base and "://" not in u and not Path(u).is_absolute() else u for u in uris)


def _check_length(path: str) -> None:
    """Refuse a local file that nobody means: a video in place of a list would be read as a whole."""
    local = local_path(path)
    try:
        num_bytes = 0 if local is None else local.stat().st_size
    except (OSError, ValueError):
        return  # reading it says more
    if num_bytes > _MOST_LIST_BYTES:
        most = f"{_MOST_LIST_BYTES / 1e6:,.0f}"
        raise ConfigError(f"{redact_uri(path)}: {num_bytes / 1e6:,.0f} MB; lists have at most {most}, videos no @")


def _without_comment(line: str) -> str:
    line = line.split(" #")[0].strip()
    return "" if line.startswith("#") else line


def _expand(uri: str, storage_options: dict | None, note: Callable[[str], None]) -> Iterator[str]:
    is_glob = any(c in uri.split("://")[-1].split("?X-")[0] for c in "*[") or ("://" not in uri and "?" in uri)
    local = local_path(uri)
    try:
        if local is not None and local.exists():
            is_glob = False  # a file whose name holds such a character
        is_folder = local.is_dir() if local is not None else uri.endswith("/")
    except OSError:  # a longer name than a file can have
        is_folder = False
    if uri.split("://")[0] in ("http", "https") or not (is_glob or is_folder):
        yield uri
        return
    anything = False
    left_out: list[str] = []
    try:
        for found in _list(uri, is_glob, _options(uri, storage_options), left_out.append):
            anything = True
            yield found
    except StoreRefused as error:
        raise ConfigError(str(error)) from None
    except (ValueError, re.error) as error:
        raise ConfigError(f"{redact_uri(uri)} is no glob: {error}") from None
    for text in left_out:
        note(text)
    if not anything:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES))
        others = "".join(f"; {text}" for text in left_out)
        raise ConfigError(f"{redact_uri(uri)}: no video there; files with these suffixes count: {suffixes}{others}")


def _list(uri: str, is_glob: bool, options: dict, note: Callable[[str], None]) -> Iterator[str]:
    """URIs of the videos in a folder, or that match a glob, sorted."""
    filesystem, path = open_filesystem(uri, options)
    local = get_protocol(uri) == "file"
    if is_glob and "**" not in path:  # folder by folder; whatever lies deeper is not listed
        paths = _glob(filesystem, path, uri)
        filesystem.invalidate_cache()  # s3fs keeps a kilobyte for each file
        if not paths:
            next(list_pages(_fixed_folder(uri), options), None)  # raises where there is no such bucket
    else:
        pattern = re.compile(glob_translate(path)) if is_glob else None
        files = (file.path for page in list_pages(_fixed_folder(uri) if is_glob else uri, options) for file in page)

        def counts(found: str) -> bool:
            is_wanted = _is_video(found) and (pattern is None or pattern.match(found) is not None)
            return is_wanted or found.endswith(f"/{EXPORT_JOURNAL}")

        paths = _without_exports(list(filter(counts, files)), note)
    for found in sorted(filter(_is_video, paths)):
        yield found if local else filesystem.unstrip_protocol(found)


def _without_exports(listed: Sequence[str], note: Callable[[str], None]) -> list[str]:
    """The videos among these files, but for those in folders where `gsvnet export` keeps its journal."""
    exports = tuple(path.removesuffix(EXPORT_JOURNAL) for path in listed if path.endswith(f"/{EXPORT_JOURNAL}"))
    videos = [path for path in listed if _is_video(path)]
    own = [path for path in videos if path.startswith(exports)]
    if own:
        note(f"{count(len(own), 'video')} in folders that gsvnet export wrote left out, such as {own[0]}")
    return [path for path in videos if not path.startswith(exports)] if own else videos


def _glob(filesystem: AbstractFileSystem, pattern: str, uri: str) -> list[str]:
    """Paths of the files that match. Unlike fsspec's own, leaves out no folder that cannot be listed just now."""
    parts = pattern.split("/")
    num_fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0].count("/")
    found = [{"name": "/".join(parts[:num_fixed]) or "/", "type": "directory"}]
    for depth in range(num_fixed + 1, len(parts) + 1):
        matches = re.compile(glob_translate("/".join(parts[:depth]))).match
        folders = [entry["name"] for entry in found if entry["type"] == "directory"]
        inside = [entry for folder in folders for entry in attempt("list", uri, _list_folder, filesystem, folder)]
        found = [entry for entry in inside if matches(entry["name"].rstrip("/"))]
    return [entry["name"] for entry in found if entry["type"] != "directory"]


def _list_folder(filesystem: AbstractFileSystem, folder: str) -> list[dict]:
    try:
        return filesystem.ls(folder, detail=True)
    except Exception as error:
        if is_missing(error):
            return []
        raise


def _fixed_folder(pattern: str) -> str:
    """The folder before the first part of a glob that matches more than itself."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0] or "."


def _is_video(path: str) -> bool:
    name = Path(path).name
    return not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES


def _options(uri: str, storage_options: dict | None) -> dict:
    return {} if get_protocol(uri) == "file" else dict(storage_options or {})
