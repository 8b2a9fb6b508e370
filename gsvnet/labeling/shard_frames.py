"""The frames of a shard as a network needs them: which are decoded, by what, and where their motion comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gsvnet.choices import MotionSource
from gsvnet.chunks import Shard
from gsvnet.errors import ConfigError
from gsvnet.labeling.batching import views_by_need
from gsvnet.labeling.chunk_motion import Trace, trace_by_codec, trace_by_images, with_motion
from gsvnet.labeling.tasks import Reach, ShardTask
from gsvnet.models.segmenter import FrameNeeds
from gsvnet.video.decode import Frame, read_frames
from gsvnet.video.frames import View
from gsvnet.video.motion import read_frames_and_motion
from gsvnet.video.nvdec import Decoder


def motion_source(task: ShardTask, needs: FrameNeeds) -> MotionSource | None:
    """Where motion comes from; None for networks that read none. Not planned at all: a proxy's."""
    if needs.motion_grid is None:
        return None
    return "proxy" if task.motion is None else task.motion.source


def choose_trace(task: ShardTask, needs: FrameNeeds) -> Trace:
    """What finds the motion of the shard's frames."""
    return trace_by_codec if motion_source(task, needs) == "codec" else trace_by_images


def read_shard(
    task: ShardTask,
    *,
    needs: FrameNeeds,
    interval: int,
    decoder: Decoder,
    threads: int,
    storage_options: dict | None,
    first_view: View | None = None,
) -> Iterator[Frame]:
    """The frames of a shard in display order, for `batch_chunks`; the codec's motion with them where that is used.

    Around them come frames that are needed for these: the next shard's keyframe, those that the network looks at, and
    those that the codec refers to. first_view: of the shard's own frames one image more, before the others. Raises
    ConfigError where the plan does not say where to find them, else as `read_frames` does.
    """
    reach = choose_reach(task, needs)
    views = views_by_need(task.shard, interval=interval, needs=needs)
    if first_view is not None:
        views = _add_view(first_view, views, task.shard)
    if task.motion is not None and motion_source(task, needs) == "codec":
        pairs = read_frames_and_motion(
            task.uri,
            first_frame=reach.first_frame,
            start_pts=reach.start_pts,
            end_pts=reach.end_pts,
            views=views,
            rotation=task.video.rotation,
            max_distance=task.motion.max_distance,
            threads=threads,
            storage_options=storage_options,
            identity=task.video.identity,
        )
        return with_motion(pairs)
    return read_frames(
        task.uri,
        first_frame=reach.first_frame,
        start_pts=reach.start_pts,
        end_pts=reach.end_pts,
        views=views,
        rotation=task.video.rotation,
        threads=threads,
        decoder=decoder,
        storage_options=storage_options,
        identity=task.video.identity,
    )


def _add_view(first: View, views: Callable[[int], Sequence[View]], shard: Shard) -> Callable[[int], Sequence[View]]:
    stop = math.inf if shard.end_pts is None else shard.first_frame + shard.num_frames

    def more_views(index: int) -> Sequence[View]:
        return (first, *views(index)) if shard.first_frame <= index < stop else views(index)

    return more_views


def choose_reach(task: ShardTask, needs: FrameNeeds) -> Reach:
    """What has to be decoded for a shard and a network.

    Times of frames are known from the plan alone. Raises ConfigError for a plan of a network that looks less far:
    labels without the frames around a shard would depend on where the video is cut.
    """
    shard, planned = task.shard, task.reach
    alone = Reach(first_frame=shard.first_frame, start_pts=shard.start_pts, end_pts=shard.end_pts)
    looks_around = bool(needs.before or needs.after)
    reach = alone if planned is None or not (looks_around or motion_source(task, needs) == "codec") else planned
    ends_with_shard = reach.end_pts is not None and reach.end_pts == shard.end_pts
    if reach.first_frame > max(0, shard.first_frame - needs.before) or (needs.after and ends_with_shard):
        raise ConfigError(
            f"shard {shard.index} of {task.video.id} was planned for a network that looks at fewer frames around it "
            f"than this one ({needs.before} before, {needs.after} after); plan the video for this network"
        )
    if ends_with_shard and (needs.next_keyframe or needs.next_frame) and shard.end_pts is not None:
        return replace(reach, end_pts=shard.end_pts + 1)  # the next shard's first frame
    return reach
