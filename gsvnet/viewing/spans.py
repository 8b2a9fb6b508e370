"""Where something is wrong in a video: frames lost, damaged or without labels, shards that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gsvnet.store.read import Labels
from gsvnet.store.timeline import MAX_BINS, LostRun, Timeline
from gsvnet.viewing.facts import MissingShard, VideoFacts
from gsvnet.viewing.words import shorten

_MESSAGE_CHARACTERS = 120  # of a failure: a page has room for many

Kind = Literal["lost", "damaged", "gap", "failed"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """The times [start_s, end_s) of a video, and what is wrong there in words. num: spans that it was merged from."""

    kind: Kind
    start_s: float
    end_s: float
    text: str
    num: int = 1


def find_spans(labels: Labels, facts: VideoFacts, timeline: Timeline) -> list[Span]:
    """All of a video's spans: of rows that say lost or damaged, and of gaps, from its plan or between its shards."""
    runs: tuple[tuple[Kind, tuple[LostRun, ...]], ...] = (
        ("lost", timeline.lost_runs),
        ("damaged", timeline.damaged_runs),
    )
    spans = [
        Span(kind=kind, start_s=run.start_s, end_s=run.end_s, text=_count(run.num_frames, kind, run.first_frame))
        for kind, those in runs
        for run in those
    ]
    if facts.missing:
        return spans + [_missing_span(shard, timeline) for shard in facts.missing]
    return spans + (_find_gaps(labels, timeline) if facts.gap_frames else [])


def merge_spans(spans: Sequence[Span], closest_s: float, *, shortest_s: float = 0.0) -> list[Span]:
    """The spans in the order of time, those of a kind that lie close as one; for drawing.

    They lie close where less than `closest_s` is between them, or less than `shortest_s` between their starts.
    """
    merged: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_s):
        own = merged.setdefault(span.kind, [])
        last = own[-1] if own else None
        if last and (span.start_s - last.end_s < closest_s or span.start_s - last.start_s < shortest_s):
            own[-1] = replace(last, end_s=max(last.end_s, span.end_s), num=last.num + span.num)
        else:
            own.append(span)
    return [span for own in merged.values() for span in own]


def thin_spans(spans: Sequence[Span], duration_s: float, max_spans: int) -> list[Span]:
    """About `max_spans` at most: merged where they touch, as a screen shows them, and else over short times."""
    merged = merge_spans(spans, 0.1 * duration_s / MAX_BINS)
    if len(merged) <= max_spans:
        return merged
    return merge_spans(merged, 0.0, shortest_s=duration_s * len({span.kind for span in merged}) / max_spans)


def _missing_span(shard: MissingShard, timeline: Timeline) -> Span:
    end_s = shard.end_s if shard.end_s is not None else max(shard.start_s, float(timeline.end_s[-1]))
    if shard.failure is None:
        text = f"shard {shard.name}: {shard.num_frames} frames without labels yet"
    else:
        text = (
            f"shard {shard.name} failed: {shard.failure.error}: {shorten(shard.failure.message, _MESSAGE_CHARACTERS)}"
        )
    return Span(kind="failed" if shard.failure else "gap", start_s=shard.start_s, end_s=end_s, text=text)


def _find_gaps(labels: Labels, timeline: Timeline) -> list[Span]:
    """Where the next shard does not go on at the frame at which the last one ended; times by interpolation."""
    sources = labels.sources(timeline.video)
    starts = [source.first_frame for source in sources]
    stops = [0, *(source.stop_frame for source in sources)]
    return [
        Span(
            kind="gap",
            start_s=_time_of(stop, timeline),
            end_s=_time_of(start, timeline),
            text=_count(start - stop, "without labels", stop),
        )
        for stop, start in zip(stops, starts)
        if start > stop
    ]


def _time_of(frame: int, timeline: Timeline) -> float:
    """Seconds at which a frame is shown, linear between the bins that are there; 0 for frames before them."""
    if frame < timeline.first_frame[0]:
        return min(0.0, float(timeline.start_s[0])) if frame == 0 else 0.0
    frames = np.append(timeline.first_frame, timeline.last_frame[-1] + 1)
    return float(np.interp(frame, frames, np.append(timeline.start_s, timeline.end_s[-1])))


def _count(number: int, what: str, first: int) -> str:
    return f"{number} frame{'s' if number != 1 else ''} {what}, from frame {first}"
