"""What a shard costs by itself: opening and seeking, filling the pipeline, spool, footer, fsync, publishing.

Shards of two lengths are labeled with networks that take no time; what the longer one's further frames do not explain
is the constant. It is stated as a share of a whole shard with the real networks at their fastest.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gsvnet.benchmark.labeling import ClipLabeler, label_setting, loop_clip
from gsvnet.benchmark.overlap import INTERVAL, make_waiting
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import medians, time_in_turns
from gsvnet.benchmark.waiting import WaitingSegmenter

SHARD_S = 60.0
SHORT, LONG, FIRST = 10, 60, 90
"""Frames of both shards, and where in the clip they begin: behind a second, so that the margin of a seek is in it."""
REAL_FRAMES = 40
FRAMES_PER_S = 30.0  # of the shard that the constant is compared with
_BUCKET = "gsvnet-benchmark"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where shards are published. out: None for a local folder."""

    name: str
    out: str | None = None
    options: dict | None = None


def measure_overhead(setting: Setting, *, short: int = SHORT, long: int = LONG, first: int = FIRST) -> Row:
    """Row overhead: percent of a 60 s shard's time, published to a local folder; S3 (moto) in `detail`."""
    setting = replace(setting, video=loop_clip(setting.video, first + long + REAL_FRAMES, setting.folder))
    waiting = make_waiting(setting, interval=INTERVAL)
    real = label_setting(setting, setting.video, interval=INTERVAL, precision="bf16")
    real.label(INTERVAL)
    frame_s = real.label(REAL_FRAMES, first_frame=first).frame_s
    measure = partial(_measure_constant, setting, waiting, short=short, long=long, first=first)
    figures = {"local": measure(Target(name="local"))}
    with _s3() as target:
        if target is not None:
            figures["S3"] = measure(target)
    frames = SHARD_S * FRAMES_PER_S
    shares = {name: 100 * f["constant_s"] / (f["constant_s"] + frames * frame_s) for name, f in figures.items()}
    constant_s = figures["local"]["constant_s"]
    return Row(
        name="overhead",
        ratio=shares["local"],
        unit="percent of a 60 s shard",
        seconds={"per shard": constant_s, "per frame": frame_s},
        detail={
            "note": ", ".join(f"{name} {share:.2f} %" for name, share in shares.items())
            + f" of {frames:.0f} frames; next shard not prefetched",
            "percent": shares,
            "constants": figures,
            "frame_s": frame_s,
            "percent_if_networks_took_no_time": {
                name: 100 * f["constant_s"] / (f["constant_s"] + frames * f["frame_s"]) for name, f in figures.items()
            },
        },
    )


def _measure_constant(
    setting: Setting, waiting: WaitingSegmenter, target: Target, *, short: int, long: int, first: int
) -> dict[str, float]:
    """Seconds per shard and per frame without the networks."""
    labeler = ClipLabeler(
        waiting,
        setting.video,
        interval=INTERVAL,
        precision="fp32",
        threads=setting.threads,
        folder=setting.folder / f"overhead-{target.name}",
        out=target.out,
        storage_options=target.options,
    )
    runs = {name: partial(labeler.label, n, first_frame=first) for name, n in (("short", short), ("long", long))}
    seconds = medians(time_in_turns(runs, rounds=setting.rounds))
    frame_s = (seconds["long"] - seconds["short"]) / (long - short)
    return {"constant_s": seconds["short"] - short * frame_s, "frame_s": frame_s}


@contextmanager
def _s3() -> Iterator[Target | None]:
    """A bucket on a server in this process; None where moto or s3fs is not installed."""
    try:
        moto, s3fs = importlib.import_module("moto.server"), importlib.import_module("s3fs")
    except ImportError:
        yield None
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would report every request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options: dict[str, Any] = {"key": "k", "secret": "s", "endpoint_url": f"http://{host}:{port}"}
        s3fs.S3FileSystem(**options).mkdir(_BUCKET)
        yield Target(name="S3", out=f"s3://{_BUCKET}/labels", options=options)
    finally:
        server.stop()
