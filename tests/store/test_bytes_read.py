"""A query over classes reads no mask, in any engine."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.dataset as pads
import pytest

from gsvnet.store.query import run_sql
from gsvnet.store.read import open_labels
from tests.counting import CountingFileSystem, num_bytes, reads_of_masks
from tests.days import Drawn, draw_masks, write_days

QUERY = "select video, frame_index, pixels.car from {} where pixels.car >= {}"


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return draw_masks(4, height=128, width=256)


@pytest.fixture(scope="module")
def day(tmp_path_factory, drawn) -> Path:
    """Two minutes of labels in two files."""
    folder = tmp_path_factory.mktemp("day")
    (folder / "spool").mkdir()
    write_days(folder / "out", drawn, spool=folder / "spool", num_shards=2, shards_per_video=1)
    return folder / "out"


@pytest.fixture
def counted() -> CountingFileSystem:
    return CountingFileSystem()


def test_a_written_day_reads_back(day, drawn):
    labels = open_labels(str(day))
    assert [len(labels.indices(video)) for video in labels.videos] == [1800, 1800]
    assert labels.row(labels.videos[1], 25).mask == drawn[3].mask
    assert labels.labels_at(labels.videos[0], [0]).shape == (1, 128, 256)


def expected_frames(drawn: list[Drawn], least: int) -> int:
    return sum(int(drawn[(number + i // 10) % 4].pixels[13] >= least) for number in range(2) for i in range(1800))


def least_cars(drawn: list[Drawn]) -> int:
    """A number of pixels that some of the masks have and others have not."""
    cars = [int(mask.pixels[13]) for mask in drawn]
    assert min(cars) < max(cars)
    return max(cars)


def test_duckdb_reads_no_mask(day, drawn, counted):
    with duckdb.connect() as database:
        database.register_filesystem(counted)
        query = QUERY.format(f"'counted://{day}/labels/**/*.parquet'", least_cars(drawn))
        assert len(database.sql(query).fetchall()) == expected_frames(drawn, least_cars(drawn))
    assert_few_bytes(counted, day)


def open_dataset(day: Path, counted: CountingFileSystem) -> pads.Dataset:
    return pads.dataset(f"{day}/labels", filesystem=counted, format="parquet")


def test_arrow_reads_no_mask(day, drawn, counted):
    wanted = pads.field("pixels", "car") >= least_cars(drawn)
    table = open_dataset(day, counted).to_table(columns=["video", "frame_index"], filter=wanted)
    assert table.num_rows == expected_frames(drawn, least_cars(drawn))
    assert_few_bytes(counted, day)


def test_duckdb_over_arrow_reads_no_mask(day, drawn, counted):
    labels = open_dataset(day, counted)  # found by its name
    found = duckdb.sql(QUERY.format("labels", least_cars(drawn))).fetchall()
    assert len(found) == expected_frames(drawn, least_cars(drawn))
    del labels
    assert_few_bytes(counted, day)


def test_polars_reads_no_mask(day, drawn, counted):
    pl = pytest.importorskip("polars")
    frames = pl.scan_pyarrow_dataset(open_dataset(day, counted))
    wanted = pl.col("pixels").struct.field("car") >= least_cars(drawn)
    found = frames.select("video", "frame_index", "pixels").filter(wanted).collect()
    assert found.height == expected_frames(drawn, least_cars(drawn))
    assert_few_bytes(counted, day)


def assert_few_bytes(counted: CountingFileSystem, day: Path) -> None:
    """Both files were read, of them no mask, and little enough that no engine fetched all and chose then."""
    assert len({path for path, _, _ in counted.reads}) == 2
    assert reads_of_masks(counted.reads) == []
    assert num_bytes(counted.reads) < 0.15 * sum(path.stat().st_size for path in day.rglob("*.parquet"))


def test_a_read_of_masks_would_be_noticed(day, counted):
    open_dataset(day, counted).to_table(columns=["mask"])
    assert reads_of_masks(counted.reads)


@pytest.mark.s3
def test_buckets_send_no_masks(day, drawn, moto_s3, monkeypatch):
    """s3fs itself would read on to the end of each file."""
    import s3fs.core

    bucket = moto_s3.make_bucket()
    s3fs.S3FileSystem(**moto_s3.options).put(str(day), f"{bucket}/out", recursive=True)
    labels = open_labels(f"s3://{bucket}/out", moto_s3.options)
    fetch, sent = s3fs.core._fetch_range, []

    def count(*arguments, **options) -> bytes:
        data = fetch(*arguments, **options)
        sent.append(len(data))
        return data

    monkeypatch.setattr(s3fs.core, "_fetch_range", count)
    query = f"select count(*) as n from frames where pixels.car >= {least_cars(drawn)}"
    assert run_sql(labels, query).to_pylist() == [{"n": expected_frames(drawn, least_cars(drawn))}]
    all_bytes = sum(path.stat().st_size for path in day.rglob("*.parquet"))
    assert 0 < sum(sent) < 0.15 * all_bytes
    sent.clear()
    assert labels.labels_at(labels.videos[0], [1000]).shape == (1, 128, 256)
    assert 0 < sum(sent) < 0.3 * all_bytes  # one row group of eight
