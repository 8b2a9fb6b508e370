"""One video's plan: what it is, how many frames it has, and how it is cut into shards. Made once, then read.

Plans are stored create-only as `_plan/<video id>.json`, so every run of a job cuts a video the same way, even when
another run planned it at the same moment.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from gsvnet.choices import MotionWish
from gsvnet.chunks import Shard, Video, chunk_starts, cut_shards, size_in_identity, widen_shard
from gsvnet.errors import ConfigError, OutputConflict, SourceChanged, StoreError
from gsvnet.labeling.plan_check import check_plan
from gsvnet.labeling.tasks import Reach, ShardMotion
from gsvnet.store.filesystem import has_object
from gsvnet.store.job import list_plans, read_plan, write_plan
from gsvnet.store.layout import job_uri
from gsvnet.store.sources import parse_time_base
from gsvnet.uris import absolute_uri
from gsvnet.video.index import VideoIndex, index_video
from gsvnet.video.motion_source import MotionChoice, choose_motion_source
from gsvnet.video.probe import probe_video, video_identity
from gsvnet.video.source import video_id

PLAN_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PlanRule:
    """How videos are cut; the same for a whole job. shard_seconds by pts, interval and shard_frames in frames.

    motion: which source of motion is wanted, for networks that read motion; None: the network reads none.
    before, after: how many frames around a batch the network looks at (`FrameNeeds`).
    smooth: over how many frames on either side labels are smoothed.
    """

    interval: int
    shard_seconds: float
    shard_frames: int
    motion: MotionWish | None = None
    before: int = 0
    after: int = 0
    smooth: int = 0


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """A planned video. numbers_from: "index" (container) or "scan" (all packets). problems: what looked odd.

    end_pts: ticks, where the last frame ends; None in plans of the first version. motion: where it comes from; None:
    nobody asked. reaches: what has to be decoded for each shard, for codec motion and for networks that look at frames
    around a batch; else empty. widened: each shard with the chunks around it whose labels its own are smoothed with;
    what has to be decoded is then told of these; empty where labels are not smoothed.
    """

    video: Video
    shards: tuple[Shard, ...]
    numbers_from: str
    problems: tuple[str, ...] = ()
    end_pts: int | None = None
    motion: MotionChoice | None = None
    reaches: tuple[Reach, ...] = ()
    widened: tuple[Shard, ...] = ()

    @property
    def shard_motion(self) -> ShardMotion | None:
        """What a worker has to know of the motion of the video's frames."""
        if self.motion is None:
            return None
        return ShardMotion(source=self.motion.source, max_distance=self.motion.max_distance)

    def reach_of(self, shard: Shard) -> Reach | None:
        """What has to be decoded for a shard; None: the shard, and at most the frame after it."""
        return self.reaches[shard.index] if self.reaches else None

    def widened_of(self, shard: Shard) -> Shard | None:
        """What has to be labeled for a shard, where that is more than the shard."""
        return self.widened[shard.index] if self.widened else None

    @property
    def media_s(self) -> float:
        """Seconds of video; where a plan does not say, as far as its shards do."""
        end_pts = self.shards[-1].start_pts if self.end_pts is None else self.end_pts
        return float((end_pts - self.shards[0].start_pts) * self.video.time_base)

    @property
    def num_bytes(self) -> int:
        """Size of the file; 0 where it is not known."""
        return size_in_identity(self.video.identity) or 0


def plan_video(uri: str, *, rule: PlanRule, storage_options: dict | None = None) -> VideoPlan:
    """Probe and index a video, choose its motion, then cut it. Raises VideoError when it cannot be used.

    Codec motion does not lead past I-frames, so with it chunks restart there.
    """
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
    motion = _choose_motion(uri, index, rule, storage_options)
    distance = motion.max_distance if motion is not None and motion.source == "codec" else None
    restarts = [] if distance is None else index.sync_frames.tolist()
    pts = array("q", index.pts.tobytes())  # a list of numbers takes five times the memory, and a day has millions
    shards = cut_shards(
        video_id=video.id,
        pts=pts,
        sync_frames=index.sync_frames.tolist(),
        interval=rule.interval,
        max_ticks=max(1, int(Fraction(rule.shard_seconds) / info.time_base)),
        max_frames=rule.shard_frames,
        restarts=restarts,
    )
    widened: list[Shard] = []
    if rule.smooth:
        starts = chunk_starts(0, len(pts), rule.interval, restarts)
        widened = [widen_shard(s, frames=rule.smooth, pts=pts, starts=starts, restarts=restarts) for s in shards]
    reaches: tuple[Reach, ...] = ()
    if distance is not None or rule.before or rule.after:
        reaches = tuple(
            find_reach(shard, index, max_distance=distance, before=rule.before, after=rule.after)
            for shard in widened or shards
        )
    return VideoPlan(
        video=video,
        shards=tuple(shards),
        numbers_from=index.numbers_from,
        problems=tuple(index.problems),
        end_pts=index.end_pts,
        motion=motion,
        reaches=reaches,
        widened=tuple(widened),
    )


def _choose_motion(uri: str, index: VideoIndex, rule: PlanRule, storage_options: dict | None) -> MotionChoice | None:
    if rule.motion is None:
        return None
    return choose_motion_source(
        uri,
        interval=rule.interval,
        sync_frames=index.sync_frames.tolist(),
        num_frames=len(index.pts),
        wanted=rule.motion,
        storage_options=storage_options,
    )


def find_reach(
    shard: Shard, index: VideoIndex, *, max_distance: int | None = None, before: int = 0, after: int = 0
) -> Reach:
    """The shard and the frames around it that have to be decoded for its sake; at the video's end without an end.

    max_distance: of the codec's references, for codec motion: the next keyframe, and as many frames around both as are
    compared to find them. So what is found does not depend on where the video is cut. before, after: as in PlanRule.
    """
    first, stop = shard.first_frame - before, shard.first_frame + shard.num_frames + after
    if max_distance is not None:
        around = max_distance if max_distance > 1 else 0
        first = min(first, shard.first_frame - around)
        stop = max(stop, shard.first_frame + shard.num_frames + 1 + around)
    first = max(0, first)
    end_pts = None if stop >= len(index.pts) else int(index.pts[stop])
    return Reach(first_frame=first, start_pts=int(index.pts[first]), end_pts=end_pts)


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


def check_output_rule(out: str, rule: PlanRule, storage_options: dict | None = None) -> None:
    """Raise OutputConflict where an output that has no job record yet holds plans of another rule.

    `gsvnet plan` keeps plans; whoever then labels by another rule must not claim the output first. One plan is read.
    Nothing is said of an output that cannot be read: claiming it says more.
    """
    name, stored = "", None
    with suppress(StoreError, ConfigError):
        if not has_object(job_uri(out), storage_options):
            name = next(iter(list_plans(out, storage_options)), "")
            stored = read_plan(out, name, storage_options) if name else None
    if stored is not None:
        _check_rule(stored, rule, name)


def _to_dict(plan: VideoPlan, rule: PlanRule) -> dict[str, Any]:
    """As it is stored: what does not matter to a network is not mentioned, as in plans that know nothing of it."""
    data = asdict(plan) | {"version": PLAN_VERSION, "rule": asdict(rule)}
    data["video"]["time_base"] = str(plan.video.time_base)
    if plan.motion is None:
        del data["motion"], data["rule"]["motion"]
    if plan.motion is None and not plan.reaches:
        del data["reaches"]
    if not plan.widened:
        del data["widened"]
    for name in ("before", "after", "smooth"):
        if not data["rule"][name]:
            del data["rule"][name]
    return data


_NAMES = {
    "interval": "--keyframe-interval",
    "shard_seconds": "--shard-seconds",
    "shard_frames": "--shard-frames",
    "motion": "--motion",
    "before": "frames looked at before a batch",
    "after": "frames looked at after a batch",
    "smooth": "--smooth",
}


def _check_rule(stored: Mapping[str, Any], rule: PlanRule, name: str) -> None:
    """Refuse a plan of another rule: `gsvnet plan` keeps plans before there is a job record that would refuse it."""
    kept = stored.get("rule", {})
    if not isinstance(kept, dict):
        raise StoreError(f"the stored plan of {name} is not of this version: its rule is {kept!r:.80}")
    theirs = {"motion": None, "before": 0, "after": 0, "smooth": 0} | kept
    differing = [
        f"{_NAMES[field.name]} {_show(theirs[field.name])} there, {_show(getattr(rule, field.name))} now"
        for field in fields(PlanRule)
        if field.name in theirs and theirs[field.name] != getattr(rule, field.name)
    ]
    if differing:
        settings = ", ".join(differing)
        raise OutputConflict(f"the output holds a plan of {name} with other settings: {settings}; use another --out")


def _show(value: float | str | None) -> str:
    return "not read" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def plan_from_dict(data: Mapping[str, Any], name: str) -> VideoPlan:
    """A stored plan; name: the video's id. Raises StoreError when it is of another version, or contradicts itself."""
    try:
        plan = VideoPlan(
            video=Video(**data["video"] | {"time_base": parse_time_base(data["video"]["time_base"])}),
            shards=tuple(map(_shard_from_dict, data["shards"])),
            numbers_from=data["numbers_from"],
            problems=tuple(data["problems"]),
            end_pts=data.get("end_pts"),
            motion=MotionChoice(**data["motion"]) if data.get("motion") else None,
            reaches=tuple(Reach(**reach) for reach in data.get("reaches", ())),
            widened=tuple(map(_shard_from_dict, data.get("widened", ()))),
        )
        check_plan(plan, name)
        return plan
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the stored plan of {name} is not of this version: {error!r}") from error


def _shard_from_dict(data: Mapping[str, Any]) -> Shard:
    return Shard(**{**data, "restarts": tuple(data["restarts"])})
