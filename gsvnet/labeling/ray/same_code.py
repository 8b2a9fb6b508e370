"""Whether an actor runs the driver's code: another node may have another gsvnet, and a worker's Python finds a folder
`gsvnet` in the working folder before the installed package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gsvnet
from gsvnet.errors import WorkerError


@dataclass(frozen=True, kw_only=True)
class Code:
    """The package that a process runs. folder: where it was imported from; hash: sha256 of its sources."""

    folder: str
    hash: str


UNKNOWN_CODE = Code(folder="of an earlier build", hash="")  # of an actor whose reports do not tell it yet


@cache
def own_code() -> Code:
    """The code of this process, as it was when first asked."""
    folder = Path(gsvnet.__file__).parent
    return Code(folder=str(folder), hash=hash_sources(folder))


def hash_sources(folder: Path) -> str:
    """sha256 (64 hex digits) over names and contents of all Python files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def check_same_code(there: Code, *, node_ip: str) -> None:
    """Raise WorkerError where an actor's code is not this process's: their labels might differ unseen."""
    here = own_code()
    if there.hash != here.hash:
        raise WorkerError(
            f"the actor on node {node_ip} runs another gsvnet ({there.folder}) than this process ({here.folder}); "
            "install the same on every node, and start where no other folder gsvnet lies"
        )
