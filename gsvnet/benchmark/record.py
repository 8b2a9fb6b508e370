"""What one comparison of the benchmark came to: the row that is printed and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison.

    name: as in `suite.ROWS`. ratio: the figure that a mark is set for; None if skipped. unit: of the ratio, in words
    ("times as fast"). seconds: medians of what ran in turns, by name. detail: other figures, JSON-ready. skipped: why
    there is no ratio.
    """

    name: str
    ratio: float | None
    unit: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    skipped: str | None = None

    def __post_init__(self) -> None:
        assert (self.ratio is None) == (self.skipped is not None), "a row has a ratio or says why not"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `skipped` only where there is something to say."""
        data = asdict(self)
        if self.skipped is None:
            del data["skipped"]
        return data


def skip(name: str, unit: str, reason: str) -> Row:
    """The row of a comparison that cannot run here."""
    return Row(name=name, ratio=None, unit=unit, skipped=reason)
