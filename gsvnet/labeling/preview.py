"""What `gsvnet label` would do with the same arguments: which videos, how much work, at what price."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from gsvnet.errors import MissingExtra, OutputConflict, StoreError
from gsvnet.labeling.config import LabelConfig, PlanConfig
from gsvnet.labeling.fingerprint import FRAMES_AROUND, frames_around
from gsvnet.labeling.forecast import Forecast, Speed, forecast, make_trial, measure_speeds
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.labeling.job import own_share, plan_request
from gsvnet.labeling.network import load_network, motion_wish
from gsvnet.labeling.planning import Planned
from gsvnet.labeling.progress import LINE_EVERY_S
from gsvnet.labeling.survey import Survey
from gsvnet.labeling.workplace import local_device, open_workplace
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.store.job import read_job
from gsvnet.store.layout import list_committed
from gsvnet.video.source import video_id

_WAIT_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a job would do. forecast: None without calibration or where nothing is to label."""

    config: LabelConfig
    survey: Survey
    forecast: Forecast | None = None

    @property
    def price(self) -> float | None:
        """Of all GPU hours, in the currency of --gpu-hour-price; None without one, or without GPUs."""
        price = self.config.gpu_hour_price
        if price is None or self.forecast is None or not self.forecast.gpus_per_actor:
            return None
        return self.forecast.gpu_hours * price

    @property
    def exit_code(self) -> int:
        """3 where a video cannot be used, as `gsvnet label` would end; else 0."""
        survey = self.survey
        known = survey.num_shards + survey.num_failed
        too_many = bool(known) and survey.num_failed / known > self.config.limits.max_failed_fraction
        return 3 if too_many and not self.config.limits.partial_ok else 0


def preview(config: PlanConfig, *, console: Console) -> Preview:
    """Plan all videos and measure the speed of an actor. With an output the plans are kept there for `gsvnet label`.

    Raises ConfigError as `gsvnet label` would, OutputConflict when the output is cut by another rule.
    """
    job = config.job
    model = load_network(job)
    if job.out:
        check_rule(job, model)
    committed = list_committed(job.out, job.storage_options) if job.out else ()
    note = partial(console.print, markup=False, highlight=False)
    uris = expand_inputs(job.videos, storage_options=job.video_options, note=note)
    asked = {video_id(uri): uri for uri in uris}
    wanted = list(own_share(asked, job).values())
    survey = Survey(array_count=job.array_count if job.array_index is None else None)
    with open_workplace(job) as workplace:
        planned = workplace.plan(plan_request(job, model), wanted)
        for video in _shown(planned, total=len(wanted), console=console):
            survey.add(video, committed)
        expected = None
        if not config.no_calibrate and survey.frames_to_label:
            with console.status("measuring the speed of an actor"):
                expected = predict(job, survey, model)
    return Preview(config=job, survey=survey, forecast=expected)


def check_rule(config: LabelConfig, model: VideoSegmenter) -> None:
    """Raise OutputConflict where the output's job cuts videos by another rule."""
    try:
        fields = read_job(config.out, config.storage_options).fields
    except StoreError:  # no job there yet; planning says it if the store is down
        return
    ours: dict[str, object] = {
        name: getattr(config, name) for name in ("keyframe_interval", "shard_seconds", "shard_frames")
    }
    differing = [
        f"--{name.replace('_', '-')}: {fields[name]} in the output, {value} now"
        for name, value in (ours | {"motion": motion_wish(config, model)}).items()
        if name in fields and fields[name] != value
    ]
    theirs, mine = fields.get(FRAMES_AROUND, [0, 0]), frames_around(model)
    if theirs != mine:
        looks = "frames that the network looks at before and after a batch (--model, --references)"
        differing.append(f"{looks}: {theirs} in the output, {mine} now")
    if differing:
        raise OutputConflict(
            f"{config.out} belongs to a job with other settings; use the same, or another --out. "
            f"Different are {'; '.join(differing)}"
        )


def predict(config: LabelConfig, survey: Survey, model: VideoSegmenter) -> Forecast:
    """The forecast for what is to label, on this process or on the cluster, as the job would run."""
    return (_predict_here if config.no_ray else _predict_on_ray)(config, survey, model)


def _predict_here(config: LabelConfig, survey: Survey, model: VideoSegmenter) -> Forecast:
    device = local_device(config)
    started_s = time.perf_counter()
    speeds = measure_speeds(make_trial(config, survey.sizes, model, device=device), model, device)
    start_s = _time_to_start(started_s, speeds)
    gpus = 1.0 if device == "cuda" else 0.0
    return forecast(
        speeds, survey.sizes, config=config, device=device, num_actors=1, gpus_per_actor=gpus, start_s=start_s
    )


def _predict_on_ray(config: LabelConfig, survey: Survey, model: VideoSegmenter) -> Forecast:
    try:
        from gsvnet.labeling.ray.cluster import connect
        from gsvnet.labeling.ray.forecast import measure_on_ray
        from gsvnet.labeling.ray.workplace import ray_options
    except ImportError as error:
        raise MissingExtra("ray", "label") from error
    with connect(min_cpus=config.cpus_per_actor) as cluster:
        options, num_actors = cluster.fit(ray_options(config))
        gpus = (options.gpus_per_actor or 0.0) if config.device != "cpu" else 0.0
        trial = make_trial(config, survey.sizes, model, device="cuda" if gpus else "cpu", gpu_share=min(1.0, gpus))
        started_s = time.perf_counter()
        speeds = measure_on_ray(trial, model, options)
        start_s = _time_to_start(started_s, speeds)
    return forecast(
        speeds,
        survey.sizes,
        config=config,
        device="cuda" if gpus else "cpu",
        num_actors=num_actors,
        gpus_per_actor=gpus,
        start_s=start_s,
    )


def _time_to_start(started_s: float, speeds: Sequence[Speed]) -> float:
    """Of the time since `started_s`, what went into starting and building the worker, not into labeling."""
    labeling_s = sum(speed.warm_up_s + speed.seconds for speed in speeds)
    return max(0.0, time.perf_counter() - started_s - labeling_s)


def _shown(planned: Iterable[Planned | None], *, total: int, console: Console) -> Iterator[Planned]:
    """The same; while they are made a spinner turns on a terminal, elsewhere a line comes every 30 s."""
    last_line_s, number = time.monotonic(), 0
    with console.status(f"reading what {total:,} videos hold") as status:
        for video in planned:
            if video is None:
                time.sleep(_WAIT_S)
            else:
                number += 1
                yield video
            text = f"{number:,} of {total:,} videos planned"
            status.update(text)
            if not console.is_terminal and time.monotonic() - last_line_s >= LINE_EVERY_S:
                last_line_s = time.monotonic()
                console.print(text, highlight=False)
