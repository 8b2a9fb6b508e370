"""The folder that an export writes, with a journal of what it made, so that the same export can go on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from gsvnet.errors import ConfigError, NoSpace, StoreError
from gsvnet.export.journal import JournalState, encode_line, iterate_records, read_journal
from gsvnet.store.layout import EXPORT_JOURNAL

_ANEW = "--overwrite removes what it wrote and starts anew"


class Target:
    """A folder that one export writes. Every file is in the journal before it exists, and appears whole.

    Journal lines: the settings, each file's name, for each frame its place and record, at last that it is complete.
    """

    def __init__(self, folder: Path, journal: FileIO, state: JournalState) -> None:
        self.folder, self._journal, self._state = folder, journal, state

    @property
    def is_complete(self) -> bool:
        """Whether the export was finished before."""
        return self._state.is_complete

    @property
    def num_frames(self) -> int:
        """Frames that are written."""
        return self._state.num_frames

    def last_frame(self, video: str) -> int:
        """Index of the last frame of a video that is written, -1 before the first."""
        return self._state.last_frame.get(video, -1)

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """A binary file to write that appears as `name` (relative, with "/") when the block ends without an error.

        Raises NoSpace on a full disk, StoreError where the folder cannot be written.
        """
        path = self.folder / name
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            self._append({"file": name})
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w+b") as file:
                yield file
            temporary.replace(path)
        except OSError as error:
            raise _explain(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def write(self, name: str, data: bytes | str) -> None:
        """A whole file. Raises as `create` does."""
        with self.create(name) as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def record(self, video: str, frame_index: int, num_frames: int, record: Mapping[str, Any]) -> None:
        """Note that a video is written up to a frame, that one included."""
        place = {"video": video, "frame_index": frame_index, "num_frames": num_frames}
        self._append({"frame": place, "record": record})
        self._state.add_frame(place)

    def records(self) -> Iterator[dict[str, Any]]:
        """What was recorded, in order; one record in memory at a time."""
        return iterate_records(self.folder / EXPORT_JOURNAL)

    def complete(self) -> None:
        """Note that all is written."""
        self._append({"complete": True})
        self._state.is_complete = True

    def _append(self, value: Mapping[str, Any]) -> None:
        try:
            _write_line(self._journal, value)
        except OSError as error:
            raise _explain(self.folder / EXPORT_JOURNAL, error) from error


@contextlib.contextmanager
def open_target(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> Iterator[Target]:
    """The target of an export with these settings (JSON values): a new one, or one to go on with.

    overwrite: remove the files of an earlier export first. Raises ConfigError for a folder that cannot be written,
    holds anything else, or belongs to an export that is at work or has other settings.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        journal = _open_locked(folder)
    except OSError as error:
        raise ConfigError(
            f"cannot write the folder {folder}: {error.strerror or error}; choose another --to"
        ) from error
    with journal:
        try:
            state = _prepare(folder, journal, dict(settings), overwrite)
        except OSError as error:
            raise _explain(folder, error) from error
        yield Target(folder, journal, state)


def _prepare(folder: Path, journal: FileIO, settings: dict[str, Any], overwrite: bool) -> JournalState:
    """The state to go on from, with all that is unfinished removed."""
    state = read_journal(folder / EXPORT_JOURNAL)
    present = _list_files(folder, state)
    if state.settings is not None and (overwrite or state.is_removing):
        journal.truncate(state.line_bytes)
        _write_line(journal, {"removing": True})  # a kill from here on leaves nothing that could be gone on with
        _remove(folder, state.files)
        state = JournalState()
    if state.settings is None:
        journal.truncate(0)
        _write_line(journal, {"export": settings})
        return state
    _check_same(folder, state, settings, present)
    _remove(folder, state.unfinished)
    journal.truncate(state.done_bytes)
    return state


def _open_locked(folder: Path) -> FileIO:
    path = folder / EXPORT_JOURNAL
    if path.is_symlink() or (not path.exists() and any(folder.iterdir())):
        shown = ", ".join(sorted(entry.name for entry in folder.iterdir())[:3])
        raise ConfigError(
            f"{folder} holds what no export wrote ({shown}): choose a new folder; --overwrite replaces exports only"
        )
    journal = path.open("ab", buffering=0)  # what cannot be written must not come again when it is closed
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        journal.close()
        raise ConfigError(f"another export is writing into {folder}: wait for it, or choose another --to") from error
    except OSError:  # a file system without locks
        pass
    return journal


def _list_files(folder: Path, state: JournalState) -> set[str]:
    """The export's files that are there. Raises ConfigError where there are others, or links to folders."""
    present, foreign = set(), []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in (*links, *files):
            relative = (Path(root) / name).relative_to(folder).as_posix()
            if relative in state.files and name not in links:
                present.add(relative)
            elif relative != EXPORT_JOURNAL and _of_temporary(relative) not in state.files:
                foreign.append(relative)
    if foreign:
        shown = ", ".join(sorted(foreign)[:3]) + (", ..." if len(foreign) > 3 else "")
        raise ConfigError(
            f"{folder} holds files that no export wrote ({shown}): move them, or choose another --to; "
            "--overwrite replaces an export's own files only"
        )
    return present


def _of_temporary(name: str) -> str:
    """The file whose temporary name this is, "" for none."""
    head, _, tail = name.rpartition("/")
    if not (tail.startswith(".") and tail.endswith(".tmp")):
        return ""
    return f"{head}/{tail[1:-4]}" if head else tail[1:-4]


def _check_same(folder: Path, state: JournalState, settings: dict[str, Any], present: set[str]) -> None:
    theirs = state.settings or {}
    if theirs != settings:
        differing = [name for name in {**theirs, **settings} if theirs.get(name) != settings.get(name)]
        shown = "; ".join(f"{name}: {theirs.get(name)} there, {settings.get(name)} now" for name in differing)
        raise ConfigError(f"{folder} holds an export with other settings ({shown}): choose another --to, or {_ANEW}")
    missing = state.files - state.unfinished - present
    if missing:
        raise ConfigError(f"{folder} lacks {len(missing)} files that its export wrote, such as {min(missing)}: {_ANEW}")


def _write_line(journal: FileIO, value: Mapping[str, Any]) -> None:
    left = memoryview(encode_line(value))
    while left:
        left = left[journal.write(left) :]


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files below the folder, whole or temporary, and folders that are empty then."""
    folders = set()
    for name in names:
        path = folder / name
        for each in (path, path.with_name(f".{path.name}.tmp")):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                each.unlink()
        folders |= set(path.relative_to(folder).parents) - {Path()}
    for each in sorted(folders, key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):
            (folder / each).rmdir()


def _explain(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"cannot write {path}: {error.strerror}; make room, and the same command goes on")
    return StoreError(f"cannot write {path}: {error.strerror or error}; the same command goes on")
