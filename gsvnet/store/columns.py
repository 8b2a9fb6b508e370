"""Whether what was read of a label file has the columns that its classes ask for: only then values can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from gsvnet.classes import ClassSet
from gsvnet.errors import CorruptLabels
from gsvnet.store.schema import MAX_ROW_GROUP_ROWS, first_schema, label_schema


def check_columns(found: pa.Table, classes: ClassSet, names: Sequence[str] | None, where: str) -> None:
    """Raise CorruptLabels where a column is missing, doubled, of another type, may be null and must not, or is no text.

    names: of the columns that were asked for; None: all. Those that came later may be absent, and others may be there
    besides. where: begins the message.
    """
    fields, first = _known_fields(classes)
    there = found.column_names
    if len(set(there)) < len(there):
        raise CorruptLabels(f"{where} has a column twice")
    for name in first if names is None else names:
        if name in first and name not in there:
            raise CorruptLabels(f"{where} has no column {name}")
    for field, column in zip(found.schema, found.columns):
        if field.name in fields and not field.equals(fields[field.name]):
            raise CorruptLabels(f"{where} has a column {field.name} of another type than a label file's ({field.type})")
        if pa.types.is_string(field.type):
            _check_text(column, f"{where} has a column {field.name}")


def check_group_rows(num_rows: int, where: str) -> None:
    """Raise CorruptLabels for more rows than a row group has: a few bytes may stand for billions of equal ones."""
    if num_rows > MAX_ROW_GROUP_ROWS:
        raise CorruptLabels(
            f"{where} has {num_rows:,} rows; a label file's row groups have at most {MAX_ROW_GROUP_ROWS}"
        )


def _check_text(column: pa.ChunkedArray, where: str) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise CorruptLabels(f"{where} that is no UTF-8: {error}") from error


@lru_cache(maxsize=8)
def _known_fields(classes: ClassSet) -> tuple[dict[str, pa.Field], frozenset[str]]:
    """All columns by name, and which of them every file has."""
    return {field.name: field for field in label_schema(classes)}, frozenset(first_schema(classes).names)
