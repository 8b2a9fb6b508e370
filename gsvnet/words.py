"""Numbers as people read them, the same wherever the program speaks."""

from __future__ import annotations

from collections.abc import Mapping


def count(number: int, noun: str) -> str:
    """ "1 shard", "2,000 shards"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def interval_in_words(fields: Mapping[str, object]) -> str:
    """ "12", "1 to 12, for 95 % agreement", or "none" without keyframes, of what a job's record says; "" if nothing."""
    family, share = fields.get("model_settings"), fields.get("min_agreement")
    if isinstance(family, Mapping) and str(family.get("family", "")).startswith("td"):
        return "none"
    if isinstance(share, int | float):
        return f"1 to 12, for {100 * share:g} % agreement"
    return str(fields.get("keyframe_interval", ""))


def size_in_words(num_bytes: int) -> str:
    """ "812 bytes", "3.4 kB", "1.2 GB"."""
    units = ("kB", "MB", "GB", "TB")
    power = min(len(str(num_bytes)) - 1, 3 * len(units)) // 3
    return f"{num_bytes / 1000**power:.1f} {units[power - 1]}" if power else f"{num_bytes} bytes"
