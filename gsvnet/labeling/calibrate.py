"""How many chunks run as one batch, where the options leave it open. Settled once per output: labels depend on it.

On a CPU the answer is a constant, so that nobody's timing decides about labels. On CUDA batches grow while they pay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gsvnet.errors import WorkerError
from gsvnet.labeling.backoff import free_cached_memory, is_out_of_memory
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.network import sample_needs
from gsvnet.labeling.tasks import Device
from gsvnet.models.noise import draw_chunks
from gsvnet.models.prepared import Precision, autocast_to, prepare_for_inference
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.store.job import read_settled, write_settled

CPU_CHUNKS = 1  # one thread per batch: larger ones are no faster, and every thread holds one
CPU_CHUNKS_TWO_SIDED = 4  # a batch runs the keyframe after it too, so alone each chunk would run two
CPU_CHUNKS_PROPAGATED = 8  # the same, of a network whose chunks need little memory beside their keyframes
CPU_STRETCHES = 2  # of a network that chooses keyframes in them: each stretch holds all of its frames at full size
FRAMES_PER_CONTEXT_FRAME = 8  # a batch runs the frames around it too, which cost no more than an eighth of its own
MOST_CHUNKS = 32
LEAST_GAIN = 1.05  # a batch twice as large has to be so much faster
MEMORY_SHARE = 0.5  # of the GPU; the rest is for upsampling and for what the largest batch did not meet
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What to measure. height, width: of a video in pixels. gpu_share: of the GPU that is this worker's, 0..1."""

    height: int
    width: int
    keyframe_interval: int
    precision: Precision
    gpu_share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One batch size tried. memory_share: of the GPU's memory at the peak."""

    chunks_per_s: float
    memory_share: float


def default_cpu_chunks(model: VideoSegmenter, interval: int) -> int:
    """Chunks of `interval` frames per batch on a CPU where the options leave it open."""
    needs = sample_needs(model)
    chunks = CPU_CHUNKS
    if needs.next_keyframe:
        chunks = CPU_CHUNKS_PROPAGATED if needs.next_frame else CPU_CHUNKS_TWO_SIDED
    if needs.every_keyframe:
        chunks = CPU_STRETCHES
    return max(chunks, math.ceil(FRAMES_PER_CONTEXT_FRAME * (needs.before + needs.after) / interval))


def settle_batch_chunks(
    config: LabelConfig, device: Device, measure: Callable[[], int], *, cpu_chunks: int = CPU_CHUNKS
) -> int:
    """Chunks per batch on this kind of device: as asked for; else as an earlier run of this output settled; else new.

    Nothing settled: `measure` is called on CUDA, cpu_chunks taken on a CPU. Of several drivers that measure at once the
    first decides for all.
    """
    if config.batch_chunks != "auto":
        return config.batch_chunks
    settled = read_settled(config.out, device, config.storage_options)
    if settled is None:
        mine = {"batch_chunks": measure() if device == "cuda" else cpu_chunks}
        settled = write_settled(config.out, device, mine, config.storage_options, config.unsafe_commit)
    return int(settled["batch_chunks"])


def measure_batch_chunks(model: VideoSegmenter, calibration: Calibration) -> int:
    """Chunks per batch that pay on this GPU. Raises WorkerError where not even one chunk fits."""
    prepared = prepare_for_inference(model, device="cuda", precision=calibration.precision)

    def attempt(num_chunks: int) -> Trial | None:
        free_cached_memory()  # so that the peak is this trial's
        try:
            return _try(prepared, num_chunks, calibration)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return None
            raise

    batch_chunks = grow_batch(attempt, memory_share=MEMORY_SHARE * calibration.gpu_share)
    free_cached_memory()
    return batch_chunks


def grow_batch(attempt: Callable[[int], Trial | None], *, memory_share: float) -> int:
    """The largest of 1, 2, 4, ... that fits, keeps within its share of memory and is worth it.

    attempt: tries a number of chunks; None: they did not fit. One chunk is taken even beyond the share.
    """
    best, num_chunks = attempt(1), 1
    if best is None:
        raise WorkerError("one chunk does not fit into the GPU's memory; take a smaller --keyframe-interval or model")
    while 2 * num_chunks <= MOST_CHUNKS:
        trial = attempt(2 * num_chunks)
        if trial is None or trial.memory_share > memory_share:
            break
        if trial.chunks_per_s < LEAST_GAIN * best.chunks_per_s:
            break
        best, num_chunks = trial, 2 * num_chunks
    return num_chunks


@torch.inference_mode()
def _try(model: VideoSegmenter, num_chunks: int, calibration: Calibration) -> Trial:
    chunks = draw_chunks(
        model,
        height=calibration.height,
        width=calibration.width,
        num_chunks=num_chunks,
        interval=calibration.keyframe_interval,
        device="cuda",
    )
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(1 + ROUNDS):  # the first one warms up
        torch.cuda.synchronize()
        start = time.perf_counter()
        with autocast_to("cuda", calibration.precision):
            for _ in model.segment(chunks):
                pass
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_reserved() / torch.cuda.mem_get_info()[1]
    return Trial(chunks_per_s=num_chunks / min(seconds[1:]), memory_share=peak)
