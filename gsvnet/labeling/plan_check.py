"""Whether a stored plan is whole: who reads it takes its numbers for granted."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, get_args

from gsvnet.choices import MotionSource
from gsvnet.chunks import Shard

if TYPE_CHECKING:
    from gsvnet.labeling.plan import VideoPlan

_ROTATIONS = (0, 90, 180, 270)


def check_plan(plan: VideoPlan, name: str) -> None:
    """Raise ValueError or TypeError where a plan is no whole plan of the video with this id."""
    _check_video(plan, name)
    _check_shards(plan)
    for around in (plan.reaches, plan.widened):
        if around and len(around) != len(plan.shards):
            raise ValueError(f"{len(around)} shards with what lies around them, of {len(plan.shards)}")
    widest = plan.widened or plan.shards
    for shard, wide in zip(plan.shards, widest):
        _check_shard(wide, plan)
        if wide.first_frame > shard.first_frame or _stop(wide) < _stop(shard):
            raise ValueError(f"shard {shard.index} is wider than what is labeled for it")
    for wide, reach in zip(widest, plan.reaches):
        if not _are_integers(reach.first_frame, reach.start_pts, 0 if reach.end_pts is None else reach.end_pts):
            raise ValueError(f"what is decoded for shard {wide.index} has no whole numbers")
        if not 0 <= reach.first_frame <= wide.first_frame:
            raise ValueError(f"what is decoded for shard {wide.index} begins inside it")


def _check_video(plan: VideoPlan, name: str) -> None:
    video, motion = plan.video, plan.motion
    texts = (video.uri, video.identity, plan.numbers_from, *plan.problems)
    if video.id != name or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"it is of video {video.id!r}, or has something else where texts should be")
    counts = (video.height, video.width, video.num_frames)
    if not _are_integers(*counts) or min(counts) < 1 or video.rotation not in _ROTATIONS:
        raise ValueError("a size, rotation or number of frames that no video has")
    if motion is None:
        return
    if motion.source not in get_args(MotionSource) or not _are_integers(motion.max_distance):
        raise ValueError(f"motion from {motion.source!r} over {motion.max_distance!r} frames")


def _check_shards(plan: VideoPlan) -> None:
    """They cover the video, one after the other, and only the last one is open."""
    for index, shard in enumerate(plan.shards):
        _check_shard(shard, plan)
        before = plan.shards[index - 1] if index else None
        if shard.index != index or shard.first_frame != (_stop(before) if before else 0):
            raise ValueError(f"shard {index} does not follow the one before it")
        if before and not before.start_pts < shard.start_pts == before.end_pts:
            raise ValueError(f"shard {index} does not begin when the one before it ends")
    if not plan.shards or plan.shards[-1].end_pts is not None or _stop(plan.shards[-1]) != plan.video.num_frames:
        raise ValueError("the shards do not cover the video")
    if plan.end_pts is not None and not (_are_integers(plan.end_pts) and plan.end_pts >= plan.shards[-1].start_pts):
        raise ValueError(f"it ends at pts {plan.end_pts!r}")


def _check_shard(shard: Shard, plan: VideoPlan) -> None:
    numbers = (shard.index, shard.first_frame, shard.num_frames, shard.start_pts, *shard.restarts)
    end_pts = shard.start_pts if shard.end_pts is None else shard.end_pts
    if shard.video_id != plan.video.id or not _are_integers(*numbers, end_pts):
        raise ValueError("a shard of another video, or without whole numbers")
    if shard.first_frame < 0 or shard.num_frames < 1 or _stop(shard) > plan.video.num_frames:
        raise ValueError(f"shard {shard.index} holds frames that the video has not")
    borders = (shard.first_frame, *shard.restarts, _stop(shard) + 1)
    if any(a >= b for a, b in pairwise(borders)):
        raise ValueError(f"shard {shard.index} restarts outside itself, or not in order")


def _stop(shard: Shard) -> int:
    return shard.first_frame + shard.num_frames


def _are_integers(*values: object) -> bool:
    """Whether all are integers that 64 bits hold; True and False are none."""
    return all(type(value) is int and -(2**63) <= value < 2**63 for value in values)
