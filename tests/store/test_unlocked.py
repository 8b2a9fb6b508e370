"""Datasets for DuckDB: the same rows, and scans that begin without the interpreter's lock."""

from __future__ import annotations

import uuid

import duckdb
import pyarrow.dataset as pads
import pytest

from gsvnet.store import unlocked
from gsvnet.store.query import run_sql
from gsvnet.store.read import open_labels


@pytest.fixture
def labels(write_shard):
    """Labels in a store whose file system is written in Python."""
    out = f"memory://{uuid.uuid4().hex}"
    for shard in range(3):
        write_shard(out, shard=shard, first_frame=10 * shard, lost=[3])
    return open_labels(out)


def test_the_rows_are_those_of_the_dataset_however_they_are_asked_for(labels):
    plain = pads.dataset(labels.paths, schema=labels.frames.schema, filesystem=labels.files.fs)
    frames = unlocked.unlock(plain)
    assert frames.to_table() == plain.to_table()
    some = pads.field("frame_index") > 12
    assert frames.to_table(columns=["pts"], filter=some) == plain.to_table(columns=["pts"], filter=some)
    assert (frames.count_rows(), frames.files) == (30, plain.files)
    with duckdb.connect() as database:
        database.register("frames", frames)
        found = database.sql("select count(*), max(pts) from frames where frame_index > 12").fetchall()
    assert found == [(17, 29 * 512)]


def test_duckdb_begins_a_scan_without_the_interpreters_lock(labels, monkeypatch):
    begun = []
    to_reader = unlocked._UnlockedScanner.to_reader
    monkeypatch.setattr(unlocked._UnlockedScanner, "to_reader", lambda self: begun.append(self) or to_reader(self))
    assert run_sql(labels, "select count(*) from frames where pixels.car > 3").column(0).to_pylist() != [0]
    assert len(begun) == 1
