"""What FORMAT.md promises: the first version's file is read for ever, what is unknown is ignored, newer is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gsvnet.store.schema as schema
from gsvnet.errors import StoreError
from gsvnet.store.manifest import write_derived
from gsvnet.store.query import run_sql, select_frames
from gsvnet.store.read import Labels, open_labels
from tests.store.older import take_later_columns_away

STORED = Path(__file__).with_name("schema1.parquet")  # made by make_schema1.py
VIDEO = "drive-0123456789ab"
LOST = 103

MASKS = {  # ".": 255
    100: "00001111. 000011111 000111111 000111111 222111111 222111111",
    101: "00000111. 000001111 000011111 000011111 222111111 222111111",
    102: "00000011. 000000111 000001111 000001111 222011111 222011111",
    104: "021100211 002110021 100211002 110021100 211002110 021100211",
    105: "......... ......... ......... ......... ......... .........",
    106: "00000000. 000000000 000000000 000000000 222000001 222000001",
}
PIXELS = {100: (14, 33, 6), 101: (18, 29, 6), 102: (24, 23, 6), 104: (21, 22, 11), 105: (0, 0, 0), 106: (45, 2, 6)}

# The job record of version 1, as it stood beside such a file.
JOB = {
    "fields": {
        "classes": {
            "name": "three",
            "names": ["road", "traffic light", "Gehweg für Fußgänger"],
            "colours": [[128, 64, 128], [250, 170, 30], [1, 2, 3]],
        },
        "codec": "contour1",
        "keyframe_interval": 3,
        "model_hash": "a" * 64,
        "schema_version": 1,
    },
    "fingerprint": "0123456789abcdef" * 4,
}


def mask(index: int) -> np.ndarray:
    rows = MASKS[index].replace(".", "9").split()
    labels = np.array([[int(digit) for digit in row] for row in rows], np.uint8)
    return np.where(labels == 9, 255, labels).astype(np.uint8)


@pytest.fixture
def out(tmp_path) -> Path:
    """An output of version 1."""
    folder = tmp_path / "out" / "labels" / VIDEO
    folder.mkdir(parents=True)
    shutil.copy(STORED, folder / "000002.parquet")
    (tmp_path / "out" / "_job.json").write_text(json.dumps(JOB))
    return tmp_path / "out"


def test_the_stored_file_is_small_and_of_the_first_version():
    metadata = pq.read_metadata(STORED)
    assert STORED.stat().st_size < 10_000
    assert metadata.metadata[b"gsvnet.schema_version"] == b"1"
    assert metadata.num_row_groups == 2
    raw = pq.read_table(STORED, columns=["mask"])["mask"][104 - 100].as_py()
    assert raw[4:8] == bytes(4)  # no chains: one mask of each kind


def test_every_mask_of_the_first_version_is_read(out):
    labels = open_labels(str(out))
    for index in MASKS:
        np.testing.assert_array_equal(labels.labels_at("drive", [index])[0], mask(index), strict=True)
    assert (labels.labels_at("drive", [LOST]) == 255).all()


def test_the_printed_decoder_reads_the_masks_of_the_first_version():
    (source,) = re.findall(r"```python\n(.*?)```", (Path(schema.__file__).parent / "FORMAT.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(source, names)
    rows = pq.read_table(STORED).to_pylist()
    decoded = {r["frame_index"]: names["decode_mask"](r["mask"], r["height"], r["width"]) for r in rows if r["mask"]}
    assert decoded.keys() == MASKS.keys()
    for index, labels in decoded.items():
        np.testing.assert_array_equal(labels, mask(index))


def test_every_column_of_the_first_version_is_read(out):
    labels = open_labels(str(out))
    for index in range(100, 107):
        row, late, lost = labels.row("drive", index), index > 104, index == LOST
        assert (row.frame_index, row.pts) == (index, index * 1001 + late)
        assert row.time_s == pytest.approx((index * 1001 + late) / 30000, abs=1e-12)
        assert (row.is_keyframe, row.keyframe_distance) == (index % 3 == 0, None if index == 106 else index % 3)
        assert (row.height, row.width, row.status) == (6, 9, "decode_error" if lost else "ok")
        assert row.pixels == (None if lost else PIXELS[index])
        assert (row.confidence, row.confidence_p05) == ((None, None) if lost else (index / 128, index / 256))
        assert row.codec == (None if lost else "contour1")


def test_columns_that_came_later_are_null_in_the_first_version(out):
    later = schema.later_schema(open_labels(str(out)).classes).names
    assert not set(pq.read_schema(STORED).names) & set(later)
    labels = open_labels(str(out))
    assert all(getattr(labels.row("drive", 102), name) is None for name in later)
    assert (labels.uncertain_at("drive", [100, LOST]) == 255).all()
    assert {labels.frames.to_table()[name].null_count for name in later} == {7}
    query = (
        "select count(drift_agreement) a, count(class_confidence.traffic_light) b, any_value(drift_iou) c from frames"
    )
    assert run_sql(labels, query).to_pylist() == [{"a": 0, "b": 0, "c": None}]


def test_the_footer_and_classes_of_the_first_version_are_read(out):
    labels = open_labels(str(out))
    footer = labels.footer("drive")
    assert (footer.video, footer.uri, footer.identity) == (VIDEO, "s3://videos/drive.mp4", "1000:etag:abc")
    assert (footer.time_base, footer.shard, footer.first_frame) == ("1/30000", 2, 100)
    assert (footer.precision, footer.device, footer.threads, footer.decoder) == ("bf16", "cuda", 2, "cpu")
    assert (footer.job, footer.model_hash) == (JOB["fingerprint"], "a" * 64)
    assert footer.classes == labels.classes
    assert labels.classes.identifiers == ("road", "traffic_light", "gehweg_für_fußgänger")


def test_the_first_version_is_queried(out):
    labels = open_labels(str(out))
    (chosen,) = select_frames(labels, where="pixels.traffic_light > 23").values()
    assert chosen.tolist() == [100, 101]
    assert run_sql(labels, "select sum(pixels.gehweg_für_fußgänger) s from frames").to_pylist() == [{"s": 35}]
    assert write_derived(str(out), complete=False)["lost"].to_pylist() == [1]


# --- what is unknown is ignored -------------------------------------------------------------------------------------


def rewrite(path: Path, *, extra: bool = False, keys: dict[str, str] | None = None) -> None:
    """The same rows, with another column after the present ones, and footer keys changed or added."""
    file = pq.ParquetFile(path)
    table = file.read()
    found = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
    if extra:
        depth = pa.array([None if i % 2 else i * 0.5 for i in range(len(table))], pa.float32())
        table = table.append_column("mean_depth_m", depth)
    with pq.ParquetWriter(path, table.schema, write_page_checksum=True, store_schema=False) as writer:
        writer.write_table(table, row_group_size=3)
        writer.add_key_value_metadata(found | (keys or {}))


Reading = Callable[[Labels], object]
READINGS: dict[str, Reading] = {
    "labels": lambda labels: labels.labels_at(VIDEO, labels.indices(VIDEO)).tolist(),
    "rows": lambda labels: [labels.row(VIDEO, int(index)).time_s for index in labels.indices(VIDEO)],
    "stream": lambda labels: [frame.labels.tolist() for frame in labels.stream(VIDEO)],
    "times": lambda labels: labels.frames_played_at(VIDEO, [labels.row(VIDEO, 105).time_s]).tolist(),
    "dataset": lambda labels: labels.frames.to_table().to_pylist(),
    "filter": lambda labels: labels.frames.to_table(columns=["frame_index", "pixels"]).to_pylist(),
    "sql": lambda labels: run_sql(labels, "select * from frames order by video, frame_index").to_pylist(),
    "footer": lambda labels: labels.footer(VIDEO),
}


@pytest.mark.parametrize("reading", READINGS)
def test_unknown_columns_and_footer_keys_are_ignored(out, reading):
    expected = READINGS[reading](open_labels(str(out)))
    path = out / "labels" / VIDEO / "000002.parquet"
    rewrite(path, extra=True, keys={"gsvnet.weather": "fog", "other.tool": "1"})
    assert "mean_depth_m" in pq.read_schema(path).names
    assert READINGS[reading](open_labels(str(out))) == expected


@pytest.mark.parametrize("wider", ["first", "second"])
@pytest.mark.parametrize("reading", READINGS)
def test_files_with_and_without_another_column_lie_together(tmp_path, write_shard, reading, wider):
    out = str(tmp_path / "out")
    paths = [Path(write_shard(out, shard=i, first_frame=100 + i * 10)) for i in range(2)]
    expected = READINGS[reading](open_labels(out))
    rewrite(paths[wider == "second"], extra=True)
    assert READINGS[reading](open_labels(out)) == expected


@pytest.fixture(params=["first", "second"])
def mixed(request, tmp_path, write_shard) -> str:
    """An output that an earlier gsvnet began or went on with: one of two shards lacks the columns that came later."""
    out = str(tmp_path / "out")
    paths = [write_shard(out, shard=i, first_frame=100 + i * 10, full=True) for i in range(2)]
    take_later_columns_away(paths[request.param == "second"])
    return out


def first_of_full(out: str) -> int:
    """The first frame of the shard that has all columns."""
    full = [path for path in sorted(Path(out).rglob("*.parquet")) if "drift_iou" in pq.read_schema(path).names]
    return 100 + 10 * int(full[0].stem)


@pytest.mark.parametrize("reading", sorted(READINGS.keys() - {"dataset", "sql", "footer"}))
def test_files_from_before_the_later_columns_read_like_others(mixed, tmp_path, write_shard, reading):
    for i in range(2):
        write_shard(str(tmp_path / "whole"), shard=i, first_frame=100 + i * 10, full=True)
    assert READINGS[reading](open_labels(mixed)) == READINGS[reading](open_labels(str(tmp_path / "whole")))


def test_rows_of_files_from_before_have_null_in_the_later_columns(mixed, full_row_of, uncertain_of):
    labels, first = open_labels(mixed), first_of_full(mixed)
    other = 210 - first
    for index in (first, first + 3):
        assert labels.row(VIDEO, index).class_confidence[0] == full_row_of(index).class_confidence[0]
        assert labels.row(VIDEO, other + index - first).class_confidence is None
    maps = labels.uncertain_at(VIDEO, [first + 3, other + 3])
    np.testing.assert_array_equal(maps[0], uncertain_of(first + 3))
    assert (maps[1] == 255).all()


@pytest.mark.parametrize("engine", ["duckdb", "arrow"])
def test_sql_sees_null_where_a_file_lacks_a_column(mixed, engine, monkeypatch):
    if engine == "arrow":
        monkeypatch.setattr("gsvnet.store.query.protocol_of", lambda fs: "another")
    labels, first = open_labels(mixed), first_of_full(mixed)
    query = """
        select min(frame_index) as first, count(*) as num, sum(class_confidence.car) as car
        from frames where class_confidence is not null
    """
    car = sum(i % 8 / 8 for i in range(first, first + 10))
    assert run_sql(labels, query).to_pylist() == [{"first": first, "num": 10, "car": car}]
    (chosen,) = select_frames(labels, where="drift_agreement is null").values()
    assert chosen.tolist() == [i for i in range(100, 120) if i not in (first, first + 5)]
    assert run_sql(labels, "from frames limit 0").column_names == [
        name for name in labels.frames.schema.names if not name.startswith("mask")
    ]


def test_engines_read_files_from_before_the_later_columns(mixed):
    files, first = f"{mixed}/labels/**/*.parquet", first_of_full(mixed)
    query = "select frame_index, drift_iou.car from read_parquet('{}', union_by_name = true) where drift_agreement <= 1"
    iou = [first % 8 / 16, (first + 5) % 8 / 16]
    assert sorted(duckdb.sql(query.format(files)).fetchall()) == [(first, iou[0]), (first + 5, iou[1])]


def test_engines_read_files_with_and_without_another_column(tmp_path, write_shard):
    pl = pytest.importorskip("polars")
    out = tmp_path / "out"
    paths = [Path(write_shard(str(out), shard=i, first_frame=i * 10)) for i in range(2)]
    rewrite(paths[1], extra=True)
    files = f"{out}/labels/**/*.parquet"
    query = f"select count(*), sum(pixels.car) from (select * exclude (mask) from '{files}')"
    ((count, cars),) = duckdb.sql(query).fetchall()
    frames = pl.scan_parquet(files, extra_columns="ignore").select(pl.len(), pl.col("pixels").struct.field("car").sum())
    assert (count, cars) == frames.collect().row(0)
    assert count == 20


def test_other_files_of_an_output_are_no_labels(out):
    for name in ("_notes.txt", "labels/.hidden.parquet", f"labels/{VIDEO}/.gsvnet-host-1-2.tmp", "_new/000.parquet"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(b"of another version")
    record = json.loads((out / "_job.json").read_text())
    (out / "_job.json").write_text(json.dumps({**record, "weather": "fog"}))
    labels = open_labels(str(out))
    assert len(labels.paths) == 1
    assert labels.frames.count_rows() == 7


# --- what is newer is refused ---------------------------------------------------------------------------------------


def test_a_newer_output_is_refused_by_name(out):
    fields = {**JOB["fields"], "schema_version": 2}
    (out / "_job.json").write_text(json.dumps({**JOB, "fields": fields}))
    with pytest.raises(StoreError, match=r"_job\.json has schema version 2; this gsvnet reads up to 1: upgrade it"):
        open_labels(str(out))


@pytest.mark.parametrize("reading", sorted(READINGS.keys() - {"dataset", "filter", "sql"}))
def test_a_newer_file_is_refused_by_name(out, reading):
    rewrite(out / "labels" / VIDEO / "000002.parquet", keys={"gsvnet.schema_version": "2"})
    with pytest.raises(StoreError, match=r"000002\.parquet has schema version 2; this gsvnet reads up to 1: upgrade"):
        READINGS[reading](open_labels(str(out)))


def test_a_newer_codec_is_refused_by_name(out, monkeypatch):
    monkeypatch.setattr("gsvnet.store.label_file.CODEC", "contour0")
    labels = open_labels(str(out))
    with pytest.raises(StoreError, match=r"000002\.parquet, frame 100: codec 'contour1' is not known .*upgrade"):
        labels.labels_at("drive", [100])
    assert labels.frames.count_rows() == 7
