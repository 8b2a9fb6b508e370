"""What a label file holds: the rows of one shard, or, in a compacted file, of several shards one after the other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from gsvnet.errors import ConfigError, CorruptLabels
from gsvnet.store.schema import PREFIX, ShardFooter, check_version, parse_footer

_SOURCES = f"{PREFIX}sources"
_MOST = 2**62  # so that 64 bits hold every frame index
_TIME_BASE = re.compile(r"[1-9][0-9]{0,9}(/[1-9][0-9]{0,9})?")
_SHARED = ("job", "classes", "model_hash", "schema_version")  # keys that all sources of a file have in common


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """The shard's own file, which was copied. path: below its output. num_bytes, sha256: of the object as read."""

    path: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows [row, row + num_rows) of a label file: one shard. footer: what that shard's own file said.

    file: in a compacted file, where the rows came from; else None.
    """

    footer: ShardFooter
    row: int
    num_rows: int
    file: SourceFile | None = None

    @property
    def first_frame(self) -> int:
        """Frame index of the first row."""
        return self.footer.first_frame

    @property
    def stop_frame(self) -> int:
        """Frame index after that of the last row."""
        return self.footer.first_frame + self.num_rows


def parse_sources(metadata: Mapping[bytes, bytes] | None, path: str) -> tuple[Source, ...]:
    """What a label file's key-value metadata states of its rows, in their order. Raises as `parse_footer` does."""
    found = metadata or {}
    try:
        listed = found.get(_SOURCES.encode())
        if listed is None:
            footer, num_rows = parse_footer(found, path)
            return (_check(Source(footer=footer, row=0, num_rows=num_rows)),)
        check_version(int(found[f"{PREFIX}schema_version".encode()]), path)
        return _parse_compacted(found, json.loads(listed), path)
    except (KeyError, ValueError, AttributeError, TypeError, OverflowError, ConfigError, RecursionError) as error:
        raise CorruptLabels(f"{path} is no label file of this program: its footer keys are bad ({error!r})") from error


def check_job(sources: Sequence[Source], job: str, path: str) -> None:
    """Raise CorruptLabels unless a label file belongs to the job with this fingerprint."""
    other = other_job(sources, job)
    if other is not None:
        raise CorruptLabels(f"{path} {other}")


def other_job(sources: Sequence[Source], job: str) -> str | None:
    """That a label file belongs to another job than that with this fingerprint; None where it does not."""
    theirs = next((source.footer.job for source in sources if source.footer.job != job), None)
    return None if theirs is None else f"belongs to another job ({theirs[:12]}, not {job[:12]})"


def is_compacted(metadata: Mapping[bytes, bytes] | None) -> bool:
    """Whether a label file's key-value metadata is that of a compacted file."""
    return _SOURCES.encode() in (metadata or {})


def compacted_metadata(sources: Sequence[Source]) -> dict[str, str]:
    """Footer keys of a compacted file: what its sources share, and in `gsvnet.sources`, as JSON, what they do not."""
    first = sources[0].footer.to_metadata(0)
    shared = {f"{PREFIX}{name}": first[f"{PREFIX}{name}"] for name in _SHARED}
    own = []
    for source in sources:
        keys = source.footer.to_metadata(source.num_rows)
        entry: dict[str, str | int] = {k.removeprefix(PREFIX): v for k, v in keys.items() if k not in shared}
        if source.file is not None:
            entry |= {"path": source.file.path, "bytes": source.file.num_bytes, "sha256": source.file.sha256}
        own.append(entry)
    listed = json.dumps(own, sort_keys=True, separators=(",", ":"))
    num_rows = sum(source.num_rows for source in sources)
    return {**shared, f"{PREFIX}num_rows": str(num_rows), _SOURCES: listed}


def _parse_compacted(found: Mapping[bytes, bytes], listed: list[dict], path: str) -> tuple[Source, ...]:
    shared = {key: value for key, value in found.items() if key != _SOURCES.encode()}
    sources: list[Source] = []
    row = 0
    for each in listed:
        own = {f"{PREFIX}{name}".encode(): str(value).encode() for name, value in each.items()}
        footer, num_rows = parse_footer(shared | own, path)
        if sources:  # one class set for all of them: there may be many thousand
            footer = replace(footer, classes=sources[0].footer.classes)
        file = None
        if "path" in each:
            file = SourceFile(path=str(each["path"]), num_bytes=int(each["bytes"]), sha256=str(each["sha256"]))
        sources.append(_check(Source(footer=footer, row=row, num_rows=num_rows, file=file)))
        row += num_rows
    if not sources:
        raise ValueError("no shard is listed")
    return tuple(sources)


def parse_time_base(text: object) -> Fraction:
    """Seconds per tick of "1/12800". Raises ValueError for anything else: some texts make fractions of any size."""
    if not isinstance(text, str) or not _TIME_BASE.fullmatch(text):
        raise ValueError(f"time base {text!r:.40}")
    return Fraction(text)


def _check(source: Source) -> Source:
    """The source itself, if it can be some rows of some shard."""
    footer = source.footer
    parse_time_base(footer.time_base)
    if not (0 <= footer.shard < _MOST and 0 <= footer.first_frame < _MOST and 0 <= source.num_rows < _MOST):
        raise ValueError(f"shard {footer.shard} with {source.num_rows} rows from frame {footer.first_frame} on")
    return source
