"""Which frames of an output a person should check first, spread over its videos.

Every video is cut into stretches of `min_gap_s`. Of each stretch the worst frame by each reason is ranked among those
of the whole output, 1 being the worst, equal ones by the mean of their ranks. The reasons:

- drift: the chunk agrees least with the keyframes around it (drift_agreement); its frame farthest from them is shown.
- confidence, confidence_p05: the least confident frame, and the one with the least confident 5 % of the picture.
- class: what is labeled with a class that covers at least 0.5 % of the frame is less sure than that class usually is,
  by most standard deviations of its class_confidence in the output.
- lost: the frame after a run of lost frames, or before it where none follows; the longest run first.

A stretch's **score** is the sum of 1 / rank over the reasons, so 1 or more for the worst by any reason; ranks need no
common scale. It is shown by the frame of its best rank. The budget goes round the videos: first the frame of the
highest score of each, then the second of each, and so on, so that no video takes what another needs; where a round does
not fit, its highest scores are taken, and what a video has no frames for goes on to the others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gsvnet.errors import ConfigError
from gsvnet.store.query import run_sql, sql_text
from gsvnet.store.read import Labels
from gsvnet.store.timeline import only_videos
from gsvnet.uris import redact_uri
from gsvnet.viewing.candidates import CLASS_SHARE, Candidate, Reason, Usual, find_candidates, read_usual

_ROUNDING_S = 1e-6  # 1.9 - 0.9 is less than 1
_READ = (
    "video", "frame_index", "uri", "height", "width", "keyframe_distance", "keyframe_interval", "pixels", "confidence",
    "confidence_p05", "class_confidence",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReviewFrame:
    """A frame to check. drift_agreement: of the chunk that holds it. unsure_class: of the classes that cover enough of
    it the one that is least sure for its kind; class_confidence: of that. lost_frames: how many were lost beside it,
    where that is the reason. What was not measured is None."""

    video: str
    uri: str
    frame_index: int
    time_s: float
    reason: Reason
    score: float
    drift_agreement: float | None
    confidence: float | None
    confidence_p05: float | None
    unsure_class: str | None
    class_confidence: float | None
    keyframe_distance: int | None
    keyframe_interval: int | None
    lost_frames: int


@dataclass(frozen=True, kw_only=True)
class Review:
    """frames: highest score first. usual: what the output is like. num_videos: that were looked at."""

    frames: tuple[ReviewFrame, ...]
    usual: Usual
    num_videos: int


def choose_for_review(labels: Labels, *, budget: int, min_gap_s: float, videos: Sequence[str] = ()) -> Review:
    """At most `budget` frames, no two of a video closer than `min_gap_s`. videos: only of these, as `find_video` takes
    them. Raises ConfigError where there are no labels, and what `run_sql` raises."""
    wanted = sorted({labels.find_video(video) for video in videos})
    some = only_videos(labels, wanted) if wanted else labels
    num_videos = len(wanted) or len(labels.videos)
    if not num_videos:
        raise ConfigError(f"{redact_uri(labels.uri)} holds no labels yet")
    usual = read_usual(some, wanted)
    # a chosen frame rules out few others, those in the stretches beside it, so that this many last for every round
    limit = 16 * budget + 4 * num_videos
    candidates = find_candidates(some, usual, videos=wanted, min_gap_s=min_gap_s, limit=limit)
    chosen = spread(candidates, budget, min_gap_s)
    return Review(frames=tuple(_describe(some, usual, chosen)), usual=usual, num_videos=num_videos)


def spread(candidates: Sequence[Candidate], budget: int, min_gap_s: float) -> list[Candidate]:
    """At most `budget` candidates, highest score first: one of each video a round, none near another."""
    by_video: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=_worst_first):
        by_video.setdefault(candidate.video, []).append(candidate)
    waiting = {video: _apart(own, min_gap_s) for video, own in by_video.items()}
    chosen: list[Candidate] = []
    while waiting and len(chosen) < budget:
        offers = {video: next(own, None) for video, own in waiting.items()}
        waiting = {video: own for video, own in waiting.items() if offers[video] is not None}
        found = sorted((offer for offer in offers.values() if offer is not None), key=_worst_first)
        chosen += found[: budget - len(chosen)]
    return sorted(chosen, key=_worst_first)


def _worst_first(candidate: Candidate) -> tuple[float, str, int]:
    return -candidate.score, candidate.video, candidate.frame_index


def _apart(candidates: Sequence[Candidate], min_gap_s: float) -> Iterator[Candidate]:
    """Candidates of one video, in order, but for those that are too close to one that came before."""
    times: list[float] = []
    for candidate in candidates:
        at = bisect_left(times, candidate.time_s)
        if all(abs(time - candidate.time_s) >= min_gap_s - _ROUNDING_S for time in times[max(at - 1, 0) : at + 1]):
            insort(times, candidate.time_s)
            yield candidate


def _describe(labels: Labels, usual: Usual, chosen: Sequence[Candidate]) -> Iterator[ReviewFrame]:
    """The same frames with what their rows, and those of their chunks' keyframes, say."""
    rows = {(row["video"], row["frame_index"]): row for row in _read_rows(labels, chosen)}
    for candidate in chosen:
        row = rows[candidate.video, candidate.frame_index]
        name, sure = _least_usual(labels, usual, row)
        yield ReviewFrame(
            video=candidate.video,
            uri=redact_uri(row["uri"]),
            frame_index=candidate.frame_index,
            time_s=candidate.time_s,
            reason=candidate.reason,
            score=candidate.score,
            drift_agreement=row["chunk_agreement"],
            confidence=row["confidence"],
            confidence_p05=row["confidence_p05"],
            unsure_class=name,
            class_confidence=sure,
            keyframe_distance=row["keyframe_distance"],
            keyframe_interval=row["keyframe_interval"],
            lost_frames=candidate.lost_frames,
        )


def _read_rows(labels: Labels, chosen: Sequence[Candidate]) -> list[dict[str, Any]]:
    if not chosen:
        return []
    asked = ", ".join(f"({sql_text(each.video)}, {each.frame_index})" for each in chosen)
    return run_sql(
        only_videos(labels, {each.video for each in chosen}),
        f"""
        with asked(video, frame_index) as (values {asked}),
        seen as (
            select {", ".join(_READ)} from frames join asked using (video, frame_index)
        ),
        before as (
            select video, frame_index as asked_index,
                unnest(range(frame_index - coalesce(keyframe_interval, 1) + 1, frame_index + 1)) as frame_index
            from seen
        ),
        chunks as (
            select video, asked_index, arg_max_null(drift_agreement, frame_index) as chunk_agreement
            from before join frames using (video, frame_index) where is_keyframe group by video, asked_index
        )
        select seen.*, chunk_agreement
        from seen left join chunks on chunks.video = seen.video and asked_index = seen.frame_index
        """,
    ).to_pylist()


def _least_usual(labels: Labels, usual: Usual, row: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """Name and confidence of the class that is least sure for its kind, of those that cover enough of the frame."""
    found = []
    for name, identifier, each in zip(labels.classes.names, labels.classes.identifiers, usual.classes):
        sure = (row["class_confidence"] or {}).get(identifier)
        enough = (row["pixels"] or {}).get(identifier, 0) >= CLASS_SHARE * row["height"] * row["width"]
        if each is not None and sure is not None and enough:
            found.append(((sure - each[0]) / each[1], name, sure))
    return min(found)[1:] if found else (None, None)
