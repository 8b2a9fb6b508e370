"""Frames that a person might check, by the SQL of DuckDB: the worst of each stretch of video, and how bad they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gsvnet.store.drift import find_farthest
from gsvnet.store.query import run_sql, sql_text
from gsvnet.store.read import Labels

Reason = Literal["drift", "confidence", "confidence_p05", "class", "lost"]
REASONS: tuple[Reason, ...] = get_args(Reason)
CLASS_SHARE = 0.005  # of a frame's pixels: smaller areas say little about their class
_LEAST_SPREAD = 0.02  # of a class's confidence: one that hardly varies would be unusual for nothing
_FRAMES = 2**40  # a sorting key is a rounded value times this, plus a frame index: one integer, which is fast
_STEP = 1e-6  # to which values are rounded in it


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What is usual in an output. frames: rows; lost: of these, without labels. measured: chunks whose drift is known.
    classes: (mean, spread) of class_confidence per class, over frames of which it covers CLASS_SHARE; None: nowhere."""

    frames: int
    lost: int
    measured: int
    classes: tuple[tuple[float, float] | None, ...]

    @property
    def has_class_confidence(self) -> bool:
        """Whether some row says how sure the labels of a class are."""
        return any(each is not None for each in self.classes)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A frame that stands for its stretch of video. score: see `gsvnet.viewing.review`; reason: the one that it is the
    worst by. lost_frames: how many were lost beside it, 0 for other reasons."""

    video: str
    frame_index: int
    time_s: float
    score: float
    reason: Reason
    lost_frames: int


def read_usual(labels: Labels, videos: Sequence[str]) -> Usual:
    """What is usual in some videos of an output, by ids; in all without any."""
    among = _among(videos)
    names = labels.classes.identifiers
    moments = [
        f'avg(class_confidence."{name}"::double) filter ({covers(name)}), '
        f'stddev_pop(class_confidence."{name}"::double) filter ({covers(name)})'
        for name in names
    ]
    table = run_sql(
        labels,
        f"select count(*), count(*) filter (status = 'decode_error'), count(drift_agreement), {', '.join(moments)} "
        f"from frames where {among}",
    )
    frames, lost, measured, *found = (column.to_pylist()[0] for column in table.columns)
    pairs = zip(found[::2], found[1::2])
    classes = tuple(
        None if mean is None else (round(mean, 4), max(round(std, 4), _LEAST_SPREAD)) for mean, std in pairs
    )
    return Usual(frames=frames, lost=lost, measured=measured, classes=classes)


def covers(identifier: str) -> str:
    """SQL: whether a class covers so much of a frame that its confidence counts."""
    return f'pixels."{identifier}" >= {CLASS_SHARE} * height * width'


def find_candidates(
    labels: Labels, usual: Usual, *, videos: Sequence[str], min_gap_s: float, limit: int
) -> list[Candidate]:
    """At most `limit` candidates of some videos, by ids, or of all: of each video the one of the highest score, then of
    each the second, and so on.

    DuckDB cuts each video into stretches of `min_gap_s`, keeps the worst frame of each by each reason, ranks these over
    the output, and adds up 1 / rank; what comes back has one frame per stretch.
    """
    table = run_sql(labels, _candidates_sql(labels, usual, videos, min_gap_s, limit))
    rows = table.to_pylist()
    chunks: dict[str, list[int]] = {}
    for row in rows:
        if row["reason"] == "drift":
            chunks.setdefault(row["video"], []).append(row["frame_index"])
    farthest = find_farthest(labels, chunks)
    found = []
    for row in rows:
        if row["reason"] == "drift":  # of the chunk that drifted, not of the keyframe that begins it
            place = farthest.get((row["video"], row["frame_index"]), (row["frame_index"], row["time_s"]))
            row["frame_index"], row["time_s"] = place
        found.append(Candidate(**row))
    return found


def _candidates_sql(labels: Labels, usual: Usual, videos: Sequence[str], min_gap_s: float, limit: int) -> str:
    among = _among(videos)
    keys = {"confidence": _key("confidence"), "confidence_p05": _key("confidence_p05")}
    if usual.measured:
        keys["drift"] = f"{_key('drift_agreement')} filter (drift_agreement < 1)"
    if usual.has_class_confidence:
        keys["class"] = f"{_key('unusual')} filter (unusual < 1)"
    of_reasons = " union all ".join(
        f"select video, stretch, {_number(reason)}, {reason}_key // {_FRAMES}, {reason}_key % {_FRAMES}, 0 "
        f"from stretches where {reason}_key is not null"
        for reason in keys
    )
    of_lost = f"union all {_lost_sql(among, min_gap_s)}" if usual.lost else ""
    return f"""
        with stretches as (
            select video, {_stretch(min_gap_s)} as stretch,
                {", ".join(f"{key} as {reason}_key" for reason, key in keys.items())}
            from (select *, {_unusual(labels, usual)} as unusual from frames where status = 'ok' and {among})
            group by video, stretch
        ),
        found(video, stretch, reason, value, frame_index, lost_frames) as ({of_reasons} {of_lost}),
        ranked as (
            select *, rank() over (partition by reason order by value)
                + (count(*) over (partition by reason, value) - 1) / 2.0 as rank  -- the mean rank of equal ones
            from found
        ),
        scored as (
            select video, round(sum(1.0 / rank), 9) as score, min((2 * rank)::bigint * 8 + reason) as worst,
                arg_min(frame_index, (2 * rank)::bigint * 8 + reason) as frame_index,
                arg_min(lost_frames, (2 * rank)::bigint * 8 + reason) as lost_frames
            from ranked group by video, stretch
        ),
        chosen as (
            select *, row_number() over (partition by video order by score desc, frame_index) as turn from scored
            order by turn, score desc, video limit {limit}
        )
        select video, frame_index, time_s, score,
            {[*REASONS]!r}[(worst % 8 + 1)::int] as reason, lost_frames
        from chosen join frames using (video, frame_index) order by turn, score desc, video
    """


def _number(reason: str) -> int:
    return [*REASONS].index(reason)  # type: ignore[arg-type]


def _key(value: str) -> str:
    """SQL: the least value of a group, and the first frame that has it, as one integer."""
    rounded = f"round({value}::double / {_STEP})::bigint"
    return f"min(case when isfinite({value}) then {rounded} * {_FRAMES} + frame_index end)"


def _unusual(labels: Labels, usual: Usual) -> str:
    """SQL: 1 + z / 100, where z < 0 tells by how many spreads the least usual class of a frame is less sure than it
    usually is; 0..1 as the other values are, since z >= -1 / _LEAST_SPREAD. Null where no class counts."""
    terms = [
        f'case when {covers(name)} then (class_confidence."{name}" - {each[0]}) / {each[1]} end'
        for name, each in zip(labels.classes.identifiers, usual.classes)
        if each is not None
    ]
    return f"1 + least({', '.join(terms)}) / 100" if terms else "null::double"


def _lost_sql(among: str, min_gap_s: float) -> str:
    """SQL: the frame with labels after each run of lost frames, or before it where none follows; long runs first."""
    return f"""
        select video, {_stretch(min_gap_s)} as stretch, {_number("lost")}, -num_lost, frame_index, num_lost
        from (
            select video, num_lost, frame_index, time_s
            from (
                select video, run, count(*) as num_lost,
                    unnest([max(frame_index) + 1, min(frame_index) - 1]) as frame_index
                from (
                    select video, frame_index,
                        frame_index - row_number() over (partition by video order by frame_index) as run
                    from frames where status = 'decode_error' and {among}
                ) group by video, run
            ) join frames using (video, frame_index)
            where status = 'ok'
            qualify row_number() over (partition by video, run order by frame_index desc) = 1
        )
        qualify row_number() over (partition by video, stretch order by num_lost desc, frame_index) = 1
    """


def _stretch(min_gap_s: float) -> str:
    return f"floor(time_s / {min_gap_s!r})::bigint"


def _among(videos: Sequence[str]) -> str:
    return f"video in ({', '.join(map(sql_text, videos))})" if videos else "true"
