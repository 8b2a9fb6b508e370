"""The job record of an output: one output belongs to one fingerprint. Also stored plans and failures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvnet.classes import ClassSet
from gsvnet.errors import AlreadyPublished, ConfigError, CorruptLabels, OutputConflict, StoreError, StoreUnavailable
from gsvnet.store.codec import CODEC
from gsvnet.store.conflict import explain_conflict
from gsvnet.store.faults import describe
from gsvnet.store.filesystem import (
    StorageOptions,
    open_filesystem,
    protocol_of,
    read_path,
    remove_path,
)
from gsvnet.store.json_object import parse_json, read_json, to_json
from gsvnet.store.layout import MOST_FILES, failure_uri, job_uri, labels_uri, list_label_pages, plan_uri, settled_uri
from gsvnet.store.listing import list_files, list_pages
from gsvnet.store.publish import publish_bytes, sweep_unpublished
from gsvnet.store.schema import SCHEMA_VERSION, check_version
from gsvnet.uris import redact_uri

_READING_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """What `_job.json` holds.

    fields: all that decides about the labels, by the names of the command line's options; `fingerprint` is over them.
    Among them stand model_hash, classes, codec and schema_version. compacted: only in an output that `gsvnet compact`
    wrote, from what and how.
    """

    fields: dict[str, Any]
    fingerprint: str
    compacted: dict[str, Any] | None = None

    @property
    def classes(self) -> ClassSet:
        """The classes of the labels."""
        return ClassSet.from_dict(self.fields["classes"])

    @property
    def model_hash(self) -> str:
        """Content hash of the network that made the labels."""
        return str(self.fields["model_hash"])


@dataclass(frozen=True, kw_only=True)
class FailureRecord:
    """A shard, or a whole video (shard None), that was given up. error: class name. attempts: how many."""

    video: str
    uri: str
    shard: str | None
    error: str
    message: str
    attempts: int


def fingerprint(fields: Mapping[str, Any]) -> str:
    """64 hex digits: sha256 over the fields as canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def open_job(
    out: str,
    fields: Mapping[str, Any],
    *,
    classes: ClassSet,
    model_hash: str,
    storage_options: StorageOptions = None,
    unsafe_commit: bool = False,
) -> JobRecord:
    """The job record of an output: a new one, or the one that stands there when its fingerprint is the same.

    fields: the resolved options that decide about the labels, JSON values; the rest of the record is added here.
    What dead writers of this host left in a local output is removed.
    Raises OutputConflict, with every differing field under its flag's name and both values, for another job's output;
    ConfigError for an output that has labels but no record, or that cannot be written; StoreUnavailable while the
    store does not answer.
    """
    own = {"classes": classes.to_dict(), "model_hash": model_hash, "codec": CODEC, "schema_version": SCHEMA_VERSION}
    whole: dict[str, Any] = json.loads(json.dumps({**fields, **own}))  # tuples become lists, as when read back
    ours = JobRecord(fields=whole, fingerprint=fingerprint(whole))
    try:
        theirs = _find_job(out, storage_options)
        if theirs is None and any(list_label_pages(out, storage_options)):
            raise ConfigError(f"{redact_uri(out)} has labels but no _job.json: restore it, or choose another --out")
        theirs = theirs or _create_job(out, ours, storage_options, unsafe_commit)
    except StoreError as error:
        if isinstance(error, CorruptLabels) or type(error) is StoreUnavailable:
            raise
        raise ConfigError(f"the output {redact_uri(out)} cannot be used: {error}") from error
    if theirs.compacted is not None:
        raise OutputConflict(
            f"{redact_uri(out)} is a compacted copy of {theirs.compacted.get('source')}: label into that output, "
            "or another --out, and compact again"
        )
    if theirs.fingerprint != ours.fingerprint:
        raise OutputConflict(explain_conflict(out, ours.fields, theirs.fields))
    _check_writable(out, storage_options)
    sweep_unpublished(labels_uri(out), storage_options)
    return theirs


def read_job(out: str, storage_options: StorageOptions = None) -> JobRecord:
    """The job record of an output. Raises StoreError when there is none or a newer version wrote it."""
    record = _find_job(out, storage_options)
    if record is None:
        raise StoreError(f"{redact_uri(out)} is no output of this program: it has no _job.json")
    check_version(int(record.fields["schema_version"]), job_uri(redact_uri(out)))
    return record


def open_copy(out: str, record: JobRecord, storage_options: StorageOptions = None) -> JobRecord:
    """The record of a compacted output: `record`, which a new one gets, or an equal one that stands there.

    What dead writers of this host left in a local output is removed.
    Raises OutputConflict for an output of another source, target size or listing, or of a job; ConfigError for a
    folder that holds anything else.
    """
    theirs = _find_job(out, storage_options)
    if theirs is None and _holds_files(out, storage_options):
        theirs = _find_job(out, storage_options)  # another run of the command may have begun just now
        if theirs is None:
            raise ConfigError(f"{redact_uri(out)} holds files that are no compacted output; choose another --to")
    theirs = theirs or _create_job(out, record, storage_options, False)
    if theirs.compacted is None:
        raise OutputConflict(f"{redact_uri(out)} is the output of a job, no compacted one; choose another --to")
    if theirs != record:
        ours = {"fingerprint": record.fingerprint, **(record.compacted or {})}
        there = {"fingerprint": theirs.fingerprint, **theirs.compacted}
        different = [
            f"{name}: {there.get(name)} there, {ours.get(name)} now" for name in ours if ours[name] != there.get(name)
        ]
        raise OutputConflict(
            f"{redact_uri(out)} was compacted from something else; choose another --to. "
            f"Different are {'; '.join(different) or 'the job settings'}"
        )
    sweep_unpublished(out, storage_options)
    return theirs


def write_plan(
    out: str,
    video_id: str,
    plan: Mapping[str, Any],
    storage_options: StorageOptions = None,
    unsafe_commit: bool = False,
) -> dict[str, Any]:
    """Store a video's plan, create-only; the plan of record: another writer's where that one was first."""
    return _create_or_read(plan_uri(out, video_id), plan, storage_options, unsafe_commit)


def read_plan(out: str, video_id: str, storage_options: StorageOptions = None) -> dict[str, Any] | None:
    """A video's stored plan, or None."""
    return read_json(plan_uri(out, video_id), storage_options)


def write_settled(
    out: str,
    device: str,
    settled: Mapping[str, Any],
    storage_options: StorageOptions = None,
    unsafe_commit: bool = False,
) -> dict[str, Any]:
    """Store what "auto" came to on a kind of device, create-only; what stands: the first writer's."""
    uri = settled_uri(out, device)
    return _check_settled(_create_or_read(uri, settled, storage_options, unsafe_commit), uri)


def read_settled(out: str, device: str, storage_options: StorageOptions = None) -> dict[str, Any] | None:
    """What an earlier run settled on this kind of device, or None. Raises CorruptLabels for no number of chunks."""
    uri = settled_uri(out, device)
    found = read_json(uri, storage_options)
    return None if found is None else _check_settled(found, uri)


def list_plans(out: str, storage_options: StorageOptions = None) -> list[str]:
    """Ids of the videos that have a stored plan, sorted."""
    return sorted(
        path.rpartition("/")[2].removesuffix(".json") for path in _list_json(plan_uri(out, "x"), storage_options)
    )


def write_failure(
    out: str, failure: FailureRecord, storage_options: StorageOptions = None, unsafe_commit: bool = False
) -> None:
    """Record that a shard or video was given up. The first record of it stands until `remove_failure`."""
    with contextlib.suppress(AlreadyPublished):
        uri = failure_uri(out, failure.video, failure.shard)
        publish_bytes(to_json(asdict(failure)), uri, storage_options, unsafe_commit)


def remove_failure(out: str, failure: FailureRecord, storage_options: StorageOptions = None) -> None:
    """Forget a failure, because its shard or video is to be tried again."""
    uri = failure_uri(out, failure.video, failure.shard)
    remove_path(*open_filesystem(uri, storage_options), uri)


def list_failures(
    out: str,
    storage_options: StorageOptions = None,
    *,
    committed: Container[tuple[str, str]] = (),
    complete_videos: Container[str] = (),
) -> list[FailureRecord]:
    """The failures of an output, sorted by video and shard.

    Void, hence left out, are those of a shard whose labels exist (`committed`, from `list_committed`) and those of a
    video in `complete_videos`.
    """
    fs, _ = open_filesystem(out, storage_options)

    def read(path: str) -> FailureRecord | None:
        data = read_path(fs, path, path)
        return None if data is None else _failure_from_dict(parse_json(data, path), path)

    def stands(failure: FailureRecord) -> bool:
        if failure.shard is None:
            return failure.video not in complete_videos
        return (failure.video, failure.shard) not in committed

    with ThreadPoolExecutor(_READING_THREADS) as pool:
        found = pool.map(read, _list_json(failure_uri(out, "x", "x"), storage_options, above=2))
        return [failure for failure in found if failure is not None and stands(failure)]


def _failure_from_dict(data: dict[str, Any], path: str) -> FailureRecord:
    try:
        failure = FailureRecord(**data)
    except TypeError as error:
        raise CorruptLabels(f"{path} is no failure record: {describe(error)}") from error
    texts = (failure.video, failure.uri, failure.error, failure.message)
    shard_is_text = failure.shard is None or isinstance(failure.shard, str)
    if not (shard_is_text and all(isinstance(text, str) for text in texts) and isinstance(failure.attempts, int)):
        raise CorruptLabels(f"{path} is no failure record: it holds values of other types")
    return failure


def _list_json(uri: str, storage_options: StorageOptions, above: int = 1) -> list[str]:
    """Sorted paths of the records below the folder of `uri`, or the one `above` folders higher."""
    paths = list_files(uri.rsplit("/", above)[0], storage_options)
    return [path for path in paths if path.endswith(".json") and not path.rpartition("/")[2].startswith(".")]


def _check_settled(settled: dict[str, Any], uri: str) -> dict[str, Any]:
    chunks = settled.get("batch_chunks")
    if type(chunks) is not int or chunks < 1:
        raise CorruptLabels(
            f"{redact_uri(uri)}: batch_chunks is {chunks!r:.80}; delete the file, a run settles it anew"
        )
    return settled


def _create_or_read(
    uri: str, value: Mapping[str, Any], storage_options: StorageOptions, unsafe_commit: bool
) -> dict[str, Any]:
    try:
        publish_bytes(to_json(value), uri, storage_options, unsafe_commit)
    except AlreadyPublished:
        found = read_json(uri, storage_options)
        return dict(value) if found is None else found
    return json.loads(to_json(value))


def _find_job(out: str, storage_options: StorageOptions) -> JobRecord | None:
    data = read_json(job_uri(out), storage_options)
    if data is None:
        return None
    try:
        fields, compacted = dict(data["fields"]), data.get("compacted")
        record = JobRecord(fields=fields, fingerprint=str(data["fingerprint"]), compacted=compacted)
        if int(fields["schema_version"]) <= SCHEMA_VERSION:  # a newer record may say things otherwise
            _check_job(record)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise CorruptLabels(f"{job_uri(redact_uri(out))} is no job record: {describe(error)}") from error
    return record


def _check_job(record: JobRecord) -> None:
    """Raise KeyError, TypeError, ValueError or ConfigError for a record without what its readers take for granted."""
    _ = record.classes, record.model_hash
    if not isinstance(record.fields.get("keyframe_interval", 1), int):
        raise TypeError(f"keyframe_interval {record.fields['keyframe_interval']!r}")
    if record.compacted is None:
        return
    if not isinstance(record.compacted, dict):
        raise TypeError(f"compacted {record.compacted!r:.80}")
    files = record.compacted.get("files", 0)
    if not isinstance(files, int) or not 0 <= files <= MOST_FILES:
        raise ValueError(f"compacted into {files!r} files")


def _create_job(out: str, ours: JobRecord, storage_options: StorageOptions, unsafe_commit: bool) -> JobRecord:
    try:
        publish_bytes(to_json(_record_to_dict(ours)), job_uri(out), storage_options, unsafe_commit)
    except AlreadyPublished:  # another driver started at the same time
        return _find_job(out, storage_options) or ours
    return ours


def _holds_files(out: str, storage_options: StorageOptions) -> bool:
    """Whether there is anything but what writers leave when they are killed."""
    pages = list_pages(out, storage_options)
    return any(not file.path.rpartition("/")[2].startswith(".") for page in pages for file in page)


def _record_to_dict(record: JobRecord) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if value is not None}


def _check_writable(out: str, storage_options: StorageOptions) -> None:
    """A local folder says at once that it is read-only; buckets say it at the first write."""
    fs, path = open_filesystem(labels_uri(out), storage_options)
    if protocol_of(fs) == "file":
        here = Path(path) if Path(path).is_dir() else Path(path).parent
        if not os.access(here, os.W_OK | os.X_OK):
            raise ConfigError(f"the output {redact_uri(out)} cannot be used: cannot write, no permission in {here}")
