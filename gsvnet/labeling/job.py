"""The labeling job from end to end: check, plan, label what is missing, report."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain

from rich.console import Console

from gsvnet.errors import CorruptLabels, StoreError
from gsvnet.labeling.completeness import state_of_output
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.failures import earlier_failures, failure_recorder
from gsvnet.labeling.fingerprint import fingerprint_fields
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.labeling.ledger import Ledger
from gsvnet.labeling.network import load_network, plan_rule, sample_needs
from gsvnet.labeling.plan import check_output_rule
from gsvnet.labeling.planning import PlanRequest, in_share
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.report import JobReport, measure, show
from gsvnet.labeling.tasks import ShardTask
from gsvnet.labeling.unplanned import changed_without_plan
from gsvnet.labeling.workplace import Used, Work, open_workplace
from gsvnet.models.content_hash import content_hash
from gsvnet.models.segmenter import VideoSegmenter
from gsvnet.store.job import JobRecord, open_job
from gsvnet.store.layout import derived_uri, list_committed
from gsvnet.store.manifest import Spread, remove_success, write_derived
from gsvnet.store.publish import replace_bytes
from gsvnet.uris import redact_uri
from gsvnet.video.source import video_id


def label(config: LabelConfig, *, console: Console | None = None) -> JobReport:
    """Label every frame of the videos and write Parquet; the same call on the same output does what is missing.

    Videos and shards that fail are recorded in the output and do not stop the job (see JobReport.exit_code).
    Raises ConfigError before anything is written, OutputConflict when the output belongs to another configuration, and
    what stops a job in the middle (storage down for long, too many actors lost, a full disk) once it is reported.
    """
    config.check_for_labeling()
    console = console or Console(quiet=True)
    model = load_network(config)
    notes: list[str] = []
    uris = expand_inputs(config.videos, storage_options=config.video_options, note=notes.append)
    asked = {video_id(uri): uri for uri in uris}
    videos = own_share(asked, config)
    with open_workplace(config) as workplace:
        check_output_rule(config.out, plan_rule(config, model), config.storage_options)
        job = claim_output(config, model)
        committed = list_committed(config.out, config.storage_options)
        given_up = earlier_failures(config, videos, committed)
        ledger = Ledger(committed=committed, given_up=given_up)
        with JobProgress(console=console) as progress:
            if len(asked) < len(uris):
                notes.append(f"{len(uris) - len(asked)} URIs name a video of the list once more (no query counts)")
            for text in notes:
                progress.note(text)
            work = Work(
                config=config,
                job=job,
                model=model,
                model_hash=job.model_hash,
                progress=progress,
                on_failure=failure_recorder(config, videos, progress),
            )
            wanted = {name: uri for name, uri in videos.items() if (name, None) not in given_up}
            changed = {video.uri: video for video in changed_without_plan(config, job, wanted, committed)}
            unchanged = [uri for uri in wanted.values() if uri not in changed]
            planned = chain(changed.values(), workplace.plan(plan_request(config, model), unchanged))
            tasks = ledger.pending(planned, progress=progress, on_failure=work.on_failure)
            used = workplace.label(work, no_longer_complete(config, tasks))
        report = finish(work, used, ledger, asked=asked, spread=workplace.spread)
    show(report, console)
    if used.error is not None:
        raise used.error
    return report


def finish(work: Work, used: Used, ledger: Ledger, *, asked: Collection[str], spread: Spread) -> JobReport:
    """Write the derived files and the report, which comes back. asked: ids of all videos that were named.

    After a stop only the report is written: whoever stopped the job may not wait for listings. Raises CorruptLabels,
    once it is reported, where a label file is damaged or of another job.
    """
    config, options = work.config, work.config.storage_options
    if used.stopped:
        report = make_report(work, used, ledger)
        with suppress(StoreError):
            write_report(config, report)
        return report
    committed = list_committed(config.out, options)
    report = make_report(work, used, ledger, shards_in_output=len(committed))
    state = state_of_output(config, asked=asked, known=ledger.num_shards, committed=committed)
    if state == "partial" and config.array_count is not None:
        work.progress.note("the array is not done; the job that finds nothing missing writes the manifest")
        if work.progress.num_failed:  # of this job's own videos something is missing
            remove_success(config.out, options)
    else:
        if state == "settled" and config.array_count is None and not (ledger.given_up or work.progress.num_failed):
            work.progress.note(
                "no _SUCCESS: _failed/ lists videos that were not asked for now; of those that are not to be labeled "
                "any more, delete _failed/ID and _plan/ID.json"
            )
        try:
            write_derived(config.out, storage_options=options, complete=state == "complete", spread=spread)
        except CorruptLabels as error:
            with suppress(StoreError):
                write_report(config, replace(report, stopped=True))
            raise CorruptLabels(f"{error}; gsvnet verify says what to do") from error
    write_report(config, report)
    return report


def no_longer_complete(config: LabelConfig, tasks: Iterator[ShardTask | None]) -> Iterator[ShardTask | None]:
    """The same shards; the first one takes the output's _SUCCESS away."""
    is_first = True
    for task in tasks:
        if is_first and task is not None:
            remove_success(config.out, config.storage_options)
            is_first = False
        yield task


def claim_output(config: LabelConfig, model: VideoSegmenter) -> JobRecord:
    """The output's job record, new or of the same fingerprint. Raises as `open_job` does."""
    return open_job(
        config.out,
        fingerprint_fields(config, model),
        model_hash=content_hash(model),  # type: ignore[arg-type]
        classes=model.classes,
        storage_options=config.storage_options,
        unsafe_commit=config.unsafe_commit,
    )


def own_share(videos: Mapping[str, str], config: LabelConfig) -> dict[str, str]:
    """Of the videos (id -> URI) those of this job of an array; all without one."""
    if config.array_count is None or config.array_index is None:
        return dict(videos)
    index, count = config.array_index, config.array_count
    return {name: uri for name, uri in videos.items() if in_share(name, index, count)}


def plan_request(config: LabelConfig, model: VideoSegmenter) -> PlanRequest:
    """How the job's videos are planned."""
    return PlanRequest(
        out=config.out or None,
        rule=plan_rule(config, model),
        storage_options=config.storage_options,
        video_options=config.video_options,
        unsafe_commit=config.unsafe_commit,
        outage_timeout_s=config.limits.outage_timeout_s,
    )


def make_report(work: Work, used: Used, ledger: Ledger, *, shards_in_output: int | None = None) -> JobReport:
    """What the run did. shards_in_output: as listed; None: those that this run knows of."""
    config, shards_skipped = work.config, ledger.num_labeled_before + work.progress.num_elsewhere
    known_in_output = shards_skipped + work.progress.num_labeled
    return JobReport(
        out=redact_uri(config.out),
        model=config.model,
        model_hash=work.model_hash,
        keyframe_interval=config.keyframe_interval,
        device=used.device,
        precision=used.precision,
        num_actors=used.num_actors,
        threads=config.cpus_per_actor,
        videos=len(ledger.num_shards),
        shards_in_output=known_in_output if shards_in_output is None else shards_in_output,
        shards_skipped=shards_skipped,
        failed_earlier=len(ledger.given_up),
        stopped=used.stopped,
        usage=used.usage,
        max_failed_fraction=config.limits.max_failed_fraction,
        partial_ok=config.limits.partial_ok,
        gpu_hour_price=config.gpu_hour_price,
        basis=sample_needs(work.model).basis,
        smooth=config.smooth,
        min_agreement=config.min_agreement,
        **measure(work.progress),
    )


def write_report(config: LabelConfig, report: JobReport) -> None:
    """Leave the report in the output."""
    text = json.dumps(report.to_dict(), indent=1).encode()
    replace_bytes(text, derived_uri(config.out, "_report.json"), config.storage_options)
