"""What verifying and compacting came to, in lines for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from gsvnet.maintenance.compaction import Compaction
from gsvnet.maintenance.findings import Finding, Verification
from gsvnet.words import count, size_in_words

FINDINGS_SHOWN = 20
_COLOURS = {"found": "red", "note": "yellow"}


def show_verification(result: Verification, console: Console) -> None:
    """Print the result, one line per fact and finding; lines are never wrapped, so that scripts can use them."""
    show_lines(describe_verification(result), console)
    for finding in result.findings[:FINDINGS_SHOWN]:
        _print(f"{'':8} {escape(describe_finding(finding))}", console)
    for note in result.notes[:FINDINGS_SHOWN]:
        show_lines({"note": note}, console)


def describe_verification(result: Verification) -> dict[str, str]:
    """The lines of a result by name, without its findings."""
    rows_per_s = f"{result.rows / result.seconds:,.0f} rows/s" if result.seconds > 0 else "at once"
    how = "footers only" if result.quick else f"{result.masks:,} masks decoded"
    lines = {
        "output": result.out,
        "labels": f"{count(result.files, 'file')}, {count(result.rows, 'row')} of {count(result.videos, 'video')}",
        "read": f"{size_in_words(result.num_bytes_read)} in {result.seconds:.1f} s, {rows_per_s}, {how}",
        "state": _describe_state(result),
    }
    if result.written:
        success = " and _SUCCESS" if result.deserves_success else "; no _SUCCESS, as not all is known to be there"
        lines["written"] = f"_manifest.parquet, _videos.parquet{success}"
    if result.counts:
        number = sum(result.counts.values())
        shown = f", the first {FINDINGS_SHOWN}" if number > FINDINGS_SHOWN else ""
        lines["found"] = ", ".join(f"{num:,} {kind}" for kind, num in result.counts.items()) + f"{shown}:"
    return lines


def describe_compaction(result: Compaction) -> dict[str, str]:
    """The lines of a compaction by name."""
    lines = {
        "source": f"{result.out}: {count(result.shards, 'shard')}, {size_in_words(result.source_bytes)}",
        "output": f"{result.to}: {count(result.files, 'file')}, of which {result.written:,} written now",
    }
    if result.rows:
        rate = f"{result.rows / result.seconds:,.0f} rows/s" if result.seconds > 0 else "at once"
        lines["written"] = (
            f"{count(result.rows, 'row')}, {size_in_words(result.num_bytes)} in {result.seconds:.1f} s, {rate}"
        )
    if not result.written:
        lines["state"] = "was compacted already; nothing was to be done"
    if not result.complete:
        lines["note"] = "the source has no _SUCCESS, nor has the copy; gsvnet verify says what is missing"
    return lines


def describe_finding(finding: Finding) -> str:
    """One line: kind, place, frames, message."""
    where = finding.path or finding.video or ""
    frames = f" frames {finding.frames[0]} to {finding.frames[1] - 1}" if finding.frames else ""
    return " ".join(f"{finding.kind}: {where}{frames}: {finding.message}".split())


def show_lines(lines: Mapping[str, str], console: Console) -> None:
    """Print named lines like those of `gsvnet status`."""
    for name, text in lines.items():
        colour = _COLOURS.get(name, "bold")
        _print(f"[{colour}]{name:<8}[/{colour}] {escape(text)}", console)


def _describe_state(result: Verification) -> str:
    if not result.is_sound:
        return "not sound" + (" and not complete" if not result.is_complete else "") + "; nothing was changed"
    if result.is_empty:
        return "no labels and no plans"
    if result.counts.get("missing"):
        return "what is there is sound, frames are missing"
    if result.unplanned:
        return f"what is there is sound; {count(result.unplanned, 'video')} without a plan, so more may be missing"
    if not result.is_complete:
        return "what is there is sound, all that is missing is recorded as given up"
    return "sound, every frame is there once" + (" by the footers" if result.quick else "")


def _print(line: str, console: Console) -> None:
    console.print(line, highlight=False, soft_wrap=True, emoji=False)
