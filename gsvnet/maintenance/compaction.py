"""An output copied into one with few large label files: the shards of its listing, packed in order."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fsspec.spec import AbstractFileSystem

from gsvnet.chunks import shard_name
from gsvnet.errors import AlreadyPublished, ConfigError, CorruptLabels
from gsvnet.maintenance.config import CompactConfig
from gsvnet.store.committed import Committed
from gsvnet.store.compact_file import write_compacted
from gsvnet.store.filesystem import StorageOptions, has_object, open_filesystem, protocol_of
from gsvnet.store.inspect_file import Expected
from gsvnet.store.job import (
    JobRecord,
    list_failures,
    list_plans,
    open_copy,
    read_job,
    read_plan,
    write_failure,
    write_plan,
)
from gsvnet.store.layout import COMPACTED, SUCCESS, derived_uri, parse_label_path, shard_uri
from gsvnet.store.manifest import write_derived
from gsvnet.store.scan import StoredLabels, list_stored
from gsvnet.store.threads import map_in_threads
from gsvnet.store.write import default_spool_dir, make_spool_dir, sweep_spools
from gsvnet.uris import absolute_uri, redact_uri

NUM_THREADS = 4  # each holds a block of its source and a row group, and fills one spool
NUM_PLAN_THREADS = 16
_SERVER_OPTIONS = ("endpoint_url", "account_name", "account_host", "connection_string")  # of s3fs, gcsfs, adlfs

Progress = Callable[[int, int], None]
"""Hears of bytes of the source: how many are copied, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """What became of an output. shards, source_bytes: of the source. files: of the copy, of which written now.

    rows, num_bytes: of the files that were written. complete: the copy has `_SUCCESS`, as its source.
    """

    out: str
    to: str
    shards: int
    source_bytes: int
    files: int
    written: int
    rows: int
    num_bytes: int
    complete: bool
    seconds: float


def compact_output(config: CompactConfig, *, progress: Progress = lambda done, total: None) -> Compaction:
    """Copy an output; one that was interrupted goes on, one that is finished is left as it is.

    Raises ConfigError or OutputConflict where --to is the source, or holds anything else than this copy, CorruptLabels
    naming a shard that is not sound, NoSpace, StoreUnavailable, StoreRefused, StoreError.
    """
    started = time.monotonic()
    check_apart(config)
    job = read_job(config.out, config.storage_options)
    if job.compacted is not None:
        raise ConfigError(f"{redact_uri(config.out)} is a compacted copy; compact its source {job.compacted['source']}")
    complete = has_object(derived_uri(config.out, SUCCESS), config.storage_options)
    shards = list_shards(config.out, config.storage_options)
    packs = pack_shards(shards, target_bytes=round(config.target_mb * 1e6))
    open_copy(config.to, _describe_copy(job, config, shards, len(packs)), config.to_options)
    complete &= _copy_plans(config, shards)
    complete &= has_object(derived_uri(config.out, SUCCESS), config.storage_options)  # a run may have begun meanwhile
    there = _list_written(config.to, config.to_options)
    missing = [number for number in range(len(packs)) if number not in there]
    rows, num_bytes = _write_files(config, packs, missing, Expected.of(job), progress)
    _copy_failures(config, shards)
    write_derived(config.to, complete=complete, storage_options=config.to_options)
    return Compaction(
        out=redact_uri(config.out),
        to=redact_uri(config.to),
        shards=len(shards),
        source_bytes=_size(shards),
        files=len(packs),
        written=len(missing),
        rows=rows,
        num_bytes=num_bytes,
        complete=complete,
        seconds=time.monotonic() - started,
    )


def _write_files(
    config: CompactConfig,
    packs: Sequence[Sequence[StoredLabels]],
    missing: Sequence[int],
    expected: Expected,
    progress: Progress,
) -> tuple[int, int]:
    """Write the missing files of the copy, a few at a time; their rows and bytes."""
    spool_dir = _open_spool_dir(config.spool_dir)

    def write(number: int) -> tuple[int, int]:
        uri = shard_uri(config.to, COMPACTED, shard_name(number))
        with contextlib.suppress(AlreadyPublished):  # by another run of this command: the same bytes
            file = write_compacted(
                packs[number], uri, expected=expected, spool_dir=spool_dir, storage_options=config.to_options
            )
            return file.num_rows, file.num_bytes
        return 0, 0

    total = sum(map(_size, packs))
    done = total - sum(_size(packs[number]) for number in missing)
    rows = num_bytes = 0
    progress(done, total)
    written = map_in_threads(write, missing, num_threads=NUM_THREADS)
    for number, (file_rows, file_bytes) in zip(missing, written, strict=True):
        rows, num_bytes, done = rows + file_rows, num_bytes + file_bytes, done + _size(packs[number])
        progress(done, total)
    return rows, num_bytes


def _size(shards: Sequence[StoredLabels]) -> int:
    return sum(shard.num_bytes for shard in shards)


def list_shards(out: str, storage_options: StorageOptions = None) -> list[StoredLabels]:
    """All label files of an output by video id and shard. Raises CorruptLabels for another file among them."""
    found = []
    for page in list_stored(out, storage_options):
        for file in page:
            place = parse_label_path(file.name)
            if place is not None:
                found.append((place, file))
            elif not file.name.rpartition("/")[2].startswith("."):
                raise CorruptLabels(f"{file.name} is no label file; gsvnet verify lists all that do not belong there")
    if not found:
        raise ConfigError(f"{redact_uri(out)} has no labels to compact")
    return [file for _, file in sorted(found, key=lambda each: each[0])]


def pack_shards(shards: Sequence[StoredLabels], *, target_bytes: int) -> list[list[StoredLabels]]:
    """The shards in their order, as many together as have at most `target_bytes`; at least one."""
    packs: list[list[StoredLabels]] = []
    room = 0
    for shard in shards:
        if not packs or shard.num_bytes > room:
            packs.append([])
            room = target_bytes
        packs[-1].append(shard)
        room -= shard.num_bytes
    return packs


def _describe_copy(job: JobRecord, config: CompactConfig, shards: Sequence[StoredLabels], files: int) -> JobRecord:
    """The record of the copy: what decides about every byte of it."""
    listing = "".join(f"{shard.name} {shard.num_bytes}\n" for shard in shards)
    compacted = {
        "source": absolute_uri(config.out),
        "target_bytes": round(config.target_mb * 1e6),
        "files": files,
        "shards": len(shards),
        "listing_sha256": hashlib.sha256(listing.encode()).hexdigest(),
    }
    return replace(job, compacted=compacted)


def _list_written(to: str, storage_options: StorageOptions) -> set[int]:
    """Indices of the files that the copy has already."""
    places = (parse_label_path(file.name) for page in list_stored(to, storage_options) for file in page)
    return {index for folder, index in filter(None, places) if folder == COMPACTED}


def check_apart(config: CompactConfig) -> None:
    """Raise ConfigError where one output lies in the other."""
    (source_fs, source), (target_fs, target) = (
        open_filesystem(config.out, config.storage_options),
        open_filesystem(config.to, config.to_options),
    )
    if protocol_of(source_fs) != protocol_of(target_fs) or _server_of(source_fs) != _server_of(target_fs):
        return
    if protocol_of(source_fs) == "file":
        source, target = os.path.realpath(source), os.path.realpath(target)
    source, target = f"{source.rstrip('/')}/", f"{target.rstrip('/')}/"
    if source.startswith(target) or target.startswith(source):
        raise ConfigError(f"--to {redact_uri(config.to)} is or holds the output itself, or lies in it; choose another")


def _server_of(fs: AbstractFileSystem) -> tuple[str, ...]:
    """What the options of a file system, or the environment, name as its server or account; "": the usual one."""
    inner = fs.storage_options.get("client_kwargs")
    options = (inner if isinstance(inner, dict) else {}) | fs.storage_options
    if protocol_of(fs) == "s3" and not options.get("endpoint_url"):
        options["endpoint_url"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return tuple(str(options.get(name) or "").rstrip("/") for name in _SERVER_OPTIONS)


def _open_spool_dir(spool_dir: str | None) -> str:
    """The folder for spools, made and swept."""
    folder = Path(spool_dir) if spool_dir else default_spool_dir()
    make_spool_dir(folder)
    sweep_spools(folder)
    return str(folder)


def _copy_plans(config: CompactConfig, shards: Sequence[StoredLabels]) -> bool:
    """Give the copy its source's plans, by which verify knows what is missing; whether all that is planned is there.

    They are read after the listing, so every shard in it has its plan.
    """
    committed, there = _committed(shards), set(list_plans(config.to, config.to_options))

    def copy(video: str) -> bool:
        plan = read_plan(config.out, video, config.storage_options)
        if plan is None:
            return False
        if video not in there:
            write_plan(config.to, video, plan, config.to_options)
        planned = plan.get("shards")
        return isinstance(planned, list) and all(committed.has(video, index) for index in range(len(planned)))

    videos = list_plans(config.out, config.storage_options)
    return all(list(map_in_threads(copy, videos, num_threads=NUM_PLAN_THREADS)))


def _copy_failures(config: CompactConfig, shards: Sequence[StoredLabels]) -> None:
    """What the source records as given up is given up in the copy too."""
    for failure in list_failures(config.out, config.storage_options, committed=_committed(shards)):
        write_failure(config.to, failure, config.to_options)


def _committed(shards: Sequence[StoredLabels]) -> Committed:
    return Committed({(folder, shard_name(index)) for folder, index in map(_place, shards)})


def _place(shard: StoredLabels) -> tuple[str, int]:
    place = parse_label_path(shard.name)
    assert place is not None
    return place
