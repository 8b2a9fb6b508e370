"""What tests look at in a local output: its rows, its files, and that each file is whole when it appears."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow.parquet as pq

import gsvnet
from gsvnet.store.layout import EXPORT_JOURNAL
from gsvnet.store.schema import parse_footer


def rows_of(out, storage_options=None):
    """All rows of an output, every column, in frame order."""
    frames = gsvnet.open_labels(str(out), storage_options).frames.to_table()
    return frames.sort_by([("video", "ascending"), ("frame_index", "ascending")])


def shards_of(out):
    return sorted(Path(out).glob("labels/*/*.parquet"))


def footers_of(out):
    """What each file says about itself, in the order of files."""
    return [parse_footer(pq.read_metadata(path).metadata, str(path))[0] for path in shards_of(out)]


def assert_equal_rows(found, expected):
    differing = [name for name in expected.column_names if found[name].to_pylist() != expected[name].to_pylist()]
    assert differing == []


def wait_until(condition, *, limit_s=240.0):
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


class Visible:
    """Checks each label file the moment it appears: it must be whole."""

    def __init__(self, out):
        self.out, self.seen = Path(out), set()

    def look(self):
        for path in set(shards_of(self.out)) - self.seen:
            assert pq.read_table(path).num_rows == pq.ParquetFile(path).metadata.num_rows > 0
            self.seen.add(path)
        return len(self.seen)


def assert_nothing_half_written(folder):
    for path in Path(folder).rglob("labels/*/*.parquet"):
        assert pq.read_table(path).num_rows > 0
    hidden = {path for path in Path(folder).rglob(".*") if path.is_file()}
    assert hidden == set(Path(folder).rglob(EXPORT_JOURNAL))


def failures(out="out"):
    return [json.loads(path.read_text()) for path in sorted(Path(out).glob("_failed/*/*.json"))]
