"""Where targets that read from disk put their hostile files, and which errors they may end in."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gsvnet.errors import GsvnetError
from tests.fuzz import sound


@cache
def folder() -> Path:
    """An empty folder of this process, in memory where there is such a disk; gone when the process ends."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="gsvnet-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def sound_output(name: str) -> sound.Folder:
    """A new output with a job record, a plan and a label file."""
    output = sound.Folder(folder() / name)
    output.write("_job.json", sound.JOB)
    output.write(sound.PLAN_PATH, sound.PLAN)
    output.write(sound.LABEL_PATH, sound.make_labels())
    return output


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """A block that may end in one of gsvnet's own errors, and in no other."""
    with contextlib.suppress(GsvnetError):
        yield
