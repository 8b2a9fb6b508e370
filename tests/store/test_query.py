"""Frames chosen by SQL: what is found, what is refused, and that a statement sees the labels alone."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gsvnet.errors import ConfigError, CorruptLabels, MissingExtra, StoreError
from gsvnet.store.query import run_sql, select_frames
from gsvnet.store.read import Labels, open_labels
from tests.drawn import Drawn, compact_by_hand, write_video

DAY, NIGHT = "day-0123456789ab", "night-ba9876543210"
LOST = 7


def draw(index: int) -> np.ndarray:
    labels = np.zeros((4, 40), np.uint8)
    labels[1, :index] = 8  # car
    return labels


def write_output(out: str, spool: Path, storage_options: dict | None = None) -> str:
    """Thirty frames of one video in shards of ten, one lost; ten of another. Frame i has i pixels of car."""
    for video, num_frames in ((DAY, 30), (NIGHT, 10)):
        frames = [
            Drawn(labels=None if i == LOST and video == DAY else draw(i), time_s=i / 10) for i in range(num_frames)
        ]
        write_video(out, video, frames, spool=spool, shard_frames=10, storage_options=storage_options)
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("query")
    return write_output(str(folder / "out"), folder / "spool")


@pytest.fixture(scope="module")
def labels(out) -> Labels:
    return open_labels(out)


def as_lists(chosen: dict[str, np.ndarray]) -> dict[str, list[int]]:
    assert all(indices.dtype == np.int64 for indices in chosen.values())
    return {video: indices.tolist() for video, indices in chosen.items()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {DAY: list(range(30)), NIGHT: list(range(10))}),
        ({"every": 10}, {DAY: [0, 10, 20], NIGHT: [0]}),
        ({"where": "pixels.car > 27"}, {DAY: [28, 29]}),
        ({"where": "pixels.car > 5 and pixels.car < 9"}, {DAY: [6, 8], NIGHT: [6, 7, 8]}),
        ({"where": "pixels.car > 5", "every": 9}, {DAY: [9, 18, 27], NIGHT: [9]}),
        ({"where": "status != 'ok'"}, {DAY: [7]}),
        ({"where": "confidence is null or pixels.car = 0"}, {DAY: [0, 7], NIGHT: [0]}),
        ({"where": "time_s < 0.25", "videos": ["night"]}, {NIGHT: [0, 1, 2]}),
        ({"videos": [NIGHT, "day", DAY], "every": 9}, {DAY: [0, 9, 18, 27], NIGHT: [0, 9]}),
        ({"limit": 0}, {}),
        ({"limit": 32, "every": 1, "videos": ["day", "night"]}, {DAY: list(range(30)), NIGHT: [0, 1]}),
        ({"where": "pixels.car >= 8", "limit": 3}, {DAY: [8, 9, 10]}),
        ({"where": "frame_index > 1000"}, {}),
        ({"where": "frame_index = 3 -- the third\n"}, {DAY: [3], NIGHT: [3]}),
        ({"where": "frame_index = 3 /* or 4 */ and video like 'day%'"}, {DAY: [3]}),
        ({"where": "frame_index in (select max(frame_index) from frames)"}, {DAY: [29]}),
        ({"where": "frame_index = 1 or frame_index = 2", "every": 2}, {DAY: [2], NIGHT: [2]}),
    ],
)
def test_chosen_frames(labels, options, expected):
    chosen = as_lists(select_frames(labels, **options))
    assert chosen == expected
    assert list(chosen) == sorted(chosen)


def test_frames_come_in_order_whatever_the_threads(labels):
    for _ in range(5):
        assert as_lists(select_frames(labels, where="status = 'ok' or true"))[DAY] == list(range(30))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "speed > 3",
            r"speed.*Columns: video, uri, .*; fields of pixels, drift_iou, class_confidence: sky, building",
        ),
        ("pixels.lorry > 3", r"lorry.*fields of pixels, .*: .*car, pedestrian"),
        ("mask is not null", "mask"),
        ("mask_uncertain is not null", "mask_uncertain"),
        ("pixels.car >", "Parser Error"),
        ("", "Columns: video"),
        ("/* no end", "Parser Error"),
        ("true) --", "Parser Error"),
        ("true); select 1; --", "one SELECT statement|Parser Error"),
        ("true\n); drop view frames; --", "one SELECT statement|Parser Error"),
        ("video = 5", "Conversion Error|Could not convert"),
        ("sum(pixels.car) > 3", "aggregate"),
        ("frame_index in (select content from read_text('/etc/hostname'))", "disabled by configuration"),
    ],
)
def test_a_bad_condition_is_a_config_error(labels, where, message):
    with pytest.raises(ConfigError, match=message):
        select_frames(labels, where=where)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"every": 0}, "every 0"), ({"limit": -1}, "limit -1"), ({"videos": ["dusk"]}, "dusk"), ({"videos": [""]}, "''")],
)
def test_other_bad_arguments_are_config_errors(labels, options, message):
    with pytest.raises(ConfigError, match=message):
        select_frames(labels, **options)


def test_a_select_gives_a_table(labels):
    table = run_sql(
        labels, "select video, count(*) as n, sum(pixels.car) as cars from frames group by all order by all;"
    )
    assert [tuple(row.values()) for row in table.to_pylist()] == [(DAY, 30, 428), (NIGHT, 10, 45)]
    assert run_sql(labels, "from frames limit 0").column_names == [
        name for name in labels.frames.schema.names if not name.startswith("mask")
    ]


STATEMENTS = [
    "select 1; select 2",
    "",
    ";",
    "-- nothing",
    "copy frames to '{there}/stolen.csv'",
    "export database '{there}/stolen'",
    "attach '{there}/other.db'",
    "create table mine as from frames",
    "create or replace view frames as select 1",
    "pragma database_list",
    "call pragma_version()",
    "set threads = 1",
    "set enable_external_access = true",
    "reset enable_external_access",
    "install httpfs",
    "load httpfs",
    "explain select 1",
    "prepare p as select 1",
    "from read_text('{there}/secret.txt')",
    "from '{there}/secret.csv'",
    "from read_csv('{there}/secret.csv')",
    "from read_blob('{there}/*')",
    "from glob('{there}/*')",
    "from read_parquet('{there}/*.parquet')",
    "from read_parquet('https://127.0.0.1:1/a.parquet')",
    "from read_csv('s3://bucket/a.csv')",
    "from secret_rows",
    "select getenv('HOME')",
    "select mask from frames",
    "select mask_uncertain from frames",
    "from duckdb_secrets() where write_text('{there}/stolen.txt', 'x')",
]


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """A folder beside the output with files that no statement may see or write."""
    folder = tmp_path_factory.mktemp("there")
    for name in ("secret.txt", "secret.csv"):
        (folder / name).write_text("key\nvalue\n")
    return folder


@pytest.mark.parametrize("statement", STATEMENTS)
def test_all_but_a_select_of_frames_is_one_config_error(labels, there, statement):
    secret_rows = labels.class_table  # a variable that DuckDB could find by its name
    with pytest.raises(ConfigError) as caught:
        run_sql(labels, statement.format(there=there))
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in there.iterdir()) == ["secret.csv", "secret.txt"]
    assert len(secret_rows) == 11


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_output_without_labels_refuses_the_same(tmp_path_factory, out, there, statement):
    empty = tmp_path_factory.mktemp("empty") / "out"
    empty.mkdir()
    shutil.copy(Path(out) / "_job.json", empty)
    with pytest.raises(ConfigError):
        run_sql(open_labels(str(empty)), statement.format(there=there))


def test_an_output_without_labels_has_no_frames(tmp_path, out):
    shutil.copy(Path(out) / "_job.json", tmp_path)
    labels = open_labels(str(tmp_path))
    assert select_frames(labels) == {}
    assert select_frames(labels, where="pixels.car > 3") == {}
    assert run_sql(labels, "select count(*) as n, sum(pixels.car) as cars from frames").to_pylist() == [
        {"n": 0, "cars": None}
    ]


@pytest.mark.parametrize("name", ["it's", "a*b", "what?", "[ab]", "ein Ärger {x} %s", "semi;colon", 'dou"ble', "-- no"])
def test_names_of_folders_are_names(tmp_path, name):
    out = write_output(str(tmp_path / name / "out"), tmp_path / "spool")
    (tmp_path / "ab").mkdir()
    shutil.copytree(out, tmp_path / "ab" / "out")
    labels = open_labels(out)
    assert as_lists(select_frames(labels, where="pixels.car = 9")) == {DAY: [9], NIGHT: [9]}
    assert run_sql(labels, "select count(*) as n from frames").to_pylist() == [{"n": 40}]
    with pytest.raises(ConfigError, match="dusk's"):
        select_frames(labels, where="true", videos=["dusk's"])


def test_a_query_that_takes_too_long_is_stopped(labels):
    start_s = time.monotonic()
    with pytest.raises(ConfigError, match=r"longer than 0\.2 s"):
        run_sql(labels, "select count(*) from range(100000000000) r, frames where r.range % 7 = 3", timeout_s=0.2)
    assert time.monotonic() - start_s < 20
    assert run_sql(labels, "select 1 as one", timeout_s=20).to_pylist() == [{"one": 1}]


def test_an_interrupt_that_comes_between_statements_is_not_lost(labels):
    with pytest.raises(ConfigError, match="longer than 1e-06 s"):
        run_sql(labels, "select count(*) from range(100000000000) r, frames where r.range % 7 = 3", timeout_s=1e-6)


def test_a_query_is_stopped_by_an_event(labels):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(ConfigError, match="was stopped"):
        run_sql(labels, "select count(*) from range(100000000000) r, frames where r.range % 7 = 3", stop=stop)


def test_a_query_gets_no_more_memory_than_it_may(labels):
    greedy = "select count(distinct repeat('x', 1000) || r.range) from range(2000000) r"
    with pytest.raises(ConfigError, match="too much memory"):
        run_sql(labels, greedy, memory_bytes=100 * 2**20)
    assert run_sql(labels, "select count(*) as n from frames", memory_bytes=100 * 2**20).to_pylist() == [{"n": 40}]


def test_folders_named_like_columns_are_no_columns(tmp_path):
    out = write_output(str(tmp_path / "video=day1" / "status=ok" / "frame_index=7" / "out"), tmp_path / "spool")
    labels = open_labels(out)
    assert as_lists(select_frames(labels, where="true")) == {DAY: list(range(30)), NIGHT: list(range(10))}


def test_a_condition_cannot_widen_the_choice(labels):
    chosen = select_frames(labels, where="frame_index = 0) or (frame_index = 1", every=2, videos=[DAY])
    assert as_lists(chosen) == {DAY: [0]}


DAMAGE = {
    "truncated": (lambda data: data[:-20], CorruptLabels, r"000001\.parquet.*gsvnet verify"),
    "empty": (lambda data: b"", CorruptLabels, r"000001\.parquet.*gsvnet verify"),
    "another file": (lambda data: b"no Parquet at all, but long enough", CorruptLabels, r"000001\.parquet"),
    "zeros": (lambda data: bytes(2000) + data[2000:], CorruptLabels, "gsvnet verify"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_no_fault_of_the_query(tmp_path, kind):
    change, error, message = DAMAGE[kind]
    out = write_output(str(tmp_path / "out"), tmp_path / "spool")
    labels = open_labels(out)
    path = Path(out) / "labels" / DAY / "000001.parquet"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error, match=message):
        run_sql(labels, "select sum(pixels.car), max(time_s), max(video) from frames")


def test_a_file_that_went_is_a_store_error(tmp_path):
    out = write_output(str(tmp_path / "out"), tmp_path / "spool")
    labels = open_labels(out)
    (Path(out) / "labels" / DAY / "000001.parquet").unlink()
    with pytest.raises(StoreError, match=r"cannot be queried: .*000001\.parquet"):
        run_sql(labels, "select sum(pixels.car) from frames")


def test_without_duckdb_the_extra_is_named(labels, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[query\]"):
        run_sql(labels, "select 1")


def test_compacted_outputs_answer_alike(out, labels, tmp_path):
    compact_by_hand(out, str(tmp_path / "compacted"), group_rows=7)
    compacted = open_labels(str(tmp_path / "compacted"))
    for options in ({}, {"where": "pixels.car > 5", "every": 3}, {"where": "true", "videos": ["night"]}):
        assert as_lists(select_frames(compacted, **options)) == as_lists(select_frames(labels, **options))


@pytest.fixture(scope="module")
def bucket(moto_s3, tmp_path_factory) -> Callable[[str], Labels]:
    out = write_output(f"s3://{moto_s3.make_bucket()}/out", tmp_path_factory.mktemp("s3") / "spool", moto_s3.options)
    compact_by_hand(out, out.replace("/out", "/compacted"), storage_options=moto_s3.options)
    return lambda kind: open_labels(out.replace("/out", f"/{kind}"), moto_s3.options)


@pytest.mark.s3
@pytest.mark.parametrize("kind", ["out", "compacted"])
def test_buckets_answer_alike(bucket, labels, kind):
    there = bucket(kind)
    for options in ({"every": 7}, {"where": "pixels.car > 5 and status = 'ok'"}, {"where": "status != 'ok'"}):
        assert as_lists(select_frames(there, **options)) == as_lists(select_frames(labels, **options))


@pytest.mark.s3
@pytest.mark.parametrize("statement", STATEMENTS)
def test_buckets_refuse_the_same(bucket, there, statement):
    with pytest.raises(ConfigError):
        run_sql(bucket("out"), statement.format(there=there))


@pytest.mark.s3
def test_a_missing_object_is_a_store_error(moto_s3, tmp_path):
    out = write_output(f"s3://{moto_s3.make_bucket()}/out", tmp_path / "spool", moto_s3.options)
    labels = open_labels(out, moto_s3.options)
    labels.files.fs.rm_file(labels.paths[1])
    with pytest.raises(StoreError, match=r"000001\.parquet"):
        run_sql(labels, "select sum(pixels.car) from frames")
    moto_s3.client().put_object(Bucket=out.split("/")[2], Key=labels.paths[1].partition("/")[2], Body=b"no Parquet")
    with pytest.raises(CorruptLabels, match=r"000001\.parquet.*gsvnet verify"):
        run_sql(labels, "select sum(pixels.car) from frames")


def test_a_statement_that_is_no_utf8_is_refused(labels):
    with pytest.raises(ConfigError, match="text in UTF-8"):
        select_frames(labels, where="video = '\udcff'")
