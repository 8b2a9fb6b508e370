"""Labels on disk or in a bucket. `gsvnet.store.open_labels` reads them; it needs neither torch nor Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsvnet.store.read import open_labels

__all__ = ["open_labels"]


def __getattr__(name: str) -> Any:
    if name != "open_labels":
        raise AttributeError(f"module 'gsvnet.store' has no attribute {name!r}")
    from gsvnet.store.read import open_labels

    return open_labels
