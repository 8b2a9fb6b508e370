"""The same worker without Ray: one process, one shard after the other. For debugging and small jobs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable

from gsvnet.labeling.tasks import Device, ShardFailure, ShardResult, ShardTask, WorkerSpec, describe_error
from gsvnet.models.segmenter import VideoSegmenter


def run_local(
    tasks: Iterable[ShardTask],
    *,
    spec: WorkerSpec,
    model: VideoSegmenter,
    device: Device,
    num_threads: int,
    max_attempts: int,
    on_result: Callable[[ShardResult], None],
    on_failure: Callable[[ShardFailure], None],
) -> None:
    """Label shards in order. Raises what stops a whole job (no space, a model that does not fit)."""
    worker = spec.build(model, device=device, num_threads=num_threads)
    for task in tasks:
        for attempt in range(1, max_attempts + 1):
            try:
                on_result(worker(task))
                break
            except Exception as error:
                raised = describe_error(error, traceback=traceback.format_exc(), task=task)
                if raised.fatal is not None:
                    raise
                if raised.kind == "video" or attempt == max_attempts:
                    on_failure(
                        ShardFailure(
                            video_id=task.video.id,
                            shard_index=task.shard.index,
                            error=raised.error,
                            message=raised.message,
                            attempts=attempt,
                        )
                    )
                    break
