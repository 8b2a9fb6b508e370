"""What verifying an output found: each fault with its remedy, and what it comes to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["damaged", "doubled", "foreign", "newer", "missing", "failed"]
MAX_KEPT = 1_000
_WRONG: tuple[Kind, ...] = ("damaged", "doubled", "foreign", "newer")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault. path: of a file below the output. frames: [start, stop) of `video`. message: with the remedy.

    damaged: not as it was written. doubled: frames that are there twice. foreign: of another job, video or shard, or no
    label file. newer: a newer version of the program wrote it. missing: frames that should be there. failed: missing,
    and recorded as given up.
    """

    kind: Kind
    message: str
    path: str | None = None
    video: str | None = None
    frames: tuple[int, int] | None = None


@dataclass(kw_only=True)
class Findings:
    """Findings as they come: all are counted, the first 1,000 kept. notes: what is odd, but no fault."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[Kind] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        kind: Kind,
        message: str,
        *,
        path: str | None = None,
        video: str | None = None,
        frames: tuple[int, int] | None = None,
    ) -> None:
        """One more."""
        self.counts[kind] += 1
        if len(self.kept) < MAX_KEPT:
            self.kept.append(Finding(kind=kind, message=message, path=path, video=video, frames=frames))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result for one output. files, rows, videos: that were found. masks: decoded and counted.

    quick: only the listing, the manifest and footers were read. findings: the first 1,000; counts: of all, by kind.
    written: the derived files were made anew.
    """

    out: str
    quick: bool
    files: int
    rows: int
    videos: int
    masks: int
    num_bytes_read: int
    seconds: float
    findings: tuple[Finding, ...]
    counts: dict[Kind, int]
    notes: tuple[str, ...]
    written: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether all that is there is as it was written, once, and in its place."""
        return not any(self.counts.get(kind) for kind in _WRONG)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.counts.get("missing") and not self.counts.get("failed")

    @property
    def exit_code(self) -> int:
        """0: all is there exactly once and whole. 3: some is missing, all of it recorded as given up. 1: a fault."""
        if not self.is_sound or self.counts.get("missing"):
            return 1
        return 0 if self.is_complete else 3

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form with the exit code."""
        return asdict(self) | {"counts": dict(self.counts), "exit_code": self.exit_code}
