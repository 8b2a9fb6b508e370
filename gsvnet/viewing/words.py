"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from gsvnet.classes import ClassSet


def clock(seconds: float) -> str:
    """ "0:07.5", "12:03.0", "1:02:03": tenths below an hour."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(abs(tenths), 600)
    sign = "-" if tenths < 0 else ""
    if minutes >= 60:
        return f"{sign}{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}"
    return f"{sign}{minutes}:{rest // 10:02d}.{rest % 10}"


def duration(seconds: float) -> str:
    """ "7.5 s", "12 min 3 s", "10 h 2 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600):,} h {int(seconds % 3600 // 60)} min"


def percent(share: float) -> str:
    """ "38 %", "1.2 %" below ten, "< 0.1 %"; the spaces do not break."""
    if 0 < share < 0.001:
        return "<\u00a00.1\u00a0%"
    return f"{100 * share:.0f}\u00a0%" if share >= 0.0995 else f"{100 * share:.1f}\u00a0%"


def main_classes(shares: Sequence[float], classes: ClassSet, num: int = 3) -> list[tuple[int, float]]:
    """(class id, share of pixels) of the largest classes, largest first; those that do not occur are left out."""
    order = sorted(range(len(classes)), key=lambda i: -shares[i])[:num]
    return [(i, float(shares[i])) for i in order if shares[i] > 0]


def main_classes_in_words(shares: Sequence[float], classes: ClassSet, num: int = 3) -> str:
    """ "road 38 %, sky 20 %, car 3.1 %"."""
    return ", ".join(f"{classes.names[i]} {percent(share)}" for i, share in main_classes(shares, classes, num))


def shorten(text: str, num: int) -> str:
    """The text, or its first characters and "…", at most `num` together."""
    return text if len(text) <= num else text[: num - 1].rstrip() + "…"
