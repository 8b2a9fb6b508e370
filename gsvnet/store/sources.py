"""What a label file holds: the rows of one shard, or, in a compacted file, of several shards one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gsvnet.errors import CorruptLabels
from gsvnet.store.schema import PREFIX, ShardFooter, check_version, parse_footer

_SOURCES = f"{PREFIX}sources"
_SHARED = ("job", "classes", "model_hash", "schema_version")  # keys that all sources of a file have in common


@dataclass(frozen=True, kw_only=True)
class Source:
    """The rows [row, row + num_rows) of a label file: one shard. footer: what that shard's own file said."""

    footer: ShardFooter
    row: int
    num_rows: int

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
    listed = (metadata or {}).get(_SOURCES.encode())
    if listed is None:
        footer, num_rows = parse_footer(metadata, path)
        return (Source(footer=footer, row=0, num_rows=num_rows),)
    shared = {key: value for key, value in (metadata or {}).items() if key.decode() != _SOURCES}
    sources: list[Source] = []
    row = 0
    try:
        check_version(int(shared[f"{PREFIX}schema_version".encode()]), path)
        for each in json.loads(listed):
            own = {f"{PREFIX}{name}".encode(): str(value).encode() for name, value in each.items()}
            footer, num_rows = parse_footer(shared | own, path)
            sources.append(Source(footer=footer, row=row, num_rows=num_rows))
            row += num_rows
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise CorruptLabels(f"{path} is no label file of this program: {_SOURCES} is bad ({error!r})") from error
    return tuple(sources)


def compacted_metadata(sources: Sequence[Source]) -> dict[str, str]:
    """Footer keys of a compacted file: what its sources share, and in `gsvnet.sources`, as JSON, what they do not."""
    each = [source.footer.to_metadata(source.num_rows) for source in sources]
    shared = {f"{PREFIX}{name}": each[0][f"{PREFIX}{name}"] for name in _SHARED}
    own = [{k.removeprefix(PREFIX): v for k, v in keys.items() if k not in shared} for keys in each]
    listed = json.dumps(own, sort_keys=True, separators=(",", ":"))
    num_rows = sum(source.num_rows for source in sources)
    return {**shared, f"{PREFIX}num_rows": str(num_rows), _SOURCES: listed}
