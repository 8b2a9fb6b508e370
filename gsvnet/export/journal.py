"""The journal of an export: what was asked for, which files were begun, which frames are done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from gsvnet.errors import StoreError

_FRAME = '{"frame": '
_RECORD = ', "record": '


@dataclass(kw_only=True)
class JournalState:
    """What a journal says. settings: None before the first line.

    files: names of all files that were begun. unfinished: those of a frame, or of the last step, that was not noted as
    done. last_frame: by video. line_bytes: length of the whole lines; done_bytes: up to the last that names no file.
    """

    settings: dict[str, Any] | None = None
    files: set[str] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)
    last_frame: dict[str, int] = field(default_factory=dict)
    num_frames: int = 0
    line_bytes: int = 0
    done_bytes: int = 0
    is_complete: bool = False
    is_removing: bool = False

    def add_frame(self, place: Mapping[str, Any]) -> None:
        """Count frames of a video as done."""
        self.last_frame[place["video"]] = place["frame_index"]
        self.num_frames += place["num_frames"]


def encode_line(value: Mapping[str, Any]) -> bytes:
    """One line of a journal."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()


def read_journal(path: Path) -> JournalState:
    """What the journal's whole lines say; a torn last line counts for nothing. Raises StoreError for a damaged one."""
    state = JournalState()
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    state.line_bytes += len(line)
                    _apply(state, line.decode())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is damaged before byte {state.line_bytes} ({error}): remove the folder, and export again"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    return state


def iterate_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of all frames, in order; one in memory at a time."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith(_FRAME):
                yield json.loads(line)["record"]


def _apply(state: JournalState, line: str) -> None:
    if line.startswith(_FRAME):  # a record may be long and is not needed here
        place, stop = json.JSONDecoder().raw_decode(line, len(_FRAME))
        if not line.startswith(_RECORD, stop):
            raise ValueError("no record")
        state.add_frame(place)
    else:
        ((kind, value),) = json.loads(line).items()
        if kind == "file":
            state.files.add(_check_below(value))
            state.unfinished.add(value)
            return
        if kind == "export":
            state.settings = dict(value)
        elif kind == "complete":
            state.is_complete = True
        elif kind == "removing":
            state.is_removing = True
        else:
            raise ValueError(f"a line {kind!r}")
    state.unfinished = set()
    state.done_bytes = state.line_bytes


def _check_below(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or path.as_posix() != name:
        raise ValueError(f"no name of an export's file: {name!r}")
    return name
