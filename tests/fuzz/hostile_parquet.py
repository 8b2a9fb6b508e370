"""A hostile label file made of a sound one: hostile rows, columns and footer keys, damaged bytes, or both."""

from __future__ import annotations

import contextlib
import io
import json
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.store.codec import encode_mask
from tests.fuzz import sound
from tests.fuzz.choices import Choices, change_json, damage

_TYPES = (
    pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.large_string(),
    pa.bool_(), pa.binary(), pa.null(), pa.timestamp("ns"), pa.decimal128(20, 3), pa.list_(pa.int32()),
    pa.struct([("car", pa.int32())]), pa.dictionary(pa.int32(), pa.string()),
)  # fmt: skip
_COMPRESSIONS = ("zstd", "snappy", "gzip", "none", "lz4")


def hostile_file(choices: Choices, *, compacted: bool = False) -> bytes:
    """A label file made of a sound one, of one shard or of two."""
    kind = choices.below(4)
    if kind == 0:
        return damage(_sound_file(compacted), choices)
    if kind == 1:
        return _damage_footer(_sound_file(compacted), choices)
    table, metadata = _sound_table(), sound.make_keys(compacted=compacted)
    for _ in range(1 + choices.below(3)):
        table, metadata = _change(table, metadata, choices)
    file = _write(table, metadata, choices)
    return damage(file, choices) if kind == 3 else file


@cache
def _sound_file(compacted: bool) -> bytes:
    return sound.make_labels(compacted=compacted)


@cache
def _sound_table() -> pa.Table:
    return sound.make_table()


def _damage_footer(file: bytes, choices: Choices) -> bytes:
    """Page headers and data stay as they are; the footer is damaged and its length right."""
    size = int.from_bytes(file[-8:-4], "little")
    footer = damage(file[-8 - size : -8], choices)
    return file[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _change(table: pa.Table, metadata: dict[str, str], choices: Choices) -> tuple[pa.Table, dict[str, str]]:
    """One thing changed about the rows, the columns or the footer keys."""
    match choices.below(8):
        case 0 | 1:
            return table, _change_metadata(metadata, choices)
        case 2 | 3:
            return _change_cell(table, choices), metadata
        case 4:
            return _change_mask(table, choices), metadata
        case 5:
            return _change_type(table, choices), metadata
        case 6:
            return _change_columns(table, choices), metadata
    rows = [choices.below(len(table)) for _ in range(choices.below(16))] if len(table) else []
    return table.take(pa.array(rows, pa.int64())), metadata | {"gsvnet.num_rows": str(len(rows))}


def _change_metadata(metadata: dict[str, str], choices: Choices) -> dict[str, str]:
    key = choices.pick(sorted(metadata)) if metadata else "gsvnet.shard"
    changed = dict(metadata)
    match choices.below(6):
        case 0:
            changed.pop(key, None)
        case 1:
            changed[key] = str(choices.integer())
        case 2:
            changed[key] = _encodable(choices.text())
        case 3:
            changed["gsvnet.classes"] = json.dumps(change_json(sound.CLASSES.to_dict(), choices))
        case 4:
            own = {name.removeprefix("gsvnet."): value for name, value in metadata.items()}
            own |= {"path": sound.LABEL_PATH, "bytes": 1000, "sha256": "0" * 64}
            changed["gsvnet.sources"] = json.dumps([own, own] if choices.flag() else [own])
        case 5:
            sources = json.loads(sound.make_keys(compacted=True)["gsvnet.sources"])
            changed["gsvnet.sources"] = json.dumps(change_json(sources, choices))
    return changed


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _change_cell(table: pa.Table, choices: Choices) -> pa.Table:
    """One value, or all values of a column, something else of the same type, or null."""
    if not len(table) or not table.num_columns:
        return table
    at = choices.below(table.num_columns)
    field = table.schema.field(at)
    try:
        column = table.column(at).to_pylist()
    except UnicodeDecodeError:  # bytes that were made text
        return table
    rows = [choices.below(len(table))] if choices.flag() else range(len(table))
    value = _value_of(field.type, choices)
    for row in rows:
        column[row] = value
    with contextlib.suppress(pa.ArrowException, OverflowError, ValueError, TypeError):
        field = field.with_nullable(field.nullable or value is None)
        if isinstance(value, bytes) and pa.types.is_string(field.type):
            return table.set_column(at, field, pa.array(column, pa.binary()).cast(pa.string(), safe=False))
        return table.set_column(at, field, pa.array(column, field.type))
    return table


def _value_of(kind: pa.DataType, choices: Choices) -> Any:
    if choices.below(4) == 0:
        return None
    if pa.types.is_struct(kind):
        return {field.name: _value_of(field.type, choices) for field in kind}
    if pa.types.is_floating(kind):
        return choices.number()
    if pa.types.is_binary(kind):
        return choices.take(choices.below(64))
    if pa.types.is_string(kind):
        return choices.take(8) + b"\xff" if choices.below(4) == 0 else _encodable(choices.text())
    return choices.flag() if pa.types.is_boolean(kind) else choices.integer()


def _change_mask(table: pa.Table, choices: Choices) -> pa.Table:
    """A row with a mask of another size, whole and with the right checksum, or with a damaged one."""
    names = table.column_names
    if any(names.count(name) != 1 for name in ("mask", "height", "width", "mask_uncertain")) or not len(table):
        return table
    height, width, row = 1 + choices.below(16), 1 + choices.below(16), choices.below(len(table))
    mask = encode_mask(np.full((height, width), choices.below(256), np.uint8))
    new: dict[str, Any] = {choices.pick(("mask", "mask_uncertain")): damage(mask, choices) if choices.flag() else mask}
    if choices.flag():
        new |= {"height": height, "width": width}
    for name, value in new.items():
        with contextlib.suppress(pa.ArrowException, TypeError, UnicodeDecodeError):
            values = table[name].to_pylist()
            values[row] = value
            at = table.column_names.index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table


def _change_type(table: pa.Table, choices: Choices) -> pa.Table:
    """A column of another type: cast where that goes, else of nulls."""
    if not table.num_columns:
        return table
    at, kind = choices.below(table.num_columns), choices.pick(_TYPES)
    try:
        column = table.column(at).cast(kind, safe=False)
    except (pa.ArrowException, NotImplementedError):
        column = pa.nulls(len(table), kind)
    return table.set_column(at, pa.field(table.schema.names[at], kind, choices.flag() or kind == pa.null()), column)


def _change_columns(table: pa.Table, choices: Choices) -> pa.Table:
    """Columns left out, doubled, renamed or in another order."""
    names = list(table.column_names)
    match choices.below(4) if names else 4:
        case 0:
            dropped = choices.below(len(names))
            return table.select([at for at in range(len(names)) if at != dropped])
        case 1:
            at = choices.below(len(names))
            return table.append_column(table.schema.field(at), table.column(at))
        case 2:
            names[choices.below(len(names))] = _encodable(choices.text())
            return table.rename_columns(names)
        case 3:
            return table.select([choices.below(len(names)) for _ in range(choices.below(len(names)))])
    return table


def _write(table: pa.Table, metadata: dict[str, str], choices: Choices) -> bytes:
    """As the program writes it while the schema is its own; else as Parquet goes."""
    sink = io.BytesIO()
    try:
        with pq.ParquetWriter(
            sink,
            table.schema,
            compression=choices.pick(_COMPRESSIONS),
            use_dictionary=choices.flag(),
            write_page_checksum=not choices.flag(),
            store_schema=choices.flag(),
        ) as writer:
            writer.write_table(table, row_group_size=1 + choices.below(16))
            writer.add_key_value_metadata(metadata)
    except (pa.ArrowException, NotImplementedError, OSError):
        return _sound_file(False)
    return sink.getvalue()
