"""The same worker without Ray: one process, one shard after the other. For debugging and small jobs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait

from gsvnet.labeling.tasks import Device, Raised, ShardFailure, ShardResult, ShardTask, WorkerSpec, describe_error
from gsvnet.models.segmenter import VideoSegmenter

TICK_S = 1.0


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
    on_tick: Callable[[int], None] = lambda frames_done: None,
) -> None:
    """Label shards in order. Raises what stops a whole job (no space, a model that does not fit).

    on_tick: called about once a second with the number of frames of the running shard that are labeled.
    """
    worker = spec.build(model, device=device, num_threads=num_threads)

    def attempt(task: ShardTask) -> ShardResult | Raised:
        try:
            return worker(task)
        except Exception as error:
            raised = describe_error(error, traceback=traceback.format_exc(), task=task)
            if raised.fatal is not None:
                raise
            return raised

    with ThreadPoolExecutor(1, thread_name_prefix="gsvnet-worker") as thread:
        for task in tasks:
            for number in range(1, max_attempts + 1):
                answer = thread.submit(attempt, task)
                while not wait([answer], timeout=TICK_S).done:
                    on_tick(worker.frames_done)
                outcome = answer.result()
                if isinstance(outcome, ShardResult):
                    on_result(outcome)
                    break
                if outcome.kind == "video" or number == max_attempts:
                    on_failure(_give_up(task, outcome, attempts=number))
                    break


def _give_up(task: ShardTask, raised: Raised, *, attempts: int) -> ShardFailure:
    return ShardFailure(
        video_id=task.video.id,
        shard_index=task.shard.index,
        error=raised.error,
        message=raised.message,
        attempts=attempts,
    )
