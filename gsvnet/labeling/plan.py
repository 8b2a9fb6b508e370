"""One video's plan: what it is, how many frames it has, and how it is cut into shards. Made once, then read.

Plans are stored create-only as `_plan/<video id>.json`, so every run of a job cuts a video the same way, even when
another run planned it at the same moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from gsvnet.chunks import Shard, Video, cut_shards
from gsvnet.errors import OutputConflict, SourceChanged, StoreError
from gsvnet.store.job import read_plan, write_plan
from gsvnet.uris import absolute_uri
from gsvnet.video.index import index_video
from gsvnet.video.probe import probe_video, video_identity
from gsvnet.video.source import video_id

PLAN_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PlanRule:
    """How videos are cut; the same for a whole job. shard_seconds by pts, interval and shard_frames in frames."""

    interval: int
    shard_seconds: float
    shard_frames: int


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """A planned video. numbers_from: "index" (container) or "scan" (all packets). problems: what looked odd.

    end_pts: ticks, where the last frame ends; None in plans of the first version.
    """

    video: Video
    shards: tuple[Shard, ...]
    numbers_from: str
    problems: tuple[str, ...] = ()
    end_pts: int | None = None

    @property
    def media_s(self) -> float:
        """Seconds of video; where a plan does not say, as far as its shards do."""
        end_pts = self.shards[-1].start_pts if self.end_pts is None else self.end_pts
        return float((end_pts - self.shards[0].start_pts) * self.video.time_base)

    @property
    def num_bytes(self) -> int:
        """Size of the file; an identity begins with it."""
        size = self.video.identity.partition(":")[0]
        return int(size) if size.isdigit() else 0


def plan_video(uri: str, *, rule: PlanRule, storage_options: dict | None = None) -> VideoPlan:
    """Probe and index a video, then cut it. Raises VideoError when it cannot be used."""
    info = probe_video(uri, storage_options)
    index = index_video(uri, storage_options)
    video = Video(
        id=video_id(uri),
        uri=absolute_uri(uri),
        identity=info.identity,
        height=info.height,
        width=info.width,
        rotation=info.rotation,
        time_base=info.time_base,
        num_frames=len(index.pts),
    )
    shards = cut_shards(
        video_id=video.id,
        pts=index.pts.tolist(),
        sync_frames=index.sync_frames.tolist(),
        interval=rule.interval,
        max_ticks=max(1, int(Fraction(rule.shard_seconds) / info.time_base)),
        max_frames=rule.shard_frames,
    )
    return VideoPlan(
        video=video,
        shards=tuple(shards),
        numbers_from=index.numbers_from,
        problems=tuple(index.problems),
        end_pts=index.end_pts,
    )


def stored_or_new_plan(
    out: str,
    uri: str,
    *,
    rule: PlanRule,
    storage_options: dict | None = None,
    video_options: dict | None = None,
    unsafe_commit: bool = False,
    is_stored: bool = True,
) -> VideoPlan:
    """The plan kept in `out`, or a new one, kept from now on. is_stored: False saves the look where a listing has none.

    Raises SourceChanged when the file is no longer the one that was planned, VideoError when it cannot be used,
    OutputConflict when the plan in `out` was made by another rule.
    """
    name = video_id(uri)
    stored = read_plan(out, name, storage_options) if is_stored else None
    if stored is None:
        plan = plan_video(uri, rule=rule, storage_options=video_options)
        identity = plan.video.identity
        stored = write_plan(out, name, _to_dict(plan, rule), storage_options, unsafe_commit)
    else:
        identity = video_identity(uri, video_options)
    _check_rule(stored, rule, name)
    plan = plan_from_dict(stored, name)
    if identity != plan.video.identity:
        raise SourceChanged(
            f"the file changed since it was planned (was {plan.video.identity}, is {identity}); use another output",
            uri=plan.video.uri,
        )
    return plan


def _to_dict(plan: VideoPlan, rule: PlanRule) -> dict[str, Any]:
    data = asdict(plan) | {"version": PLAN_VERSION, "rule": asdict(rule)}
    data["video"]["time_base"] = str(plan.video.time_base)
    return data


_FLAGS = {"interval": "--keyframe-interval", "shard_seconds": "--shard-seconds", "shard_frames": "--shard-frames"}


def _check_rule(stored: Mapping[str, Any], rule: PlanRule, name: str) -> None:
    """Refuse a plan of another rule: `gsvnet plan` keeps plans before there is a job record that would refuse it."""
    theirs = stored.get("rule", {})
    differing = [
        f"{_FLAGS[field.name]} {theirs[field.name]:g} there, {getattr(rule, field.name):g} now"
        for field in fields(PlanRule)
        if field.name in theirs and theirs[field.name] != getattr(rule, field.name)
    ]
    if differing:
        settings = ", ".join(differing)
        raise OutputConflict(f"the output holds a plan of {name} with other settings: {settings}; use another --out")


def plan_from_dict(data: Mapping[str, Any], name: str) -> VideoPlan:
    """A stored plan; name: the video's id, for the message. Raises StoreError when it is of another version."""
    try:
        return VideoPlan(
            video=Video(**data["video"] | {"time_base": Fraction(data["video"]["time_base"])}),
            shards=tuple(Shard(**s | {"restarts": tuple(s["restarts"])}) for s in data["shards"]),
            numbers_from=data["numbers_from"],
            problems=tuple(data["problems"]),
            end_pts=data.get("end_pts"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the stored plan of {name} is not of this version: {error!r}") from error
