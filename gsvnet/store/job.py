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
from gsvnet.store.faults import describe
from gsvnet.store.filesystem import (
    StorageOptions,
    open_filesystem,
    protocol_of,
    read_bytes,
    read_path,
    remove_path,
)
from gsvnet.store.layout import failure_uri, job_uri, labels_uri, list_label_pages, plan_uri, settled_uri
from gsvnet.store.listing import list_files, list_pages
from gsvnet.store.publish import publish_bytes, sweep_unpublished
from gsvnet.store.schema import SCHEMA_VERSION, check_version
from gsvnet.uris import redact_uri

_FLAGS = {  # others: the field's own name
    "model_hash": "--model",
    "model_settings": "--model (its settings)",
    "classes": "--model (its classes)",
}
_READING_THREADS = 16
_OWN = {"schema_version", "codec"}  # no flag: another version of the program


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
        raise OutputConflict(_explain_conflict(out, ours.fields, theirs.fields))
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
    return _read_json(plan_uri(out, video_id), storage_options)


def write_settled(
    out: str,
    device: str,
    settled: Mapping[str, Any],
    storage_options: StorageOptions = None,
    unsafe_commit: bool = False,
) -> dict[str, Any]:
    """Store what "auto" came to on a kind of device, create-only; what stands: the first writer's."""
    return _create_or_read(settled_uri(out, device), settled, storage_options, unsafe_commit)


def read_settled(out: str, device: str, storage_options: StorageOptions = None) -> dict[str, Any] | None:
    """What an earlier run settled on this kind of device, or None."""
    return _read_json(settled_uri(out, device), storage_options)


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
        publish_bytes(_to_json(asdict(failure)), uri, storage_options, unsafe_commit)


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
        try:
            return None if data is None else FailureRecord(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise CorruptLabels(f"{path} is no failure record: {describe(error)}") from error

    def stands(failure: FailureRecord) -> bool:
        if failure.shard is None:
            return failure.video not in complete_videos
        return (failure.video, failure.shard) not in committed

    with ThreadPoolExecutor(_READING_THREADS) as pool:
        found = pool.map(read, _list_json(failure_uri(out, "x", "x"), storage_options, above=2))
        return [failure for failure in found if failure is not None and stands(failure)]


def _list_json(uri: str, storage_options: StorageOptions, above: int = 1) -> list[str]:
    """Sorted paths of the records below the folder of `uri`, or the one `above` folders higher."""
    paths = list_files(uri.rsplit("/", above)[0], storage_options)
    return [path for path in paths if path.endswith(".json") and not path.rpartition("/")[2].startswith(".")]


def _create_or_read(
    uri: str, value: Mapping[str, Any], storage_options: StorageOptions, unsafe_commit: bool
) -> dict[str, Any]:
    try:
        publish_bytes(_to_json(value), uri, storage_options, unsafe_commit)
    except AlreadyPublished:
        return _read_json(uri, storage_options) or dict(value)
    return json.loads(_to_json(value))


def _find_job(out: str, storage_options: StorageOptions) -> JobRecord | None:
    data = _read_json(job_uri(out), storage_options)
    if data is None:
        return None
    try:
        record = JobRecord(
            fields=dict(data["fields"]), fingerprint=str(data["fingerprint"]), compacted=data.get("compacted")
        )
        int(record.fields["schema_version"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptLabels(f"{job_uri(redact_uri(out))} is no job record: {describe(error)}") from error
    return record


def _create_job(out: str, ours: JobRecord, storage_options: StorageOptions, unsafe_commit: bool) -> JobRecord:
    try:
        publish_bytes(_to_json(_record_to_dict(ours)), job_uri(out), storage_options, unsafe_commit)
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


def _explain_conflict(out: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    missing = object()
    differences = {}
    for name in sorted({*ours, *theirs}):
        here, there = ours.get(name, missing), theirs.get(name, missing)
        if here != there:
            flag = name if name in _OWN else _FLAGS.get(name, "--" + name.replace("_", "-"))
            differences[flag] = f"{flag}: {_shown(there, missing)} in the output, {_shown(here, missing)} now"
    return (
        f"{redact_uri(out)} belongs to a job with other settings; use the same, or another --out. "
        + "Different are " + "; ".join(differences.values())
    )  # fmt: skip


def _shown(value: Any, missing: object) -> str:
    if value is missing:
        return "not set"
    if isinstance(value, dict) and "name" in value:
        return f"{value['name']} ({len(value.get('names', ()))} classes)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _read_json(uri: str, storage_options: StorageOptions) -> dict[str, Any] | None:
    data = read_bytes(uri, storage_options)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CorruptLabels(f"{redact_uri(uri)} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptLabels(f"{redact_uri(uri)} holds no JSON object")
    return value
