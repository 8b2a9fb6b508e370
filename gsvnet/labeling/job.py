"""The labeling job from end to end: check, plan, label what is missing, report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from rich.console import Console

from gsvnet.chunks import shard_name
from gsvnet.errors import ModelError, VideoError
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.labeling.plan import PlanRule, VideoPlan, plan_from_dict, stored_or_new_plan
from gsvnet.labeling.progress import JobProgress, count_planned
from gsvnet.labeling.report import JobReport, count, measure, show
from gsvnet.labeling.run import Work, ray_options, run_tasks
from gsvnet.labeling.tasks import ShardFailure, ShardTask
from gsvnet.models.checkpoints import content_hash, load_model
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.models.spec import describe_model
from gsvnet.store.job import (
    FailureRecord,
    list_failures,
    list_plans,
    open_job,
    read_plan,
    remove_failure,
    write_failure,
)
from gsvnet.store.layout import derived_uri, list_committed
from gsvnet.store.manifest import write_derived
from gsvnet.store.publish import replace_bytes
from gsvnet.uris import absolute_uri, redact_uri
from gsvnet.video.source import video_id

PLANNING_THREADS = 4


def label(config: LabelConfig, *, console: Console | None = None) -> JobReport:
    """Label every frame of the videos and write Parquet; the same call on the same output does what is missing.

    Videos and shards that fail are recorded in the output and do not stop the job (see JobReport.exit_code).
    Raises ConfigError before anything is written, OutputConflict when the output belongs to another configuration.
    """
    console = console or Console(quiet=True)
    model = load_model(config.model, keyframe_model=config.keyframe_model)
    model_hash = content_hash(model)  # type: ignore[arg-type]
    uris = expand_inputs(config.videos, storage_options=config.video_options)
    if not config.no_ray:
        ray_options(config)  # refuses what no cluster could do
    job = open_job(
        config.out,
        fingerprint_fields(config, model),
        model_hash=model_hash,
        classes=model.classes,
        storage_options=config.storage_options,
        unsafe_commit=config.unsafe_commit,
    )
    uri_of = {video_id(uri): uri for uri in uris}
    plans, unusable = plan_videos(uri_of.values(), config, console=console)
    tasks, num_skipped = pending_tasks(plans, list_committed(config.out, config.storage_options))
    num_frames = sum(task.shard.num_frames for task in tasks)
    amounts = count(len(plans), "video"), count(len(tasks), "shard"), count(num_frames, "frame")
    console.print(", ".join(amounts), "to label", highlight=False)
    progress = JobProgress(console=console)
    progress.plan(num_shards=len(tasks), num_frames=num_frames)
    progress.all_planned()
    forget_failures(config, uri_of)

    def give_up(failure: ShardFailure) -> None:
        progress.fail(failure)
        record = failure_record(failure, uri_of[failure.video_id])
        write_failure(config.out, record, config.storage_options, config.unsafe_commit)

    with progress:
        for failure in unusable:
            give_up(failure)
        for uri in dict.fromkeys(task.uri for task in tasks):
            for problem in plans[uri].problems:
                progress.note(f"{redact_uri(uri)}: {problem}")
        work = Work(
            tasks=tasks,
            config=config,
            job=job,
            model=model,
            model_hash=model_hash,
            progress=progress,
            on_failure=give_up,
        )
        used = run_tasks(work)
    committed = list_committed(config.out, config.storage_options)
    report = JobReport(
        out=redact_uri(config.out),
        model=config.model,
        model_hash=model_hash,
        keyframe_interval=config.keyframe_interval,
        device=used.device,
        precision=used.precision,
        num_actors=used.num_actors,
        threads=config.cpus_per_actor,
        videos=len(plans),
        shards_in_output=len(committed),
        shards_skipped=num_skipped,
        stopped=used.stopped,
        **measure(progress),
    )
    complete = report.exit_code == 0 and is_complete(config, plans, committed)
    write_derived(config.out, storage_options=config.storage_options, complete=complete)
    text = json.dumps(report.to_dict(), indent=1).encode()
    replace_bytes(text, derived_uri(config.out, "_report.json"), config.storage_options)
    show(report, console)
    return report


def fingerprint_fields(config: LabelConfig, model: VideoSegmenter) -> dict:
    """What the labels depend on beside the model itself, by the name of the flag where there is one."""
    return {
        "model_settings": describe_settings(model),
        "keyframe_interval": config.keyframe_interval,
        "shard_seconds": config.shard_seconds,
        "shard_frames": config.shard_frames,
        "cpus_per_actor": config.cpus_per_actor,
        "decoder": config.decoder,
        "batch_chunks": config.batch_chunks,
        "precision": config.precision,
        "compile": config.compile,
        "mask_size": config.mask_size,
    }


def describe_settings(model: VideoSegmenter) -> dict:
    """Sizes, strides and resize kind: of a known family its whole description, else what it reads of common sizes."""
    try:
        return describe_model(model).to_dict()  # type: ignore[arg-type]
    except ModelError:
        return {f"{h}x{w}": asdict(model.needs(h, w)) for h, w in ((360, 640), (720, 1280), (1080, 1920))}


def plan_videos(
    uris: Iterable[str], config: LabelConfig, *, console: Console
) -> tuple[dict[str, VideoPlan], list[ShardFailure]]:
    """Plans by URI, and the videos that cannot be used."""
    rule = PlanRule(
        interval=config.keyframe_interval, shard_seconds=config.shard_seconds, shard_frames=config.shard_frames
    )

    def plan(uri: str) -> VideoPlan | ShardFailure:
        try:
            return stored_or_new_plan(
                config.out,
                uri,
                rule=rule,
                storage_options=config.storage_options,
                video_options=config.video_options,
                unsafe_commit=config.unsafe_commit,
            )
        except VideoError as error:
            return ShardFailure(
                video_id=video_id(uri), shard_index=None, error=type(error).__name__, message=str(error), attempts=1
            )

    uris = list(uris)
    with ThreadPoolExecutor(PLANNING_THREADS) as pool:
        outcomes = list(count_planned(pool.map(plan, uris), total=len(uris), console=console))
    plans = {uri: plan for uri, plan in zip(uris, outcomes) if isinstance(plan, VideoPlan)}
    return plans, [failure for failure in outcomes if isinstance(failure, ShardFailure)]


def pending_tasks(plans: dict[str, VideoPlan], committed: set[tuple[str, str]]) -> tuple[list[ShardTask], int]:
    """Shards without labels, and how many have them already."""
    tasks = [ShardTask(video=plan.video, shard=shard, uri=uri) for uri, plan in plans.items() for shard in plan.shards]
    pending = [t for t in tasks if (t.video.id, t.shard.name) not in committed]
    return pending, len(tasks) - len(pending)


def forget_failures(config: LabelConfig, videos: Iterable[str]) -> None:
    """Remove what earlier runs recorded of videos (ids) that this run takes up again."""
    tried_again = set(videos)
    for record in list_failures(config.out, config.storage_options):
        if record.video in tried_again:
            remove_failure(config.out, record, config.storage_options)


def is_complete(config: LabelConfig, plans: Mapping[str, VideoPlan], committed: set[tuple[str, str]]) -> bool:
    """Whether every video of the output has all its labels, also those that earlier runs were given."""
    if list_failures(config.out, config.storage_options, committed=committed):
        return False
    shards_of = {plan.video.id: [shard.name for shard in plan.shards] for plan in plans.values()}
    with ThreadPoolExecutor(PLANNING_THREADS) as pool:
        others = [name for name in list_plans(config.out, config.storage_options) if name not in shards_of]
        stored = pool.map(lambda name: read_plan(config.out, name, config.storage_options), others)
        for name, data in zip(others, stored):
            shards_of[name] = [shard.name for shard in plan_from_dict(data or {}, name).shards]
    return all((video, shard) in committed for video, shards in shards_of.items() for shard in shards)


def failure_record(failure: ShardFailure, uri: str) -> FailureRecord:
    """The failure as `_failed/` keeps it. uri: of its video; credentials are left out."""
    return FailureRecord(
        video=failure.video_id,
        uri=absolute_uri(uri),
        shard=None if failure.shard_index is None else shard_name(failure.shard_index),
        error=failure.error,
        message=failure.message,
        attempts=failure.attempts,
    )
