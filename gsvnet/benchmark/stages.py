"""What a frame costs, stage by stage: CPU time on all cores together, so that stages which overlap still add up.

On a GPU the networks' figures are time on the wall instead, to the end of what each part queued.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from gsvnet.benchmark.material import plan_whole, read_chunks
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.running import run_model, torch_threads, wait_for
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import measure_in_turns, medians
from gsvnet.benchmark.writing import write_masks
from gsvnet.labeling.batching import views_by_need
from gsvnet.labeling.device import to_device
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.prepared import Precision, prepare_for_inference
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch
from gsvnet.nn.confidence import measure_confidence
from gsvnet.nn.upsample import upsample_labels
from gsvnet.store.codec import encode_and_count
from gsvnet.video.decode import read_pictures
from gsvnet.video.frames import render

INTERVAL, NUM_CHUNKS = 5, 2
WRITTEN_ROWS = 300  # ten seconds of video: what a shard costs by itself is another row
BEFORE, AFTER = ("decode", "resize"), ("upsample", "encode", "write")
NETWORKS = ("keyframe network", "flow", "intra", "recursion", "around them")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")

Result = TypeVar("Result")


def measure_stages(setting: Setting) -> Row:
    """Row stages: milliseconds per frame in fp32 and bf16; the ratio is the networks' share in the faster of both."""
    chunks = read_chunks(
        setting.video, setting.model, interval=INTERVAL, num_chunks=NUM_CHUNKS, threads=setting.threads
    ).chunks
    outputs = run_model(setting.model, chunks, precision="fp32")
    with torch_threads(setting.threads):
        networks = {p: measure_networks(setting, chunks, precision=p) for p in PRECISIONS}
    with torch_threads(1):  # as in the worker's pool
        around = _measure_around(setting, outputs)
    before, after = ({name: around[name] for name in names} for names in (BEFORE, AFTER))
    stages: dict[str, dict[str, float]] = {precision: before | parts | after for precision, parts in networks.items()}
    return summarise(stages, device=setting.device)


def summarise(stages: Mapping[str, Mapping[str, float]], *, device: str = "cpu") -> Row:
    """The row of seconds per frame by precision and stage. device: where the networks ran."""
    clock = "all cores added up" if device == "cpu" else "networks by the clock, the rest CPU time"
    totals: dict[str, float] = {precision: sum(seconds.values()) for precision, seconds in stages.items()}
    fastest = min(totals, key=lambda precision: totals[precision])
    table = [
        {
            "stage": name,
            **{f"{precision}_ms": 1000 * stages[precision][name] for precision in stages},
            **{f"{precision}_share": stages[precision][name] / totals[precision] for precision in stages},
        }
        for name in stages[fastest]
    ]
    return Row(
        name="stages",
        ratio=sum(stages[fastest][name] for name in NETWORKS) / totals[fastest],
        unit="of a frame's work",
        seconds=totals,
        detail={
            "note": f"per frame at L={INTERVAL}, {clock}; the share is that in {fastest}; upsample with confidence",
            "interval": INTERVAL,
            "stages": table,
        },
    )


@torch.inference_mode()
def measure_networks(setting: Setting, chunks: ChunkBatch, *, precision: Precision) -> dict[str, float]:
    """Seconds per frame of each part of `segment`, medians over rounds."""
    model = prepare_for_inference(setting.model, device=setting.device, precision=precision)
    assert isinstance(model, GSVNet)
    chunks, clock = to_device(chunks, setting.device), _PartClock(setting.device)
    rounds: dict[str, list[float]] = defaultdict(list)
    run = clock.timed("all", partial(run_model, model, chunks, precision=precision, device=setting.device))
    with _parts_timed(model, clock):
        for number in range(-1, setting.rounds):
            clock.seconds.clear()
            run()
            parts = {name: clock.seconds[name] for name in NETWORKS[:-1]}
            parts[NETWORKS[-1]] = clock.seconds["all"] - sum(parts.values())
            for name, seconds in parts.items() if number >= 0 else ():
                rounds[name].append(seconds / (NUM_CHUNKS * INTERVAL))
    return medians(rounds)


class _PartClock:
    """Adds up seconds by part: CPU seconds of this process, or on the wall for a GPU."""

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device, self._now = device, time.perf_counter if device == "cuda" else time.process_time

    def timed(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """The same function, timed."""

        def run(*args: Any, **options: Any) -> Result:
            wait_for(self._device)
            start = self._now()
            result = function(*args, **options)
            wait_for(self._device)
            self.seconds[name] += self._now() - start
            return result

        return run


@contextmanager
def _parts_timed(model: GSVNet, clock: _PartClock) -> Iterator[None]:
    """Inside the block the parts of `segment` are timed."""
    parts: list[tuple[nn.Module, str, str]] = [
        (model.keyframe_network, "forward", "keyframe network"),
        (model.propagation, "estimate_flow", "flow"),
        (model.propagation, "glance", "intra"),
        (model.propagation, "step", "recursion"),
    ]
    for module, method, name in parts:
        module.__dict__[method] = clock.timed(name, getattr(module, method))
    try:
        yield
    finally:
        for module, method, _ in parts:
            del module.__dict__[method]


def _measure_around(setting: Setting, outputs: list[LogitsBatch]) -> dict[str, float]:
    """CPU seconds per frame of what is done around the networks, each by one thread."""
    plan = plan_whole(setting.video, interval=INTERVAL)
    needs, num_frames = setting.model.needs(*setting.size), NUM_CHUNKS * INTERVAL
    shard = plan.shards[0]

    def read() -> list[Any]:
        pictures = read_pictures(str(setting.video), start_pts=shard.start_pts, end_pts=shard.end_pts)
        return list(islice(pictures, num_frames))

    def resize(pictures: list[Any]) -> None:
        views = views_by_need(shard, interval=INTERVAL, needs=needs)
        for index, picture in enumerate(pictures, start=shard.first_frame):
            for view in views(index):
                render(picture.image, view, plan.video.rotation)

    with torch.inference_mode():
        pictures, maps = read(), _upsample(outputs, setting.size)
        masks = _encode(maps, len(setting.model.classes))
        write = partial(write_masks, masks, folder=setting.folder, size=setting.size, classes=setting.model.classes)
        runs: dict[str, Callable[[], Any]] = {
            "decode": read,
            "resize": partial(resize, pictures),
            "upsample": partial(_upsample, outputs, setting.size),
            "encode": partial(_encode, maps, len(setting.model.classes)),
            "write": partial(write, num_rows=WRITTEN_ROWS),
        }
        seconds = medians(measure_in_turns(runs, rounds=setting.rounds).cpu)
    return {name: s / (WRITTEN_ROWS if name == "write" else num_frames) for name, s in seconds.items()}


def _upsample(outputs: list[LogitsBatch], size: tuple[int, int]) -> list[np.ndarray]:
    maps: list[np.ndarray] = []
    for output in outputs:
        maps += list(upsample_labels(output.logits, size, align_corners=output.align_corners).numpy())
        measure_confidence(output.logits, gain=output.gain)
    return maps


def _encode(maps: list[np.ndarray], num_classes: int) -> list[bytes]:
    return [encode_and_count(labels, num_classes)[0] for labels in maps]
