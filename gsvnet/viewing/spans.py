"""Stretches of a video's time in which something is wrong: lost frames, shards that failed, frames without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gsvnet.store.read import Labels
from gsvnet.store.timeline import Timeline
from gsvnet.viewing.facts import MissingShard, VideoFacts

Kind = Literal["lost", "gap", "failed"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """The times [start_s, end_s) of a video, and what is wrong there in words."""

    kind: Kind
    start_s: float
    end_s: float
    text: str


def find_spans(labels: Labels, facts: VideoFacts, timeline: Timeline) -> list[Span]:
    """All of a video's spans: lost frames from its rows; gaps from its plan, or else from the shards that are there."""
    lost = [
        Span(kind="lost", start_s=run.start_s, end_s=run.end_s, text=_count(run.num_frames, "lost", run.first_frame))
        for run in timeline.lost_runs
    ]
    if facts.missing:
        return lost + [_missing_span(shard, timeline) for shard in facts.missing]
    return lost + (_find_gaps(labels, timeline) if facts.gap_frames else [])


def merge_spans(spans: Sequence[Span], closest_s: float) -> list[Span]:
    """The spans in the order of time, those of a kind that lie closer than `closest_s` as one; for drawing."""
    merged: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_s):
        own = merged.setdefault(span.kind, [])
        if own and span.start_s - own[-1].end_s < closest_s:
            own[-1] = replace(own[-1], end_s=max(own[-1].end_s, span.end_s))
        else:
            own.append(span)
    return [span for own in merged.values() for span in own]


def _missing_span(shard: MissingShard, timeline: Timeline) -> Span:
    end_s = shard.end_s if shard.end_s is not None else max(shard.start_s, float(timeline.end_s[-1]))
    if shard.failure is None:
        text = f"shard {shard.name}: {shard.num_frames} frames without labels yet"
    else:
        text = f"shard {shard.name} failed: {shard.failure.error}: {shard.failure.message}"
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
    stop_frame = timeline.first_frame[-1] + timeline.num_frames[-1]
    frames = np.append(timeline.first_frame, stop_frame)
    return float(np.interp(frame, frames, np.append(timeline.start_s, timeline.end_s[-1])))


def _count(number: int, what: str, first: int) -> str:
    return f"{number} frame{'s' if number != 1 else ''} {what}, from frame {first}"
