"""Videos of an output summed up and over time: the small columns only, binned by DuckDB, never a mask."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gsvnet.errors import CorruptLabels
from gsvnet.store.faults import damaged_labels
from gsvnet.store.layout import split_shard_path
from gsvnet.store.query import run_sql, sql_text
from gsvnet.store.read import Labels
from gsvnet.uris import redact_uri

MAX_BINS = 600
_NEVER_NULL = ("video", "uri", "frame_index", "time_s", "status", "height", "width")


@dataclass(frozen=True, kw_only=True)
class VideoSummary:
    """All frames of a video that have a row.

    frames: rows; lost: of these, without labels; damaged: of damaged pictures. missing: frames before the last row that
    have none. first_frame, last_frame: frame indices. first_s, last_s: their times. frame_s: mean seconds from frame to
    frame. confidence: mean; lowest_confidence: of the least confident frame; None where no frame has one. drift,
    most_drift: of its chunks, 1 - drift_agreement, mean and greatest; None where none was measured. shares: of the
    labeled frames' pixels, per class; what they lack to 1 is "ignore". height, width: of the largest mask.
    """

    video: str
    uri: str
    frames: int
    lost: int
    missing: int
    first_frame: int
    last_frame: int
    first_s: float
    last_s: float
    frame_s: float
    confidence: float | None
    lowest_confidence: float | None
    shares: tuple[float, ...]
    height: int
    width: int
    drift: float | None = None
    most_drift: float | None = None
    damaged: int = 0

    @property
    def labeled_s(self) -> float:
        """Seconds of video that have rows."""
        return self.frames * self.frame_s

    @property
    def end_s(self) -> float:
        """When the last frame leaves the screen."""
        return self.last_s + self.frame_s


@dataclass(frozen=True, kw_only=True)
class LostRun:
    """Consecutive lost frames, or damaged ones, and the times [start_s, end_s) that they are on screen."""

    first_frame: int
    num_frames: int
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A video in N bins of equally many frames, in order; bins without a row are left out.

    start_s, end_s (N,): times [start, end); a bin ends where the next starts, if that goes on with the next frame.
    first_frame, last_frame, num_frames, num_lost (N,): of the rows. confidence, confidence_p05 (N,): means;
    confidence_min (N,): the least; NaN where no frame has one. drift, drift_max (N,): of the chunks that begin in a bin
    or, where none does, of the one that goes on in it, 1 - drift_agreement, mean and greatest; NaN where it was not
    measured, None where it nowhere was. drifted_keyframe (N,): the first frame of the chunk of drift_max that begins
    there; -1 where there is none. shares (N, C): of pixels, NaN where all frames are lost. labeled_frame (N,): the
    first frame with labels, least_confident (N,): the frame of confidence_min; -1 where there is none.
    keyframe_s (K,): time of the first keyframe of each bin that has one; num_keyframes: of all bins.
    """

    video: str
    start_s: np.ndarray
    end_s: np.ndarray
    first_frame: np.ndarray
    last_frame: np.ndarray
    num_frames: np.ndarray
    num_lost: np.ndarray
    confidence: np.ndarray
    confidence_p05: np.ndarray
    confidence_min: np.ndarray
    shares: np.ndarray
    labeled_frame: np.ndarray
    least_confident: np.ndarray
    keyframe_s: np.ndarray
    num_keyframes: int
    lost_runs: tuple[LostRun, ...]
    damaged_runs: tuple[LostRun, ...] = ()
    drift: np.ndarray | None = None
    drift_max: np.ndarray | None = None
    drifted_keyframe: np.ndarray | None = None


def summarise_videos(labels: Labels, videos: Collection[str] | None = None) -> list[VideoSummary]:
    """One summary per video that has rows, sorted by id. videos: only these ids. Raises as `run_sql` does."""
    table = run_sql(
        labels if videos is None else only_videos(labels, videos),
        f"""
        select video, any_value(uri) as uri, count(*) as frames, count(*) filter (status = 'decode_error') as lost,
            count(*) filter (status = 'damaged') as damaged,
            min(frame_index) as first_frame, max(frame_index) as last_frame,
            min(time_s) as first_s, max(time_s) as last_s,
            avg(confidence)::double as confidence, min(confidence)::double as lowest_confidence,
            {_DRIFT} as drift, (1 - min(drift_agreement))::double as most_drift,
            {_pixel_sums(labels)}, {_AREA}, max(height) as height, max(width) as width,
            count(*) filter ({" or ".join(f"{name} is null" for name in _NEVER_NULL)}) as broken
        from frames {_where(videos)} group by video order by video
        """,
    )
    if pc.any(pc.greater(table["broken"], 0)).as_py():
        raise CorruptLabels(f"{redact_uri(labels.uri)}: null in {', '.join(_NEVER_NULL)}; gsvnet verify says where")
    records = table.drop_columns(["pixels", "broken"]).to_pylist()
    return [_to_summary(record, shares) for record, shares in zip(records, _shares(table))]


def read_timelines(
    labels: Labels, summaries: Sequence[VideoSummary], *, max_bins: int = MAX_BINS
) -> dict[str, Timeline]:
    """The timelines of some videos by id, by one pass over their small columns. max_bins: per video."""
    if not summaries:
        return {}
    ids = [summary.video for summary in summaries]
    some = only_videos(labels, ids)
    chosen = ", ".join(
        f"({sql_text(s.video)}, {s.first_frame}, {-(-(s.last_frame + 1 - s.first_frame) // max_bins)})"
        for s in summaries
    )
    table = run_sql(
        some,
        f"""
        with chosen(video, origin, bin_frames) as (values {chosen})
        select video, (frame_index - origin) // bin_frames as bin, min(time_s) as start_s, max(time_s) as last_s,
            min(frame_index) as first_frame, max(frame_index) as last_frame,
            count(*) as num_frames, count(*) filter (status = 'decode_error') as num_lost,
            avg(confidence)::double as confidence, avg(confidence_p05)::double as confidence_p05,
            min(confidence)::double as confidence_min,
            coalesce(min(frame_index) filter (status <> 'decode_error'), -1) as labeled_frame,
            coalesce(arg_min(frame_index, confidence), -1) as least_confident,
            min(time_s) filter (is_keyframe) as keyframe_s, count(*) filter (is_keyframe) as num_keyframes,
            {_DRIFT} as drift, (1 - min(drift_agreement))::double as drift_max,
            coalesce(arg_min(frame_index, drift_agreement), -1) as drifted_keyframe,
            {_pixel_sums(labels)}, {_AREA}
        from frames join chosen using (video) {_where(ids)} group by video, bin order by video, bin
        """,
    )
    lost, damaged = (_read_runs(some, summaries, status) for status in ("decode_error", "damaged"))
    starts, stops = _spans(table["video"].to_pylist())
    if gone := [summary.video for summary in summaries if summary.video not in starts]:  # pages and statistics differ
        raise damaged_labels(f"video {gone[0]!r} has rows, and none when asked for")
    return {
        s.video: _to_timeline(
            s, table.slice(starts[s.video], stops[s.video] - starts[s.video]), lost[s.video], damaged[s.video]
        )
        for s in summaries
    }


def only_videos(labels: Labels, videos: Collection[str]) -> Labels:
    """The same labels with the files of these videos alone; a compacted output's files hold several."""
    if labels.job.compacted is not None:
        return labels
    wanted = set(videos)
    paths = [path for path in labels.paths if split_shard_path(path)[0] in wanted]
    return Labels(labels.uri, labels.job, labels.storage_options, paths)


def _where(videos: Collection[str] | None) -> str:
    return "" if videos is None else f"where video in ({', '.join(map(sql_text, videos)) or 'null'})"


_DRIFT = "(1 - avg(drift_agreement))::double"
_AREA = "sum(height::double * width) filter (status <> 'decode_error') as area"


def _pixel_sums(labels: Labels) -> str:
    return "[" + ", ".join(f'sum(pixels."{name}")::double' for name in labels.classes.identifiers) + "] as pixels"


def _shares(table: pa.Table) -> np.ndarray:
    """Shares (N, C) float32 of the columns `pixels` and `area`; NaN where there is no area."""
    lists = table["pixels"].combine_chunks()
    sums = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1 if len(table) else 0)
    return (sums / _floats(table, "area")[:, None]).astype(np.float32)


def _floats(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, null as NaN."""
    return table[name].cast(pa.float64()).to_numpy()


def _to_summary(record: dict, shares: np.ndarray) -> VideoSummary:
    span = record["last_frame"] - record["first_frame"]
    del record["area"]
    return VideoSummary(
        **record,
        missing=max(0, record["last_frame"] + 1 - record["frames"]),
        frame_s=(record["last_s"] - record["first_s"]) / span if span else 0.0,
        shares=tuple(np.nan_to_num(shares).tolist()),
    )


def _spans(names: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """First row of each name and the row after its last, in a sorted column."""
    last = {name: row for row, name in enumerate(names)}
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    return first, {name: row + 1 for name, row in last.items()}


def _to_timeline(
    summary: VideoSummary, table: pa.Table, lost_runs: tuple[LostRun, ...], damaged_runs: tuple[LostRun, ...]
) -> Timeline:
    keyframe_s = _floats(table, "keyframe_s")
    drift, drift_max = _carry_drift(table)
    measured = not np.isnan(drift).all()
    return Timeline(
        video=summary.video,
        start_s=_floats(table, "start_s"),
        end_s=_end_times(table, summary.frame_s),
        keyframe_s=keyframe_s[~np.isnan(keyframe_s)],
        num_keyframes=int(_floats(table, "num_keyframes").sum()),
        shares=_shares(table),
        lost_runs=lost_runs,
        damaged_runs=damaged_runs,
        drift=drift if measured else None,
        drift_max=drift_max if measured else None,
        drifted_keyframe=table["drifted_keyframe"].to_numpy() if measured else None,
        **{name: table[name].to_numpy() for name in _COUNTS},
        **{name: _floats(table, name) for name in ("confidence", "confidence_p05", "confidence_min")},
    )


_COUNTS = ("first_frame", "last_frame", "num_frames", "num_lost", "labeled_frame", "least_confident")


def _carry_drift(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Drift, mean and greatest, of each bin; a bin in which no chunk begins has what the bin before it has."""
    begins = table["num_keyframes"].to_numpy() > 0
    begins[1:] |= table["first_frame"].to_numpy()[1:] != table["last_frame"].to_numpy()[:-1] + 1
    begins[:1] = True
    source = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
    return _floats(table, "drift")[source], _floats(table, "drift_max")[source]


def _end_times(table: pa.Table, frame_s: float) -> np.ndarray:
    """Seconds at which each bin ends: where the next goes on; before a gap `frame_s` after its last frame started."""
    starts, ends = _floats(table, "start_s"), _floats(table, "last_s") + frame_s
    goes_on = table["first_frame"].to_numpy()[1:] == table["last_frame"].to_numpy()[:-1] + 1
    ends[:-1] = np.where(goes_on, starts[1:], np.minimum(ends[:-1], starts[1:]))
    return ends


def _read_runs(labels: Labels, summaries: Sequence[VideoSummary], status: str) -> dict[str, tuple[LostRun, ...]]:
    """Runs of frames of one status, by video."""
    table = run_sql(
        labels,
        f"""
        select video, min(frame_index), count(*), min(time_s), max(time_s)
        from (
            select video, frame_index, time_s,
                frame_index - row_number() over (partition by video order by frame_index) as run
            from frames {_where([s.video for s in summaries])} and status = {sql_text(status)}
        ) group by video, run order by 1, 2
        """,
    )
    found: dict[str, list[LostRun]] = {summary.video: [] for summary in summaries}
    frame_s = {summary.video: summary.frame_s for summary in summaries}
    for video, first, num, start_s, last_s in zip(*(column.to_pylist() for column in table.columns)):
        end_s = last_s + frame_s[video]
        found[video].append(LostRun(first_frame=first, num_frames=num, start_s=start_s, end_s=end_s))
    return {video: tuple(runs) for video, runs in found.items()}
