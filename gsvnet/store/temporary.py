"""Local temporary files that the next process can tell from living ones.

The name starts with a dot, so that no reader's glob takes it for data, and holds host and process; the writer keeps
the file locked. A file is a leftover when it is from this host, its process is gone, and its lock is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import socket
from pathlib import Path
from typing import BinaryIO

_PREFIX, _SUFFIX = ".gsvnet-", ".tmp"


def create_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new empty file in `folder`, open for reading and writing and locked until it is closed."""
    path = folder / f"{_PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}"
    file = path.open("x+b")
    with contextlib.suppress(OSError):  # a file system without locks: the process id decides alone
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path, file


def sweep_temporary(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """Remove the temporary files of dead processes of this host; the removed paths."""
    folder = Path(folder)
    pattern = f"{_PREFIX}{_host()}-*{_SUFFIX}"
    found = folder.rglob(pattern) if recursive else folder.glob(pattern)
    removed = []
    for path in sorted(found):
        pid = path.name.removesuffix(_SUFFIX).rsplit("-", 2)[-2]
        if pid.isdigit() and not _is_alive(int(pid)) and not _is_locked(path):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _is_locked(path: Path) -> bool:
    """Whether a process of another container, with a process id that means nothing here, still writes the file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
