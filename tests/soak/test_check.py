"""The soak's own check finds each thing that must not be."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.soak.check import compare


def label_file(*frames, mask=b"road"):
    rows = [{"video": "a", "frame_index": frame, "mask": mask} for frame in frames]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


EXPECTED = {"labels/a/000000.parquet": label_file(0, 1), "labels/a/000001.parquet": label_file(2, 3)}
WHOLE = EXPECTED | {"_SUCCESS": b"", "_manifest.parquet": b"whatever"}


def test_the_same_rows_in_other_bytes_are_good():
    found = compare(WHOLE | {"labels/a/000001.parquet": label_file(2, 3)}, EXPECTED)
    assert (found.frames_expected, found.frames_found, found.is_good) == (4, 4, True)


@pytest.mark.parametrize(
    ("changes", "frames_found", "doubled", "labels_differing", "num_problems"),
    [
        ({"labels/a/000001.parquet": None}, 2, 0, 0, 0),
        ({"labels/a/000001.parquet": label_file(1, 2, 3)}, 4, 1, 0, 0),
        ({"labels/a/000001.parquet": label_file(2, 3, mask=b"sky")}, 4, 0, 2, 0),
        ({"labels/a/000001.parquet": EXPECTED["labels/a/000001.parquet"][:-9]}, 2, 0, 0, 1),
        ({"labels/a/000001-2.parquet": label_file(9)}, 4, 0, 0, 1),
        ({"_failed/a/000001.json": b"{}"}, 4, 0, 0, 1),
        ({"_SUCCESS": None}, 4, 0, 0, 1),
    ],
    ids=["missing", "doubled", "other labels", "truncated", "foreign", "given up", "not said to be done"],
)
def test_what_must_not_be_is_found(changes, frames_found, doubled, labels_differing, num_problems):
    objects = {name: content for name, content in (WHOLE | changes).items() if content is not None}
    found = compare(objects, EXPECTED)
    assert (found.frames_found, found.doubled, found.labels_differing) == (frames_found, doubled, labels_differing)
    assert len(found.problems) == num_problems
    assert not found.is_good
