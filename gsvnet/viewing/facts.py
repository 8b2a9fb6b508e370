"""What a report says about an output as a whole, and what each video lacks: from its files alone, no mask is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from gsvnet.chunks import shard_name
from gsvnet.errors import StoreError
from gsvnet.store.filesystem import StorageOptions, has_object
from gsvnet.store.job import FailureRecord, list_failures, list_plans, read_plan
from gsvnet.store.layout import SUCCESS, derived_uri, list_label_pages, split_shard_path
from gsvnet.store.read import Labels
from gsvnet.store.sources import parse_time_base
from gsvnet.store.timeline import VideoSummary, summarise_videos
from gsvnet.uris import redact_uri

_READING_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class MissingShard:
    """A planned shard without labels. end_s: None where the plan does not say. failure: why, None: not labeled yet."""

    name: str
    num_frames: int
    start_s: float
    end_s: float | None
    failure: FailureRecord | None = None


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """One video of an output. summary: None where nothing of it has labels. failures: its shards, or itself (shard
    None), that were given up."""

    video: str
    uri: str
    summary: VideoSummary | None
    missing: tuple[MissingShard, ...] = ()
    failures: tuple[FailureRecord, ...] = ()

    @property
    def gap_frames(self) -> int:
        """Frames without a row: of planned shards, or before the last row where there is no plan."""
        planned = sum(shard.num_frames for shard in self.missing)
        return planned or (self.summary.missing if self.summary else 0)

    @property
    def trouble(self) -> tuple:
        """Sorts videos, most trouble first: failures, lost frames, gaps, low confidence."""
        if self.summary is None:
            return (-len(self.failures), 0, -self.gap_frames, 1.0, self.video)
        confidence = self.summary.confidence
        unsure = 1.0 if confidence is None else confidence
        return (-len(self.failures), -self.summary.lost, -self.gap_frames, unsure, self.video)


@dataclass(frozen=True, kw_only=True)
class OutputFacts:
    """An output. videos: most trouble first. complete: nothing is missing (`_SUCCESS`). label_bytes: of Parquet."""

    videos: tuple[VideoFacts, ...]
    failures: tuple[FailureRecord, ...]
    complete: bool
    label_bytes: int
    num_files: int

    @property
    def summaries(self) -> list[VideoSummary]:
        """Of the videos that have labels."""
        return [facts.summary for facts in self.videos if facts.summary is not None]

    @property
    def num_missing(self) -> int:
        """Planned shards without labels."""
        return sum(len(facts.missing) for facts in self.videos)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is planned of a video, as if nothing of it had labels."""

    uri: str
    shards: tuple[MissingShard, ...]


def read_facts(labels: Labels) -> OutputFacts:
    """The facts of an output: one query over the small columns and a listing of its labels.

    Plans and failures are read only where `_SUCCESS` does not say that nothing is missing. Raises StoreError and its
    kin.
    """
    out, options = labels.uri, labels.storage_options
    sizes = [file.size for page in list_label_pages(out, options) for file in page]
    summaries = {summary.video: summary for summary in summarise_videos(labels)}
    complete = has_object(derived_uri(out, SUCCESS), options)
    plans, failures = ({}, []) if complete else _read_trouble(labels)
    uris = {failure.video: failure.uri for failure in failures}
    uris |= {video: plan.uri for video, plan in plans.items()}
    uris |= {video: summary.uri for video, summary in summaries.items()}
    of_video: dict[str, list[FailureRecord]] = {video: [] for video in uris}
    for failure in failures:
        of_video[failure.video].append(failure)
    videos = [
        VideoFacts(
            video=video,
            uri=redact_uri(uri),
            summary=summaries.get(video),
            missing=_explain(plans[video].shards, of_video[video]) if video in plans else (),
            failures=tuple(of_video[video]),
        )
        for video, uri in uris.items()
    ]
    return OutputFacts(
        videos=tuple(sorted(videos, key=lambda facts: facts.trouble)),
        failures=tuple(failures),
        complete=complete,
        label_bytes=sum(sizes),
        num_files=len(sizes),
    )


def _read_trouble(labels: Labels) -> tuple[dict[str, _Plan], list[FailureRecord]]:
    """The plan of each video, with the shards that have no labels, and the failures that stand."""
    out, options = labels.uri, labels.storage_options
    committed = _committed_shards(labels)
    plans = {
        video: replace(plan, shards=tuple(s for s in plan.shards if (video, s.name) not in committed))
        for video, plan in _read_plans(out, options).items()
    }
    done = {video for video, plan in plans.items() if not plan.shards}
    return plans, list_failures(out, options, committed=committed, complete_videos=done)


def _explain(missing: Sequence[MissingShard], failures: Sequence[FailureRecord]) -> tuple[MissingShard, ...]:
    """The same shards with their failures."""
    of_shard = {failure.shard: failure for failure in failures}
    return tuple(replace(shard, failure=of_shard.get(shard.name)) for shard in missing)


def _committed_shards(labels: Labels) -> set[tuple[str, str]]:
    """(video id, shard name) of every shard that has labels; a compacted output's files are opened for it."""
    if labels.job.compacted is None:
        return {split_shard_path(path) for path in labels.paths}
    return {(video, shard_name(source.footer.shard)) for video in labels.videos for source in labels.sources(video)}


def _read_plans(out: str, storage_options: StorageOptions) -> dict[str, _Plan]:
    def read(video: str) -> _Plan:
        data = read_plan(out, video, storage_options) or {}
        try:
            return _to_plan(data)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise StoreError(
                f"the stored plan of {video} in {redact_uri(out)} is not of this version: {error!r}"
            ) from error

    videos = list_plans(out, storage_options)
    with ThreadPoolExecutor(_READING_THREADS) as pool:
        return dict(zip(videos, pool.map(read, videos)))


def _to_plan(data: Mapping[str, Any]) -> _Plan:
    tick_s = parse_time_base(data["video"]["time_base"])
    shards = []
    for shard in data["shards"]:
        end_pts = data.get("end_pts") if shard["end_pts"] is None else shard["end_pts"]
        shards.append(
            MissingShard(
                name=shard_name(_whole(shard["index"])),
                num_frames=_whole(shard["num_frames"]),
                start_s=float(_whole(shard["start_pts"]) * tick_s),
                end_s=None if end_pts is None else float(_whole(end_pts) * tick_s),
            )
        )
    return _Plan(uri=str(data["video"]["uri"]), shards=tuple(shards))


def _whole(value: Any) -> int:
    """A number of 64 bits, as frames and ticks are."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise ValueError(f"{value!r:.40} is no number of frames or ticks")
    return value
