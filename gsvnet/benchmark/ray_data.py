"""Ray Data around the same network, every frame by itself, as a competent user would write it, against ours at L=5.

Tasks decode ranges of frames and bring them to the network's size, a pool of actors labels them in batches, one core
each, and Ray Data writes Parquet. Frames go through the object store. The clock starts when the first actor has its
first batch: Ray's start and the actors' are not counted.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gsvnet.benchmark.children import Child
from gsvnet.benchmark.labeling import loop_clip
from gsvnet.benchmark.material import import_extra
from gsvnet.benchmark.plain_loop import INTERVAL, start_ours
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import medians
from gsvnet.models.checkpoints import load_checkpoint, save_checkpoint
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.prepared import Precision, autocast_to
from gsvnet.video.index import index_video

OUR_FRAMES, THEIR_FRAMES = 40, 24
ROUNDS = 2  # each starts actors anew, which takes longer than it runs
RANGE_FRAMES = 6  # of one decoding task
BATCH_FRAMES = 2
PRECISION: Precision = "bf16"
CHECKPOINT = "network.safetensors"


def measure_ray_data(setting: Setting, *, ours: int = OUR_FRAMES, theirs: int = THEIR_FRAMES) -> Row:
    """Row ray_data: both at their fastest precision; peak memory of both in `detail`."""
    for module in ("pandas", "psutil", "ray.data"):
        import_extra(module, "benchmark")
    setting = replace(setting, video=loop_clip(setting.video, max(ours, theirs), setting.folder))
    with (
        Child(start_ours, setting, PRECISION, ours, as_labeling=True) as us,
        Child(start_ray_data, setting, theirs, as_labeling=False) as them,
    ):
        runs: dict[str, list[float]] = {"ours": [], "Ray Data": []}
        (_, our_bytes), (started, their_bytes) = us.with_peak_memory(), them.with_peak_memory()
        for _ in range(min(ROUNDS, setting.rounds)):
            began = time.perf_counter()
            us()
            runs["ours"].append((time.perf_counter() - began) / ours)
            runs["Ray Data"].append(them()["seconds"] / theirs)
    frame_s = medians(runs)
    return Row(
        name="ray_data",
        ratio=frame_s["Ray Data"] / frame_s["ours"],
        unit="times as fast",
        seconds=frame_s,
        detail={
            "note": f"per frame, both {PRECISION}; memory {our_bytes / 2**30:.2f} of {their_bytes / 2**30:.2f} GiB; "
            f"their start, {started['start_s']:.0f} s, not counted",
            "memory_ratio": our_bytes / their_bytes,
            "peak_bytes": {"ours": our_bytes, "Ray Data": their_bytes},
            "start_s": started["start_s"],
            "interval": INTERVAL,
            "precision": PRECISION,
        },
    )


def start_ray_data(setting: Setting, num_frames: int) -> Callable[[], dict[str, float]]:
    """A function that labels the first frames with Ray Data: seconds, and those of the start, which are not in them."""
    with (setting.folder / "ray.log").open("w") as log:
        os.dup2(log.fileno(), 2)  # Ray's C++ part writes there what nobody can switch off; errors are raised as well
    ray = import_extra("ray", "label")
    ray_data = import_extra("ray.data", "benchmark")
    ray_data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # One slot more than cores: the actors hold theirs all the time, and decoding needs one now and then.
    ray.init(num_cpus=setting.threads + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    save_checkpoint(setting.folder / CHECKPOINT, setting.model, half=False)
    numbers = count()
    return lambda: label_with_ray_data(setting, num_frames, setting.folder / f"ray-data-{next(numbers)}")


def label_with_ray_data(setting: Setting, num_frames: int, out: Path) -> dict[str, float]:
    """Label the first frames of the clip into Parquet files in `out`; see `start_ray_data`."""
    ray_data = import_extra("ray.data", "benchmark")
    size = setting.model.needs(*setting.size).keyframe_size
    pts = index_video(str(setting.video)).pts[:num_frames].tolist()
    ranges = [{"first": i, "pts": pts[i : i + RANGE_FRAMES]} for i in range(0, num_frames, RANGE_FRAMES)]
    called = time.time()
    (
        ray_data.from_items(ranges, override_num_blocks=len(ranges))
        .flat_map(partial(decode_range, str(setting.video), size))
        .map_batches(
            Labeler,
            fn_constructor_args=(str(setting.folder / CHECKPOINT), setting.size),
            batch_size=BATCH_FRAMES,
            num_cpus=1,
            concurrency=setting.threads,
        )
        .write_parquet(str(out))
    )
    ended = time.time()
    began = float(import_extra("pandas", "benchmark").read_parquet(out, columns=["began"])["began"].min())
    return {"seconds": ended - began, "start_s": began - called}


def decode_range(video: str, size: tuple[int, int], row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The frames of one range: index and RGB pixels (h, w, 3) uint8 at the network's size."""
    av = import_extra("av", "label")
    wanted = dict(zip(np.asarray(row["pts"]).tolist(), range(int(row["first"]), int(row["first"]) + len(row["pts"]))))
    with av.open(video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        container.seek(min(wanted), stream=stream)
        for frame in container.decode(stream):
            if frame.pts in wanted:
                image = frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="AREA").to_ndarray()
                yield {"index": wanted[frame.pts], "image": image}
            if frame.pts >= max(wanted):
                return


class Labeler:
    """The actor: the network on a batch of frames, then interpolate, argmax, PNG."""

    def __init__(self, checkpoint: str, size: tuple[int, int]) -> None:
        model = load_checkpoint(checkpoint)
        assert isinstance(model, GSVNet)
        self.net = nn.Sequential(model.keyframe_normalise, model.keyframe_network).eval()
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.size, self.align_corners = size, model.align_corners
        torch.set_num_threads(1)
        with torch.inference_mode(), autocast_to("cpu", PRECISION):  # the first run is slow
            self.net(torch.zeros(BATCH_FRAMES, 3, *model.needs(*size).keyframe_size))

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Label maps as PNG, and when work began."""
        from gsvnet.benchmark.masks import encode_png

        began = time.time()
        pixels = torch.from_numpy(np.ascontiguousarray(batch["image"])).permute(0, 3, 1, 2)
        with autocast_to("cpu", PRECISION):
            logits = self.net(pixels.float())
        masks = []
        for one in logits.float():  # one at a time: full-size logits of a frame take 160 MB
            full = F.interpolate(one[None], self.size, mode="bilinear", align_corners=self.align_corners)
            masks.append(encode_png(full.argmax(1)[0].to(torch.uint8).numpy()))
        return {"index": batch["index"], "mask": masks, "began": np.full(len(masks), began)}
