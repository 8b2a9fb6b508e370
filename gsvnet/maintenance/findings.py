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

    planned: videos with a plan. unplanned: videos with labels of which nothing tells how many there should be.
    quick: only the listing, the manifest and footers were read. findings: the first 1,000; counts: of all, by kind.
    had_success: `_SUCCESS` was there. written: the derived files were made anew.
    """

    out: str
    quick: bool
    files: int
    rows: int
    videos: int
    planned: int
    unplanned: int
    masks: int
    num_bytes_read: int
    seconds: float
    findings: tuple[Finding, ...]
    counts: dict[Kind, int]
    notes: tuple[str, ...]
    had_success: bool
    written: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether all that is there is as it was written, once, and in its place."""
        return not any(self.counts.get(kind) for kind in _WRONG)

    @property
    def is_complete(self) -> bool:
        """Whether all that is planned is there, and every video that is there is planned."""
        return not self.is_lacking and not self.unplanned and not self.is_empty

    @property
    def is_lacking(self) -> bool:
        """Whether frames are known to be missing."""
        return bool(self.counts.get("missing") or self.counts.get("failed"))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to judge: no labels, no plans, no failures."""
        return not (self.videos or self.planned or self.is_lacking)

    @property
    def deserves_success(self) -> bool:
        """Whether `_SUCCESS` may stand: what is there is complete, or was said to be and nothing contradicts."""
        return self.is_complete or (self.had_success and not self.is_lacking and not self.is_empty)

    @property
    def exit_code(self) -> int:
        """0: all is there exactly once and whole. 3: some is missing, all of it recorded as given up. 1: a fault.

        1 too where plans lack, so that nothing tells whether all is there.
        """
        if not self.is_sound or self.counts.get("missing") or self.unplanned or self.is_empty:
            return 1
        return 0 if self.is_complete else 3

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form with the exit code."""
        return asdict(self) | {"counts": dict(self.counts), "exit_code": self.exit_code}
