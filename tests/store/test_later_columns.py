"""Which files have which columns, told by their footers' bytes as by their schemas."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.store import later_columns
from gsvnet.store.later_columns import group_by_columns

NAMES = ("drift", "drift_iou", "mask_uncertain")
COLUMNS = [
    ("a", []),
    ("b", ["drift", "drift_iou", "mask_uncertain"]),
    ("c", ["drift_iou"]),
    ("d", ["drift_iou_of_trees", "no_mask_uncertain"]),
    ("e", ["drift", "drift_iou", "mask_uncertain"]),
]


def write_file(path, columns: list[str]) -> None:
    table = pa.table({"frame_index": [1], **{name: pa.array([1.0]) for name in columns}})
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"gsvnet.uri": "s3://videos/drift_iou/mask_uncertain.mp4", "x": "the drift"})


@pytest.mark.parametrize("guess_bytes", [8, 100, 2**16])
def test_files_are_grouped_by_the_columns_that_they_have(tmp_path, monkeypatch, guess_bytes):
    monkeypatch.setattr(later_columns, "_GUESS_BYTES", guess_bytes)
    paths = {name: str(tmp_path / name) for name, _ in COLUMNS}
    for name, columns in COLUMNS:
        write_file(paths[name], columns)
    assert group_by_columns(list(paths.values()), NAMES) == {
        (): [paths["a"], paths["d"]],
        NAMES: [paths["b"], paths["e"]],
        ("drift_iou",): [paths["c"]],
    }


def test_what_cannot_be_read_has_no_columns(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_bytes(b"PAR1\xff\xff\xff\xffPAR1")
    paths = [str(tmp_path / name) for name in ("empty", "short", "gone")]
    assert group_by_columns(paths, NAMES) == {(): paths}
