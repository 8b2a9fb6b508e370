"""SQL over the rows of an output, by DuckDB: all columns but the masks, and nothing else of this machine."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gsvnet.errors import ConfigError, MissingExtra, StoreError
from gsvnet.store.filesystem import protocol_of
from gsvnet.store.read import Labels
from gsvnet.store.schema import label_schema

if TYPE_CHECKING:
    import duckdb

_SETTINGS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


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
    Raises ConfigError for a condition that DuckDB does not take, with the columns that there are.
    """
    if every < 1:
        raise ConfigError(f"every {every}; it must be at least 1")
    wanted = [labels.find_video(video) for video in videos] or labels.videos
    if where is None:
        chosen = {video: indices[indices % every == 0] for video in wanted for indices in [labels.indices(video)]}
    else:
        among = f" and video in {_sql_list(wanted)}" if videos else ""
        table = run_sql(
            labels,
            f"select video, list(frame_index order by frame_index) as indices from frames "
            f"where frame_index % {every} = 0{among} and (\n{where}\n) group by video order by video",
        )
        chosen = {video.as_py(): indices.values.to_numpy() for video, indices in zip(*table.columns)}
    if limit is not None:
        room = limit
        for video, indices in chosen.items():
            chosen[video] = indices[:room]
            room -= len(chosen[video])
    return {video: indices for video, indices in chosen.items() if len(indices)}


def run_sql(labels: Labels, sql: str, *, timeout_s: float | None = None) -> pa.Table:
    """What one SELECT statement gives; its table `frames` has every column of the labels but `mask`.

    The statement sees no file, no network and no variable of this process. Raises ConfigError where DuckDB refuses
    it, or where it takes longer than `timeout_s`.
    """
    duck = _import_duckdb()
    with duck.connect(config=_SETTINGS) as database:
        _offer_frames(database, labels)
        timer = threading.Timer(timeout_s or 0, database.interrupt)
        if timeout_s is not None:
            timer.start()
        try:
            statements = database.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duck.StatementType.SELECT:
                raise ConfigError(f"one SELECT statement or condition is allowed, not: {_one_line(sql)}")
            return database.sql(sql).to_arrow_table()
        except duck.InterruptException as error:
            raise ConfigError(f"the query took longer than {timeout_s:g} s; ask for less") from error
        except duck.Error as error:
            raise _explain(error, labels) from error
        finally:
            timer.cancel()


def _offer_frames(database: duckdb.DuckDBPyConnection, labels: Labels) -> None:
    """Make the view `frames`, then close every other way to a file. DuckDB reads buckets through fsspec."""
    if not labels.paths:
        database.register("empty", label_schema(labels.classes).empty_table())
        database.execute("create view frames as select * exclude (mask) from empty")
    else:
        fs = labels.files.fs
        is_local = protocol_of(fs) == "file"
        if not is_local:
            database.register_filesystem(fs)
        names = [path if is_local else fs.unstrip_protocol(path) for path in labels.paths]
        folders = sorted({name.rsplit("/", 2)[0] + "/" for name in names})
        database.execute(f"set allowed_directories = {_sql_list(folders)}")
        listed = _sql_list([re.sub(r"[*?[]", r"[\g<0>]", name) for name in names])  # names, no patterns
        database.execute(f"create view frames as select * exclude (mask) from read_parquet({listed})")
    database.execute("set enable_external_access = false")
    database.execute("set lock_configuration = true")


def _sql_list(texts: Iterable[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _import_duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("duckdb", "query") from error
    return duckdb


def _explain(error: duckdb.Error, labels: Labels) -> ConfigError | StoreError:
    import duckdb

    message = _one_line(str(error).partition("LINE ")[0])
    if isinstance(error, duckdb.IOException):
        return StoreError(f"{labels.uri} cannot be queried: {message}")
    columns = [name for name in labels.frames.schema.names if name != "mask"]
    classes = ", ".join(labels.classes.identifiers)
    return ConfigError(f"{message}. Columns: {', '.join(columns)}; fields of pixels: {classes}")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
