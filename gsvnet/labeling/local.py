"""The same worker without Ray: one process, one shard after the other. For debugging and small jobs."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, pairwise

from gsvnet.labeling.tasks import (
    Device,
    Raised,
    ShardFailure,
    ShardResult,
    ShardTask,
    Worker,
    WorkerSpec,
    describe_error,
)
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
    on_note: Callable[[str], None] = lambda text: None,
) -> None:
    """Label shards in order. Raises what stops a whole job (storage down, no space, a model that does not fit).

    on_tick: called from another thread about once a second with the number of labeled frames of the running shard.
    on_note: called with what a person should know of the worker.
    """
    worker = spec.build(model, device=device, num_threads=num_threads)
    for text in worker.notes:
        on_note(text)
    with closing(worker), _ticking(lambda: on_tick(worker.frames_done)):
        for task, following in pairwise(chain(tasks, [None])):
            assert task is not None, "only the last one has nothing after it"
            if following is not None:
                worker.prepare(following)
            for attempt in range(1, max_attempts + 1):
                outcome = _try(worker, task)
                if isinstance(outcome, ShardResult):
                    on_result(outcome)
                    break
                if outcome.kind == "video" or attempt == max_attempts:
                    on_failure(_give_up(task, outcome, attempts=attempt))
                    break


@contextmanager
def _ticking(call: Callable[[], None]) -> Iterator[None]:
    """Call from another thread every second while the block runs. The worker keeps the main one, for Ctrl-C's sake."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(TICK_S):
            call()

    thread = threading.Thread(target=tick, name="gsvnet-tick", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _try(worker: Worker, task: ShardTask) -> ShardResult | Raised:
    try:
        return worker(task)
    except Exception as error:
        raised = describe_error(error, traceback=traceback.format_exc(), task=task)
        if raised.kind in ("fatal", "space", "outage"):  # here nobody else could do it, and the same command resumes
            raise
        return raised


def _give_up(task: ShardTask, raised: Raised, *, attempts: int) -> ShardFailure:
    return ShardFailure(
        video_id=task.video.id,
        shard_index=task.shard.index,
        error=raised.error,
        message=raised.message,
        attempts=attempts,
    )
