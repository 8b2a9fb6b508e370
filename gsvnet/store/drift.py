"""Drift as it stands in the rows: chunk by chunk, and which frame of a chunk shows it best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gsvnet.store.query import run_sql, sql_text
from gsvnet.store.read import Labels
from gsvnet.store.timeline import only_videos

_MOST_FRAMES = 10_000  # of a chunk that are looked at: a damaged row may claim billions


@dataclass(frozen=True, kw_only=True)
class ChunkDrift:
    """The chunks of one video. keyframes (K,) int64: the frames that begin them, ascending. drift (K,) float64: 1 -
    drift_agreement, NaN where it was not measured."""

    keyframes: np.ndarray
    drift: np.ndarray

    def at(self, frame: int) -> float | None:
        """Drift of the chunk that holds a frame; None where it was not measured."""
        found = int(np.searchsorted(self.keyframes, frame, side="right")) - 1
        return None if found < 0 or np.isnan(self.drift[found]) else float(self.drift[found])


def read_drift(labels: Labels, video: str) -> ChunkDrift:
    """The drift of each chunk of a video, by its id; its keyframes' rows alone are read, and no mask."""
    table = run_sql(
        only_videos(labels, [video]),
        f"select frame_index, (1 - drift_agreement)::double as drift from frames "
        f"where video = {sql_text(video)} and is_keyframe order by frame_index",
    )
    return ChunkDrift(
        keyframes=table["frame_index"].to_numpy(), drift=table["drift"].to_numpy().astype(np.float64, copy=False)
    )


def find_farthest(labels: Labels, keyframes: Mapping[str, Sequence[int]]) -> dict[tuple[str, int], tuple[int, float]]:
    """{(video, keyframe): (frame index, time_s)}: of the chunk that each keyframe begins, the frame with labels that is
    farthest from the keyframes it draws on, the last of several. Keyframes without such a frame are left out, and what
    lies beyond 10,000 frames of a chunk."""
    asked = ", ".join(f"({sql_text(v)}, {int(k)})" for v, frames in keyframes.items() for k in frames)
    if not asked:
        return {}
    table = run_sql(
        only_videos(labels, keyframes),
        f"""
        with asked(video, keyframe) as (values {asked}),
        within as (
            select asked.video, keyframe,
                unnest(range(keyframe, keyframe + least(coalesce(keyframe_interval, 1), {_MOST_FRAMES}))) as frame_index
            from asked join frames on frames.video = asked.video and frame_index = keyframe
        ),
        near as (
            select video, keyframe, frame_index, time_s, status, coalesce(keyframe_distance, 0) as distance,
                min(frame_index) filter (is_keyframe and frame_index > keyframe)
                    over (partition by video, keyframe) as next_keyframe
            from within join frames using (video, frame_index)
        )
        select video, keyframe, frame_index, time_s from near
        where status = 'ok' and (next_keyframe is null or frame_index < next_keyframe)
        qualify row_number() over (partition by video, keyframe order by distance desc, frame_index desc) = 1
        """,
    )
    video, keyframe, frame, time_s = (column.to_pylist() for column in table.columns)
    return dict(zip(zip(video, keyframe), zip(frame, time_s)))
