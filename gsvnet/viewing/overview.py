"""What the report says in words: of the output, of its last run, of a video, and in the table of all videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.store.job import FailureRecord
from gsvnet.store.read import Labels
from gsvnet.uris import redact_uri
from gsvnet.viewing.facts import OutputFacts, VideoFacts
from gsvnet.viewing.page import class_chips
from gsvnet.viewing.run import RunFacts
from gsvnet.viewing.spans import Span
from gsvnet.viewing.words import (
    clock,
    duration,
    main_classes,
    main_classes_in_words,
    percent,
    shorten,
)
from gsvnet.words import count, interval_in_words, size_in_words

MAX_ROWS, MAX_FAILURES, MAX_TROUBLES = 500, 30, 6


def describe_output(labels: Labels, facts: OutputFacts, run: RunFacts | None, shown: Sequence[str]) -> dict[str, Any]:
    """badges, figures, classes, facts, run and failures of the template. shown: videos whose footers are asked."""
    failures = [_describe_failure(failure) for failure in facts.failures[:MAX_FAILURES]]
    return {
        "badges": _badges(facts),
        "figures": _figures(facts),
        "classes": _classes(labels.classes, facts),
        "facts": _job_facts(labels, run, shown),
        "run": None if run is None else _describe_run(run),
        "failures": failures,
        "more_failures": max(0, len(facts.failures) - MAX_FAILURES),
    }


def _badges(facts: OutputFacts) -> list[dict[str, str]]:
    num_failed = len(facts.failures)
    missing = facts.num_missing
    if facts.complete:
        state = {"kind": "good", "text": "complete"}
    elif missing or num_failed:
        state = {"kind": "bad", "text": f"{count(missing, 'shard')} without labels" if missing else "not complete"}
    else:
        state = {"kind": "", "text": "not marked as complete"}
    return [state] + ([{"kind": "bad", "text": f"{num_failed:,} given up"}] if num_failed else [])


def _figures(facts: OutputFacts) -> list[dict[str, str]]:
    frames = sum(summary.frames for summary in facts.summaries)
    lost = sum(summary.lost for summary in facts.summaries)
    damaged = sum(summary.damaged for summary in facts.summaries)
    gaps = sum(video.gap_frames for video in facts.videos)
    values = {
        "videos": f"{len(facts.summaries):,}",
        "frames": f"{frames:,}",
        "of video": duration(sum(summary.labeled_s for summary in facts.summaries)),
        "frames lost": f"{lost:,}",
        "frames damaged": _some(damaged),
        "frames without labels": f"{gaps:,}",
        "of label files": size_in_words(facts.label_bytes),
        "bytes a frame": f"{facts.label_bytes / frames:,.0f}" if frames else "",
    }
    if not gaps:
        del values["frames without labels"]
    return [{"name": name, "value": value} for name, value in values.items() if value]


def _classes(classes: ClassSet, facts: OutputFacts) -> list[dict[str, str]]:
    areas = np.array([(s.frames - s.lost) * s.height * s.width for s in facts.summaries], np.float64)
    shares = np.array([s.shares for s in facts.summaries]).reshape(-1, len(classes))
    means = areas @ shares / areas.sum() if areas.any() else None
    chips = class_chips(classes)
    return [chip | {"share": "" if means is None else percent(means[i])} for i, chip in enumerate(chips)]


def _job_facts(labels: Labels, run: RunFacts | None, shown: Sequence[str]) -> list[dict[str, Any]]:
    fields, job = labels.job.fields, labels.job
    settings = fields.get("model_settings")
    family = settings.get("family", "") if isinstance(settings, dict) else ""
    footers = [labels.footer(video) for video in shown]
    made = sorted({f"{footer.precision} on {footer.device}, decoded by {footer.decoder}" for footer in footers})
    source = redact_uri(str((job.compacted or {}).get("source", "")))
    lines = {
        "output": (redact_uri(labels.uri), True),
        "compacted from": (source, True),
        "model": (", ".join(filter(None, (run.model if run else "", str(family)))), False),
        "model hash": (job.model_hash[:12], True),
        "job fingerprint": (job.fingerprint[:12], True),
        "keyframe interval": (interval_in_words(fields), False),
        "mask size": (str(fields.get("mask_size", "")), False),
        "computed in": ("; ".join(made), False),
        "classes": (f"{labels.classes.name}, {len(labels.classes)}", False),
    }
    return [{"name": name, "value": value, "mono": mono} for name, (value, mono) in lines.items() if value]


def _describe_run(run: RunFacts) -> dict[str, Any]:
    speed = f"{run.frames_per_s:,.1f} frames/s ({run.times_realtime:,.2f}x realtime)"
    workers = f"{run.num_actors} x {run.device}, {run.precision}"
    mishaps = ((run.retries, "retry", "retries"), (run.actors_lost, "lost worker", "lost workers"),
               (run.outages, "outage", "outages"))  # fmt: skip
    parts = [f"{number:,} {one if number == 1 else many}" for number, one, many in mishaps if number]
    parts += [f"{run.gpu_hours:.2f} GPU hours"] if run.gpu_hours else []
    parts += [f"cost {run.cost:,.2f}"] if run.cost is not None else []
    parts += [f"exit code {run.exit_code}"] if run.exit_code else []
    return {
        "sentence": f"{run.frames:,} frames in {duration(run.wall_s)}: {speed} on {workers}."
        if run.frames
        else f"Nothing was labeled; it took {duration(run.wall_s)}.",
        "bottleneck": run.bottleneck,
        "longest": max((stage.busy_s for stage in run.stages), default=0) or 1,
        "stages": [
            {
                "name": stage.name,
                "busy_s": stage.busy_s,
                "seconds": f"{stage.busy_s:,.1f} s",
                "share": percent(stage.share),
            }
            for stage in run.stages
        ],
        "share_is": "and its share of the cores"
        if run.limited_by == "cores"
        else "and how much of the time it was at work",
        "mishaps": ", ".join(parts),
    }


def _describe_failure(failure: FailureRecord) -> dict[str, str]:
    shard = "the whole video" if failure.shard is None else f"shard {failure.shard}"
    return {
        "what": f"{failure.video}, {shard}",
        "error": failure.error,
        "message": shorten(failure.message, 500),
        "attempts": count(failure.attempts, "attempt"),
    }


def describe_video(facts: VideoFacts, spans: Sequence[Span], classes: ClassSet) -> dict[str, Any]:
    """name, sentence and troubles of a video's section."""
    summary = facts.summary
    assert summary is not None
    confidence = "" if summary.confidence is None else f"; confidence {summary.confidence:.2f}"
    lowest = "" if summary.lowest_confidence is None else f", lowest {summary.lowest_confidence:.2f}"
    drift = "" if summary.drift is None else f"; drift {summary.drift:.3f}, most {summary.most_drift:.3f}"
    troubles = [f"{clock(span.start_s)} to {clock(span.end_s)}: {span.text}" for span in spans]
    more = len(troubles) - MAX_TROUBLES
    return {
        "name": facts.video,
        "sentence": f"{facts.uri}: {count(summary.frames, 'frame')} of {summary.width}x{summary.height}, "
        f"{duration(summary.labeled_s)}{confidence}{lowest}{drift}",
        "classes": [
            {"name": classes.names[label], "colour": classes.hex_colours[label], "share": percent(share)}
            for label, share in main_classes(summary.shares, classes, 6)
        ],
        "troubles": troubles[:MAX_TROUBLES] + ([f"and {more:,} more"] if more > 0 else []),
    }


_HEADS = (("video", False), ("frames", True), ("duration", True), ("lost", True), ("no labels", True))
_MORE_HEADS = (("confidence", True), ("lowest", True), ("drift", True), ("main classes", False), ("trouble", False))


def describe_rows(facts: OutputFacts, classes: ClassSet) -> dict[str, Any]:
    """heads, rows and more_rows of the table of all videos."""
    has_drift = any(summary.drift is not None for summary in facts.summaries)
    heads = [head for head in _HEADS + _MORE_HEADS if has_drift or head[0] != "drift"]
    return {
        "heads": [{"name": name, "number": number} for name, number in heads],
        "rows": [_row(video, classes, has_drift=has_drift) for video in facts.videos[:MAX_ROWS]],
        "more_rows": max(0, len(facts.videos) - MAX_ROWS),
    }


def _row(facts: VideoFacts, classes: ClassSet, *, has_drift: bool) -> dict[str, Any]:
    summary = facts.summary
    frames, lost, labeled_s = (summary.frames, summary.lost, summary.labeled_s) if summary else (0, 0, 0.0)
    counts = [
        (frames, f"{frames:,}"),
        (labeled_s, clock(labeled_s)),
        (lost, _some(lost)),
        (facts.gap_frames, _some(facts.gap_frames)),
    ]
    sure = [summary.confidence, summary.lowest_confidence] if summary else [None, None]
    counts += [(-1, "") if value is None else (value, f"{value:.2f}") for value in sure]
    if has_drift:
        drift = summary.drift if summary else None
        counts.append((-1, "") if drift is None else (drift, f"{drift:.3f}"))
    whole = [failure.error for failure in facts.failures if failure.shard is None]
    given_up = f"{count(len(facts.failures), 'shard')} given up" if facts.failures else ""
    return {
        "name": facts.video,
        "numbers": [{"value": value, "text": text} for value, text in counts],
        "classes": main_classes_in_words(summary.shares, classes) if summary else "",
        "trouble": f"given up: {whole[0]}" if whole else given_up,
    }


def _some(number: int) -> str:
    return f"{number:,}" if number else ""
