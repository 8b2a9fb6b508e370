"""Which frames a frame of TDNet gathers from: one of each other sub-network, in the order in which they pass on."""

from __future__ import annotations

from collections.abc import Container

from gsvnet.choices import References

Window = tuple[int, ...]
"""Indices in the video of N - 1 frames, of the sub-networks turn + 1, turn + 2, ... (mod N)."""


def choose_windows(
    index: int, turn: int, *, num_sub_networks: int, references: References, seen: Container[int]
) -> list[Window]:
    """The windows of frame `index`, looked at by sub-network `turn`: none, one, or two with references "both".

    Frame i belongs to sub-network i mod N. turn: most often that of the frame itself; where it is another's, the frame
    itself is in its window. seen: frames that can be gathered from; a window one of whose frames is not among them is
    left out. The window before it runs from the oldest frame on to the one just before: the paper's.

    >>> choose_windows(9, 1, num_sub_networks=4, references="before", seen=range(20))
    [(6, 7, 8)]
    >>> choose_windows(9, 1, num_sub_networks=4, references="nearest", seen=range(20))
    [(10, 7, 8)]
    >>> choose_windows(9, 1, num_sub_networks=4, references="both", seen=range(12))
    [(6, 7, 8)]
    """
    if references == "none":
        return []
    others = [(turn + j) % num_sub_networks for j in range(1, num_sub_networks)]
    before = [index - (index - other) % num_sub_networks for other in others]
    after = [index + (other - index) % num_sub_networks for other in others]
    if references == "nearest":
        sides = [_nearer(index, a, b, seen) for a, b in zip(before, after)]
        return [tuple(side for side in sides if side is not None)] if None not in sides else []
    wanted = [before] if references == "before" else [before, after]
    return [tuple(window) for window in wanted if all(frame in seen for frame in window)]


def _nearer(index: int, before: int, after: int, seen: Container[int]) -> int | None:
    """The nearer of two frames that were seen, the one before where both are as near; None where neither was."""
    there = [frame for frame in (before, after) if frame in seen]
    return min(there, key=lambda frame: abs(frame - index), default=None)
