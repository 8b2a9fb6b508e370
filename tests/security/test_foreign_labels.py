"""Label stores from anybody: what they name is not opened, followed, run or taken for a path of ours."""

from __future__ import annotations

import csv
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gsvnet.cli import main
from gsvnet.errors import StoreError, VideoNotFound
from gsvnet.export.formats import FORMATS
from gsvnet.reading.pictures import find_source, read_picture
from gsvnet.store.read import open_labels
from gsvnet.store.schema import open_label_writer
from gsvnet.viewing.facts import read_facts
from gsvnet.viewing.run import read_run
from tests.drawn import compact_by_hand
from tests.viewing.conftest import RUN, Output

DRIVE = "drive-0123456789ab"
DEEP = "[" * 100_000 + "]" * 100_000
HOSTILE_IDS = {
    "above": "../../escaped",
    "absolute": "/tmp/gsvnet-escaped",
    "parent": "..",
    "NUL": "a\0b",
    "escape": "\x1b[31m",
}


@pytest.fixture
def output(tmp_path) -> Output:
    return Output(tmp_path / "out")


def compacted_as(output: Output, to: Path, video: str) -> str:
    """A compacted copy whose footer and rows call the one video by another name."""
    output.write()
    compact_by_hand(output.out, str(to))
    (path,) = to.glob("labels/compacted/*.parquet")
    keys = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
    listed = [source | {"video": video} for source in json.loads(keys["gsvnet.sources"])]
    table = pq.read_table(path, partitioning=None)
    table = table.set_column(0, table.schema.field(0), pa.array([video] * len(table)))
    with path.open("wb") as file, open_label_writer(file, output.classes) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(keys | {"gsvnet.sources": json.dumps(listed)})
    return str(to)


def files_below(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=HOSTILE_IDS.values(), ids=HOSTILE_IDS)
def hostile(request, output, tmp_path) -> Iterator[str]:
    """A store whose video has such an id; nothing may appear outside of a folder `to`."""
    there = compacted_as(output, tmp_path / "deep" / "er" / "there", request.param)
    before = files_below(tmp_path)
    yield there
    assert {name for name in files_below(tmp_path) - before if not name.startswith(f"{tmp_path}/to/")} == set()
    assert not Path("/tmp/gsvnet-escaped").exists()


def test_no_export_makes_file_names_of_hostile_ids(hostile, tmp_path, capsys):
    for form in FORMATS:
        assert main(["export", form, hostile, "--to", str(tmp_path / "to" / form), "--images", "none"]) in (1, 2), form
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "to").exists()


def test_no_other_command_makes_file_names_of_hostile_ids(hostile, tmp_path):
    (tmp_path / "to").mkdir()
    for command in (
        ["review", hostile, "--write", f"{tmp_path}/to/r.csv", "--pages", f"{tmp_path}/to/review.html"],
        ["report", hostile, "--to", f"{tmp_path}/to/report.html"],
        ["verify", hostile],
        ["compact", hostile, "--to", f"{tmp_path}/to/copy"],
    ):
        assert main(command) in (0, 1, 2)


def test_failures_that_name_other_places_are_not_copied_there(output, tmp_path, capsys):
    output.write()
    place = Path(output.out) / "_failed" / DRIVE
    place.mkdir(parents=True)
    record = {"uri": "", "error": "E", "message": "m", "attempts": 1, "video": "../../../escaped", "shard": "../../x"}
    (place / "000001.json").write_text(json.dumps(record))
    before = files_below(tmp_path)
    assert main(["compact", output.out, "--to", str(tmp_path / "copy")]) == 2
    assert "is no name for an output" in capsys.readouterr().err
    assert {name for name in files_below(tmp_path) - before if not name.startswith(f"{tmp_path}/copy/")} == set()


# --- videos that a store names ---


@pytest.fixture(scope="module")
def web() -> Iterator[tuple[int, list[str]]]:
    """Port of a web server on loopback, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def knocked(web) -> tuple[int, list[str]]:
    web[1].clear()
    return web


@pytest.mark.parametrize(
    "uri",
    [
        "zip://a.mp4::http://127.0.0.1:{port}/a.zip",
        "reference://a.mp4::http://127.0.0.1:{port}/a.json",
        "filecache::http://127.0.0.1:{port}/a.mp4",
        "tar://a.mp4::file:///etc/hostname",
        "webhdfs://127.0.0.1:{port}/a.mp4",
        "github://owner:repository@main/a.mp4",
        "ssh://127.0.0.1/a.mp4",
        "data:video/mp4;base64,AAAA",
        "memory://a.mp4",
        "http://127.0.0.1:{port}/" + "a" * 10_000,
    ],
)
def test_labels_alone_open_no_chains_and_no_unusual_stores(output, knocked, uri):
    port, asked = knocked
    output.write(uri=uri.format(port=port))
    with pytest.raises(VideoNotFound):
        read_picture(open_labels(output.out), DRIVE, 0)
    assert asked == []


def test_labels_alone_open_a_video_behind_http(output, knocked):
    port, asked = knocked
    output.write(uri=f"http://127.0.0.1:{port}/a.mp4")
    with pytest.raises(VideoNotFound, match="nothing there"):
        read_picture(open_labels(output.out), DRIVE, 0)
    assert set(asked) == {"/a.mp4"}


def test_with_a_source_the_address_in_the_labels_is_not_asked(output, knocked, tmp_path):
    port, asked = knocked
    output.write(uri=f"http://127.0.0.1:{port}/a.mp4")
    with pytest.raises(VideoNotFound, match="nothing there"):
        read_picture(open_labels(output.out), DRIVE, 0, source=str(tmp_path))
    assert asked == []


def test_a_name_in_the_labels_leaves_no_source_folder():
    for uri in ("http://host/..", "http://host/", "s3://bucket/a::memory:"):
        with pytest.raises(Exception, match="no file name"):
            find_source(uri, "s3://bucket/folder/")


@pytest.mark.parametrize("uri", ["/etc/hostname", "file:///etc/hostname", "/dev/zero", "/proc/self/environ"])
def test_a_local_file_that_is_no_such_video_is_not_shown(output, uri):
    output.write(uri=uri)
    with pytest.raises(Exception, match=r"changed|not the file that was labeled|not a regular file|empty") as refusal:
        read_picture(open_labels(output.out), DRIVE, 0)
    assert os.uname().nodename not in str(refusal.value)


# --- what is written from names ---


def test_no_cell_of_a_review_begins_a_formula(output, tmp_path):
    output.write(uri='=HYPERLINK("http://evil.example")')
    assert main(["review", output.out, "--write", str(tmp_path / "r.csv"), "--budget", "2"]) == 0
    rows = list(csv.DictReader((tmp_path / "r.csv").open(newline="")))
    assert {row["uri"][:2] for row in rows} == {"'="}
    assert not [cell for row in rows for cell in row.values() if cell[:1] in ("=", "+", "-", "@")]


def test_a_review_with_such_a_cell_can_still_be_exported(output, tmp_path):
    output.write(uri="=1+1")
    listed = tmp_path / "r.csv"
    assert main(["review", output.out, "--write", str(listed), "--budget", "2"]) == 0
    assert main(["export", "png", output.out, "--to", str(tmp_path / "to"), "--frames-from", str(listed)]) == 0


# --- records that are no records ---


@pytest.mark.parametrize(
    "shard",
    [
        {"num_frames": 10**40},
        {"num_frames": 1e308},
        {"start_pts": 10**400},
        {"start_pts": "1"},
        {"index": [1]},
        {"end_pts": True},
    ],
)
def test_a_plan_with_impossible_numbers_is_named(output, shard):
    output.write()
    output.plan(DRIVE, [(0, 20), (20, 20)])
    path = Path(output.out) / "_plan" / f"{DRIVE}.json"
    plan = json.loads(path.read_text())
    plan["shards"][1] |= shard
    path.write_text(json.dumps(plan))
    with pytest.raises(StoreError, match="not of this version"):
        read_facts(open_labels(output.out))


@pytest.mark.parametrize("time_base", ["1/0", "1e999999999", "1/12800" + "0" * 500, 5, None])
def test_a_plan_with_an_impossible_time_base_is_named_at_once(output, time_base):
    output.write()
    output.plan(DRIVE, [(0, 20), (20, 20)])
    path = Path(output.out) / "_plan" / f"{DRIVE}.json"
    plan = json.loads(path.read_text())
    plan["video"]["time_base"] = time_base
    path.write_text(json.dumps(plan))
    with pytest.raises(StoreError, match="not of this version"):
        read_facts(open_labels(output.out))


@pytest.mark.parametrize(
    "data",
    [
        DEEP,
        json.dumps(RUN.to_dict() | {"wall_s": float("inf")}),
        json.dumps(RUN.to_dict() | {"wall_s": float("nan")}),
        json.dumps(RUN.to_dict() | {"frames": float("inf")}),
        json.dumps(RUN.to_dict() | {"stage_s": [1]}),
        "[]",
    ],
)
def test_a_report_of_a_run_that_makes_no_sense_is_left_out(tmp_path, data):
    (tmp_path / "_report.json").write_text(data)
    assert read_run(str(tmp_path)) is None
