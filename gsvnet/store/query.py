"""SQL over the rows of an output, by DuckDB: all columns but the masks, and nothing else of this machine."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gsvnet.errors import ConfigError, CorruptLabels, MissingExtra, StoreError
from gsvnet.store.faults import damaged_labels
from gsvnet.store.filesystem import protocol_of
from gsvnet.store.later_columns import group_by_columns
from gsvnet.store.read import Labels
from gsvnet.store.schema import ENCODED_MASKS, label_schema, later_schema
from gsvnet.store.unlocked import unlock
from gsvnet.uris import redact_uri

if TYPE_CHECKING:
    import duckdb

_SETTINGS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
_WATCH_S = 0.05


def select_frames(
    labels: Labels,
    *,
    where: str | None = None,
    every: int = 1,
    videos: Sequence[str] = (),
    limit: int | None = None,
) -> dict[str, np.ndarray]:
    """Indices (N,) int64, ascending, of the chosen frames of each video (by id, sorted) that has some.

    where: an SQL condition over the columns of a frame, such as "pixels.car > 20000 and status = 'ok'". every: of
    these, frames whose index is a multiple. videos: only of these. limit: the first so many.
    Raises ConfigError for a condition that DuckDB does not take, with the columns that there are, and what `run_sql`
    raises.
    """
    if every < 1:
        raise ConfigError(f"every {every}; it must be at least 1")
    if limit is not None and limit < 0:
        raise ConfigError(f"limit {limit}; it must be at least 0")
    wanted = sorted({labels.find_video(video) for video in videos}) or labels.videos
    if where is None:
        chosen = {video: indices[indices % every == 0] for video in wanted for indices in [labels.indices(video)]}
    else:
        among = f" and video in {_sql_list(wanted)}" if videos else ""
        table = run_sql(
            labels,
            f"select video, list(frame_index order by frame_index) as indices "
            f"from (select * from frames where frame_index % {every} = 0{among}) as frames "  # whatever `where` says
            f"where (\n{where}\n) group by video order by video",
        )
        chosen = {video.as_py(): indices.values.to_numpy() for video, indices in zip(*table.columns)}
    if limit is not None:
        room = limit
        for video, indices in chosen.items():
            chosen[video] = indices[:room]
            room -= len(chosen[video])
    return {video: indices for video, indices in chosen.items() if len(indices)}


def run_sql(
    labels: Labels,
    sql: str,
    *,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    memory_bytes: int | None = None,
) -> pa.Table:
    """What one SELECT statement gives; its table `frames` has every column of the labels but the two of masks.

    Columns that came later are null in rows whose file lacks them.

    The statement sees no file but the label files, no network and no variable of this process. timeout_s, stop: it ends
    some time after so many seconds, or after the event is set. memory_bytes: most that DuckDB takes; default: 80 % of
    the machine's. Raises ConfigError where DuckDB refuses the statement, or where it was ended or takes more memory;
    StoreError where label files cannot be read, CorruptLabels where they are damaged.
    """
    duck = _import_duckdb()
    if not _is_utf8(sql):
        raise ConfigError(f"a query is text in UTF-8, not: {_one_line(repr(sql))}")
    settings = _SETTINGS if memory_bytes is None else {**_SETTINGS, "memory_limit": f"{memory_bytes}B"}
    with duck.connect(config=settings) as database, _interrupting(database, timeout_s, stop) as ended:
        try:
            _offer_frames(database, labels)
            statements = database.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duck.StatementType.SELECT:
                raise ConfigError(f"one SELECT statement or condition is allowed, not: {_one_line(sql)}")
            if ended.is_set():
                raise duck.InterruptException("too late")
            return database.sql(sql).to_arrow_table()
        except duck.InterruptException as error:
            why = "was stopped" if stop is not None and stop.is_set() else f"took longer than {timeout_s:g} s"
            raise ConfigError(f"the query {why}; ask for less") from error
        except duck.OutOfMemoryException as error:
            raise ConfigError(f"the query needs too much memory ({_one_line(str(error))}); ask for less") from error
        except duck.Error as error:
            raise _explain(error, labels) from error
        except UnicodeDecodeError as error:  # a message of DuckDB's with what a damaged footer has for a name
            raise _damaged(labels, "a text in a label file is no UTF-8") from error


@contextmanager
def _interrupting(
    database: duckdb.DuckDBPyConnection, timeout_s: float | None, stop: threading.Event | None
) -> Iterator[threading.Event]:
    """Interrupts what the database does in the block, once it is time; the event that comes back is set then.

    DuckDB forgets an interrupt that comes while no statement runs, so it is sent until the block ends.
    """
    ended, done = threading.Event(), threading.Event()

    def watch() -> None:
        limit_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not done.wait(_WATCH_S):
            if time.monotonic() >= limit_s or (stop is not None and stop.is_set()):
                ended.set()
                database.interrupt()

    watcher = threading.Thread(target=watch, daemon=True)
    if timeout_s is not None or stop is not None:
        watcher.start()
    try:
        yield ended
    finally:
        done.set()
        if watcher.is_alive():
            watcher.join()


def _offer_frames(database: duckdb.DuckDBPyConnection, labels: Labels) -> None:
    """Make `frames`, without the masks, then close every way to a file that is no label file.

    DuckDB itself reads local files only: where several of its threads share a file object of Python, as they do with
    `register_filesystem`, each moves the others' reading position (2.0.0). Arrow reads all other stores.
    """
    schema = _offered_schema(labels)
    if labels.paths and protocol_of(labels.files.fs) == "file":
        allowed = dict.fromkeys((*labels.paths, *map(_to_pattern, labels.paths)))  # DuckDB compares both
        database.execute(f"set allowed_paths = {_sql_list(allowed)}")
        types = dict(zip(schema.names, database.from_arrow(schema.empty_table()).types, strict=True))
        database.execute(f"create view frames as {_select_from_files(labels, types)}")
        _check_types(database, labels, types)
    else:
        database.register("frames", unlock(labels.frames.replace_schema(schema)))
    database.execute("set enable_external_access = false")
    database.execute("set lock_configuration = true")


def _offered_schema(labels: Labels) -> pa.Schema:
    return pa.schema([field for field in label_schema(labels.classes) if field.name not in ENCODED_MASKS])


def _select_from_files(labels: Labels, types: Mapping[str, Any]) -> str:
    """SQL for the rows of all files, null where a file lacks a column that came later. types: of the columns by name.

    Files with the same columns are read as one: `union_by_name` over all would take four times as long.
    """
    later = [name for name in types if name in later_schema(labels.classes).names]
    parts = []
    for there, paths in group_by_columns(labels.paths, later).items():
        lacking = set(later).difference(there)
        columns = [f"null::{types[name]} as {name}" if name in lacking else name for name in types]
        files = _sql_list(map(_to_pattern, paths))  # folders such as day=1 are no columns
        parts.append(f"select {', '.join(columns)} from read_parquet({files}, hive_partitioning = false)")
    return " union all ".join(parts)


def _check_types(database: duckdb.DuckDBPyConnection, labels: Labels, types: Mapping[str, Any]) -> None:
    """Raise CorruptLabels where a file's column has another type: DuckDB would turn one into the other, or not."""
    found = database.sql("from frames")
    for name, kind in zip(found.columns, found.types, strict=True):
        if name not in types:  # DuckDB takes a name for the same in other letters, and shows the file's
            raise _damaged(labels, f"a column is named {name!r}")
        if kind != types[name]:
            raise _damaged(labels, f"a column {name} is {kind}, not {types[name]}")


def _to_pattern(path: str) -> str:
    """The glob that matches this path alone."""
    return re.sub(r"[*?[]", r"[\g<0>]", path)


def _sql_list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(sql_text, texts))}]"


def sql_text(text: str) -> str:
    """The text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _import_duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("duckdb", "query") from error
    return duckdb


def _explain(error: duckdb.Error, labels: Labels) -> ConfigError | StoreError:
    import duckdb

    message = _one_line(re.split(r"LINE \d|Detail: Python exception", str(error))[0])
    if isinstance(error, duckdb.OperationalError):
        return StoreError(f"{redact_uri(labels.uri)} cannot be queried: {message}")
    about_a_file = isinstance(error, duckdb.InvalidInputException) and ".parquet" in message
    if about_a_file or type(error) is duckdb.Error:  # of no kind: what reading a damaged page ended in
        return _damaged(labels, message)
    schema, classes = _offered_schema(labels), ", ".join(labels.classes.identifiers)
    structs = [field.name for field in schema if pa.types.is_struct(field.type)]
    return ConfigError(f"{message}. Columns: {', '.join(schema.names)}; fields of {', '.join(structs)}: {classes}")


def _damaged(labels: Labels, what: str) -> CorruptLabels:
    return damaged_labels(f"{redact_uri(labels.uri)} cannot be queried: {what}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
