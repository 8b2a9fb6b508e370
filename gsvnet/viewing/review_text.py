"""Frames to review as lines for people, and as CSV or JSON for DuckDB, `gsvnet export --frames-from` and scripts."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gsvnet.viewing.candidates import REASONS
from gsvnet.viewing.review import Review, ReviewFrame
from gsvnet.viewing.words import clock
from gsvnet.words import count

FORMATS = (".csv", ".json")
_SHOWN, _VIDEOS_SHOWN = 15, 5
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")
NO_DRIFT = (
    "no drift was measured in these labels (by an earlier version, with --no-drift, or by a network that does not "
    "propagate labels): what is here was chosen without it"
)


def write_frames(review: Review, suffix: str) -> bytes:
    """A table of the frames as a file's bytes, one column per field of ReviewFrame. suffix: one of FORMATS."""
    records = to_records(review)
    if suffix == ".json":
        return (json.dumps(records, indent=1) + "\n").encode()
    sink = io.StringIO()
    writer = csv.DictWriter(sink, [field.name for field in fields(ReviewFrame)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _as_text(value) for name, value in record.items()} for record in records)
    return sink.getvalue().encode()


def _as_text(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: names may come from anybody."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_BEGINS) else value


def to_records(review: Review) -> list[dict[str, Any]]:
    """The frames, JSON-ready; measured values, which are float32, with the digits that they have."""
    return [
        {
            name: round(value, 7) if isinstance(value, float) and name != "time_s" else value
            for name, value in asdict(frame).items()
        }
        for frame in review.frames
    ]


def to_json(review: Review, out: str, budget: int, min_gap_s: float) -> str:
    """All that is known, for scripts."""
    usual = review.usual
    return json.dumps(
        {
            "out": out,
            "budget": budget,
            "min_gap_seconds": min_gap_s,
            "videos": review.num_videos,
            "frames": usual.frames,
            "frames_lost": usual.lost,
            "chunks_with_drift": usual.measured,
            "reasons": count_reasons(review),
            "chosen": to_records(review),
        },
        indent=1,
    )


def count_reasons(review: Review) -> dict[str, int]:
    """Frames per reason, those that occur, in the order of REASONS."""
    found = Counter(frame.reason for frame in review.frames)
    return {reason: found[reason] for reason in REASONS if found[reason]}


def show_review(review: Review, out: str, min_gap_s: float, console: Console) -> None:
    """Print counts by reason and video, and the frames of the highest scores."""
    for name, text in _describe(review, out, min_gap_s).items():
        console.print(f"[bold]{name:<8}[/bold] {escape(text)}", highlight=False, soft_wrap=True, emoji=False)
    if not review.frames:
        return
    table = Table("video", "time", "frame", "reason", "what", "score", box=None, pad_edge=False)
    for name in ("time", "frame", "score"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for frame in review.frames[:_SHOWN]:
        table.add_row(
            escape(frame.video),
            clock(frame.time_s),
            str(frame.frame_index),
            frame.reason,
            escape(explain(frame)),
            f"{frame.score:.3f}",
        )
    console.print(table)
    if (more := len(review.frames) - _SHOWN) > 0:
        console.print(f"and {more:,} more; --write FILE.csv lists all", highlight=False, soft_wrap=True)


def explain(frame: ReviewFrame) -> str:
    """Why a frame is to be checked, in some words."""
    if frame.reason == "drift" and frame.drift_agreement is not None:
        return f"{1 - frame.drift_agreement:.3f} in its chunk"
    if frame.reason == "class" and frame.class_confidence is not None:
        return f"{frame.unsure_class} {frame.class_confidence:.2f}"
    if frame.reason == "lost":
        return f"{count(frame.lost_frames, 'frame')} beside it"
    value = frame.confidence_p05 if frame.reason == "confidence_p05" else frame.confidence
    least = "least 5 % of the picture " if frame.reason == "confidence_p05" else ""
    return f"{least}{value:.2f}" if value is not None else ""


def _describe(review: Review, out: str, min_gap_s: float) -> dict[str, str]:
    of = f"of {review.usual.frames:,} in {count(review.num_videos, 'video')}"
    lines = {
        "output": out,
        "frames": f"{len(review.frames):,} to check {of}, at least {min_gap_s:g} s apart",
        "reasons": ", ".join(f"{reason} {num:,}" for reason, num in count_reasons(review).items()) or "none",
    }
    by_video = Counter(frame.video for frame in review.frames)
    if len(by_video) > 1:
        shown = ", ".join(f"{video} {num:,}" for video, num in by_video.most_common(_VIDEOS_SHOWN))
        least, most = min(by_video.values()), max(by_video.values())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        more = ", ..." if len(by_video) > _VIDEOS_SHOWN else ""
        lines["videos"] = f"{each} of each of {len(by_video):,}: {shown}{more}"
    if not review.usual.measured:
        lines["note"] = NO_DRIFT
    return lines
