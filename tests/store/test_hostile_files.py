"""Sound Parquet whose rows are no label file's: every reader says so, none breaks or gives something else."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.errors import CorruptLabels, GsvnetError
from gsvnet.store.codec import encode_mask
from gsvnet.store.described import LabelFiles, describe_files
from gsvnet.store.inspect_file import Expected, inspect_whole
from gsvnet.store.job import read_job
from gsvnet.store.query import run_sql
from gsvnet.store.read import open_labels
from gsvnet.store.row_groups import FrameChoice, count_frames, list_row_groups
from gsvnet.store.scan import list_stored
from gsvnet.store.timeline import summarise_videos
from tests.fuzz import sound
from tests.fuzz.sound import HEIGHT, LABEL_PATH, NUM_FRAMES, VIDEO, WIDTH


@pytest.fixture
def output(tmp_path):
    folder = sound.Folder(tmp_path / "out")
    folder.write("_job.json", sound.JOB)
    folder.write(LABEL_PATH, sound.make_labels())
    return folder


def put(output, table, **keys) -> None:
    """The label file with these rows and footer keys."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(sound.make_keys() | keys)
    output.write(LABEL_PATH, sink.getvalue())


def change(table, name, row, value):
    at = table.column_names.index(name)
    values, field = table[name].to_pylist(), table.schema.field(at)
    values[row] = value
    return table.set_column(at, field.with_nullable(field.nullable or value is None), pa.array(values, field.type))


def double(table, name):
    return table.append_column(table.schema.field(name).with_nullable(True), table[name])


def of_type(table, name, kind):
    at = table.column_names.index(name)
    return table.set_column(at, pa.field(name, kind, False), table[name].cast(kind))


WRONG_COLUMNS = {
    "none of mask": lambda table: table.drop_columns(["mask"]),
    "none of height": lambda table: table.drop_columns(["height"]),
    "none of video": lambda table: table.drop_columns(["video"]),
    "none of time_s": lambda table: table.drop_columns(["time_s"]),
    "two of pts": lambda table: double(table, "pts"),
    "two of confidence": lambda table: double(table, "confidence"),
    "pts as text": lambda table: of_type(table, "pts", pa.string()),
    "height of 64 bits": lambda table: of_type(table, "height", pa.int64()),
    "frames as floats": lambda table: of_type(table, "frame_index", pa.float64()),
    "no height": lambda table: change(table, "height", 0, None),
    "no status": lambda table: change(table, "status", 0, None),
}


@pytest.mark.parametrize("wrong", WRONG_COLUMNS)
def test_other_columns_are_corrupt_and_foreign(output, wrong):
    put(output, WRONG_COLUMNS[wrong](sound.make_table()))
    with pytest.raises(CorruptLabels, match=r"row group 0,? has"):
        list(open_labels(output.out).stream(VIDEO))
    (file,) = next(list_stored(output.out))
    (fault,) = inspect_whole(file, Expected.of(read_job(output.out)), sample=4).faults
    assert fault.kind == "foreign"


@pytest.mark.parametrize("wrong", WRONG_COLUMNS)
def test_other_columns_break_no_reader_that_may_do_without_them(output, wrong):
    put(output, WRONG_COLUMNS[wrong](sound.make_table()))
    labels, size = open_labels(output.out), (output.path / LABEL_PATH).stat().st_size
    file = LabelFiles(out=output.out, job=labels.job.fingerprint, paths=(LABEL_PATH,), sizes=(size,))
    for read in (
        lambda: labels.labels_at(VIDEO, [0, 1]),
        lambda: labels.frames_played_at(VIDEO, [0.1]),
        lambda: count_frames(labels, list_row_groups(labels), FrameChoice()),
        lambda: describe_files(file),
        lambda: run_sql(labels, "select * from frames"),
        lambda: summarise_videos(labels),
    ):
        with contextlib.suppress(GsvnetError):
            read()


def test_a_labeled_row_without_a_mask_is_corrupt(output):
    put(output, change(sound.make_table(), "mask", 2, None))
    with pytest.raises(CorruptLabels, match="frame 2: status 'ok' and no mask"):
        open_labels(output.out).labels_at(VIDEO, [2])


def test_a_mask_of_another_size_is_not_stretched_over_the_frame(output):
    row = encode_mask(np.ones((1, WIDTH), np.uint8))
    put(output, change(change(sound.make_table(), "mask", 2, row), "height", 2, 1))
    with pytest.raises(CorruptLabels, match=f"frame 2: a mask of 1 x {WIDTH} in a video of {HEIGHT} x {WIDTH}"):
        open_labels(output.out).labels_at(VIDEO, [0, 2])


@pytest.mark.parametrize("height", [0, -1, 2**31 - 1])
def test_a_lost_frame_of_no_size_takes_no_memory(output, height):
    put(output, change(sound.make_table(), "height", 3, height))
    with pytest.raises(CorruptLabels, match=f"frame 3: a mask cannot be {height} x {WIDTH}"):
        list(open_labels(output.out).stream(VIDEO, [3]))


@pytest.mark.parametrize("height", [0, -1, 2**31 - 1])
def test_a_video_of_no_size_takes_no_memory(output, height):
    put(output, change(sound.make_table(), "height", 0, height))
    with pytest.raises(CorruptLabels, match=f"a mask cannot be {height} x {WIDTH}"):
        open_labels(output.out).labels_at(VIDEO, range(NUM_FRAMES))


@pytest.mark.parametrize(
    "keys",
    [
        {"gsvnet.first_frame": str(2**63)},
        {"gsvnet.first_frame": "-1"},
        {"gsvnet.shard": "-1"},
        {"gsvnet.num_rows": "-12"},
        {"gsvnet.time_base": "1/0"},
        {"gsvnet.time_base": "1e999999999"},
        {"gsvnet.sources": "[]"},
        {"gsvnet.sources": "[" * 100_000},
        {"gsvnet.classes": '{"name": "x", "names": ["a"], "colours": [[1e999, 0, 0]]}'},
        {"gsvnet.classes": '{"name": "x", "names": ["a"], "colours": [[256, 0, 0]]}'},
    ],
    ids=lambda keys: f"{keys!s:.40}",
)
def test_footer_keys_that_no_shard_has_are_corrupt(output, keys):
    put(output, sound.make_table(), **keys)
    with pytest.raises(CorruptLabels, match="is no label file of this program"):
        open_labels(output.out).indices(VIDEO)


def test_a_shard_without_rows_is_corrupt(output):
    put(output, sound.make_table().slice(0, 0), **{"gsvnet.num_rows": "0"})
    with pytest.raises(CorruptLabels, match="has 0 rows"):
        open_labels(output.out).indices(VIDEO)


def test_a_footer_that_is_no_utf8_is_corrupt(output):
    data = sound.make_labels().replace(b"keyframe_interval", b"keyframe_interva\xff")
    output.write(LABEL_PATH, data)
    with pytest.raises(CorruptLabels, match="cannot be read"):
        open_labels(output.out).labels_at(VIDEO, [0])


def test_texts_that_are_no_utf8_are_corrupt(output):
    table = sound.make_table()
    at = table.column_names.index("uri")
    broken = pa.array([b"\xff"] * NUM_FRAMES).cast(pa.string(), safe=False)
    put(output, table.set_column(at, table.schema.field(at), broken))
    with pytest.raises(CorruptLabels, match="a column uri that is no UTF-8"):
        open_labels(output.out).row(VIDEO, 0)


def test_rows_without_a_video_are_no_summary(output):
    put(output, change(sound.make_table(), "video", 0, None))
    with pytest.raises(CorruptLabels, match="gsvnet verify says where"):
        summarise_videos(open_labels(output.out))


def test_a_row_group_of_more_rows_than_any_label_files_is_not_read(output):
    rows = sound.make_table()
    many = pa.concat_tables([rows] * (513 // len(rows) + 1)).combine_chunks()
    put(output, many, **{"gsvnet.num_rows": str(len(many))})
    with pytest.raises(CorruptLabels, match=r"has [0-9,]+ rows; a label file's row groups have at most 512"):
        open_labels(output.out).row(VIDEO, 0)
    (file,) = next(list_stored(output.out))
    faults = inspect_whole(file, Expected.of(read_job(output.out)), sample=1).faults
    assert any("at most 512" in fault.message for fault in faults)


def test_a_query_over_names_that_are_no_utf8_is_corrupt(output):
    output.write(LABEL_PATH, sound.make_labels().replace(b"confidence_p05", b"confidence_p0\xff"))
    with pytest.raises(CorruptLabels, match="gsvnet verify lists all that is damaged"):
        run_sql(open_labels(output.out), "select * from frames")


def test_a_query_over_a_column_in_other_letters_is_corrupt(output):
    table = sound.make_table()
    names = ["fraMe_index" if name == "frame_index" else name for name in table.column_names]
    put(output, table.rename_columns(names))
    with pytest.raises(CorruptLabels, match="a column is named 'fraMe_index'; gsvnet verify lists"):
        run_sql(open_labels(output.out), "select * from frames")
