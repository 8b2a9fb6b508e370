"""Every code block of RECIPES.md runs, on a folder and on a bucket, and finds what numpy finds."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import numpy as np
import pyarrow.dataset as ds
import pytest

import gsvnet.store.schema as schema
from gsvnet.classes import CAMVID
from gsvnet.store.codec import pixel_counts
from gsvnet.store.manifest import write_derived
from tests.drawn import Drawn
from tests.store.recipe_output import DAY, LOST, LOW, NIGHT, PEDESTRIAN, write_output

pytest.importorskip("polars")

FOLDER = Path(schema.__file__).parent
CONSUMERS = "GSVNET_CONSUMERS_PYTHON"
Frames = dict[str, dict[int, Drawn]]
Rows = list[tuple]


@dataclass(frozen=True)
class Block:
    section: str
    language: str
    number: int  # among the section's blocks
    code: str

    def __str__(self) -> str:
        return self.section


def read_blocks() -> list[Block]:
    found = []
    for part in re.split(r"^## ", (FOLDER / "RECIPES.md").read_text(), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL)
        found += [Block(part.partition("\n")[0], language, i, code) for i, (language, code) in enumerate(blocks)]
    return found


BLOCKS = read_blocks()


def block(section: str, number: int) -> Block:
    (found,) = [b for b in BLOCKS if (b.section, b.number) == (section, number)]
    return found


# --- what numpy finds -------------------------------------------------------------------------------------------------


def sound(frames: Frames) -> Iterator[tuple[str, int, Drawn]]:
    for video in sorted(frames):
        for index, frame in sorted(frames[video].items()):
            if frame.labels is not None:
                yield video, index, frame


def shares(frame: Drawn) -> np.ndarray:
    return pixel_counts(frame.labels, len(CAMVID)) / frame.labels.size


def many_pedestrians(frames: Frames) -> Rows:
    found = [(v, i, f.time_s, 100 * (f.labels == PEDESTRIAN).mean()) for v, i, f in sound(frames)]
    return [row for row in found if row[3] > 2]


def scene_changes(frames: Frames) -> Rows:
    found, before = [], {}
    for video, index, frame in sound(frames):
        if video in before and (change := np.abs(shares(frame) - before[video]).sum() / 2) > 0.3:
            found.append((video, index, frame.time_s, change))
        before[video] = shares(frame)
    assert [row[:2] for row in found] == [(DAY, 80), (NIGHT, 30)]
    return found


def areas_over_time(frames: Frames) -> Rows:
    counts, sizes = defaultdict(lambda: np.zeros(len(CAMVID))), defaultdict(int)
    for video, _, frame in sound(frames):
        key = (video, int(frame.time_s // 60))
        counts[key] += pixel_counts(frame.labels, len(CAMVID))
        sizes[key] += frame.labels.size
    assert list(counts) == [(DAY, 0), (DAY, 1), (NIGHT, 0)]
    return sorted(
        (*key, name, 100 * count / sizes[key]) for key in counts for name, count in zip(CAMVID.identifiers, counts[key])
    )


def low_stretches(frames: Frames) -> Rows:
    found = []
    for first, last in ((100, 114), (130, 132)):
        mean = np.mean([frames[DAY][i].confidence for i in range(first, last + 1)])
        found.append((DAY, first / 2, last / 2, (last - first) / 2, mean))
    return found


def weather(frames: Frames) -> Rows:
    found = []
    for video, name in ((NIGHT, "rain"), (DAY, "sun")):
        labels = [frame.labels for frame in frames[video].values() if frame.labels is not None]
        people = sum(int((mask == PEDESTRIAN).sum()) for mask in labels)
        found.append((name, len(labels), 100 * people / sum(mask.size for mask in labels)))
    return found


def least_certain(frames: Frames) -> Rows:
    best: dict = {}
    for video, index, frame in sound(frames):
        key = (video, int(frame.time_s // 30))
        best[key] = min(best.get(key, (2.0, -1)), (frame.confidence, index))
    return [(*key, index) for key, (_, index) in sorted(best.items())]


def most_drifted(frames: Frames) -> Rows:
    found = [
        (video, index, frame.time_s, 1 - frame.drift[0], frame.drift[1][PEDESTRIAN])
        for video, index, frame in sound(frames)
        if frame.drift
    ]
    assert len(found) > 20
    return sorted(found, key=lambda row: (-row[3], row[:2]))[:20]


def unsure_pedestrians(frames: Frames) -> Rows:
    found = [
        (frame.by_class[PEDESTRIAN], video, index, frame.time_s, 100 * (frame.labels == PEDESTRIAN).mean())
        for video, index, frame in sound(frames)
        if frame.by_class[PEDESTRIAN] < 0.4
    ]
    assert len(found) > 20
    return [(video, index, time_s, least, percent) for least, video, index, time_s, percent in sorted(found)[:20]]


def coverage(frames: Frames) -> Rows:
    return [(DAY, 190, len(LOST), 10, 100 * 185 / 200), (NIGHT, 60, 0, 0, 100.0)]


def manifest_rows(frames: Frames) -> Rows:
    return [
        (f"labels/{video}/{shard:06d}.parquet", None, 10)
        for video in sorted(frames)
        for shard in sorted({index // 10 for index in frames[video]})
    ]


EXPECTED: dict[str, Callable[[Frames], Rows]] = {
    "Frames with more than 2 % pedestrian": many_pedestrians,
    "One frame per scene change": scene_changes,
    "Class area over time": areas_over_time,
    "Stretches of low confidence": low_stretches,
    "Join with your own tables": weather,
    "Frames to review": least_certain,
    "Chunks that drifted most": most_drifted,
    "Frames with unsure pedestrians": unsure_pedestrians,
    "Lost frames and coverage": coverage,
    "Lakehouses": manifest_rows,
}
ON_THEIR_OWN = {
    "Setup", "Buckets", "A random sample", "The masks of a query's frames", "Hugging Face datasets", "A torch loader",
}  # fmt: skip


def assert_rows(found: Rows, expected: Rows) -> None:
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected):
        for value, right in zip(row, wanted, strict=True):
            assert right is None or value == (pytest.approx(right, rel=1e-6) if isinstance(right, float) else right)


# --- the two stores ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    uri: str
    frames: Frames
    folder: Path  # holds trips.csv, and out where it is local

    def code(self, block: Block) -> str:
        """A block as a user has it whose output is this one."""
        text = block.code.replace("s3://bucket/out", "out")
        return text if self.uri == "out" else re.sub(r"(?<=[\"'])out(?=[/\"'])", self.uri, text)


def write_trips(folder: Path) -> None:
    with (folder / "trips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("uri", "weather"), (f"s3://videos/{DAY}.mp4", "sun"), (f"s3://videos/{NIGHT}.mp4", "rain")])


@pytest.fixture(scope="module")
def local_output(tmp_path_factory) -> Output:
    folder = tmp_path_factory.mktemp("recipes")
    write_trips(folder)
    frames = write_output(str(folder / "out"), spool=folder / "spool")
    write_derived(str(folder / "out"), complete=False)
    return Output("out", frames, folder)


@pytest.fixture(scope="module")
def bucket_output(tmp_path_factory, moto_s3) -> Output:
    folder = tmp_path_factory.mktemp("recipes-s3")
    write_trips(folder)
    uri = f"s3://{moto_s3.make_bucket()}/out"
    frames = write_output(uri, spool=folder / "spool", storage_options=moto_s3.options)
    write_derived(uri, complete=False, storage_options=moto_s3.options)
    return Output(uri, frames, folder)


@pytest.fixture
def bucket(bucket_output, moto_s3, monkeypatch) -> Output:
    """The output in a bucket; the environment says how to reach it."""
    monkeypatch.chdir(bucket_output.folder)
    values = {"ENDPOINT_URL": moto_s3.endpoint_url, "ACCESS_KEY_ID": moto_s3.key, "SECRET_ACCESS_KEY": moto_s3.secret}
    for name, value in {**values, "REGION": "us-east-1", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.filesystem("s3").clear_instance_cache()  # an instance keeps what the environment said
    return bucket_output


@pytest.fixture
def local(local_output, monkeypatch) -> Output:
    monkeypatch.chdir(local_output.folder)
    return local_output


@pytest.fixture(params=["local", pytest.param("bucket", marks=pytest.mark.s3)])
def output(request) -> Output:
    return request.getfixturevalue(request.param)


def run_python(code: str, names: dict[str, Any]) -> Any:
    """Run a block; the value of its last statement where that is an expression, as a notebook shows it."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "RECIPES.md", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "RECIPES.md", "eval"), names)


@pytest.fixture
def database(output) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the view of the setup."""
    with duckdb.connect() as connection:
        if output.uri == "out":
            connection.execute(output.code(block("Setup", 0)))
        else:
            connection.register_filesystem(fsspec.filesystem("s3"))  # for _manifest.parquet, read by one thread
            connection.register("labels", ds.dataset(f"{output.uri}/labels"))
            connection.execute("create view frames as select * not like 'mask%' from labels")
        yield connection


@pytest.fixture
def names(output) -> dict[str, Any]:
    """What the Polars block of the setup defines."""
    found: dict[str, Any] = {}
    run_python(output.code(block("Setup", 1)), found)
    return found


# --- the blocks -------------------------------------------------------------------------------------------------------


def test_every_block_is_run():
    assert {b.section for b in BLOCKS} == EXPECTED.keys() | ON_THEIR_OWN


@pytest.mark.parametrize("found", [b for b in BLOCKS if b.section in EXPECTED and b.language == "sql"], ids=str)
def test_duckdb_finds_what_numpy_finds(found, database, output):
    assert_rows(database.sql(output.code(found)).fetchall(), EXPECTED[found.section](output.frames))


@pytest.mark.parametrize("found", [b for b in BLOCKS if b.section in EXPECTED and b.language == "python"], ids=str)
def test_polars_finds_what_numpy_finds(found, names, output):
    assert_rows(run_python(output.code(found), names).rows(), EXPECTED[found.section](output.frames))


def test_the_setup_leaves_the_masks_out(database, names):
    columns = [row[0] for row in database.sql("describe frames").fetchall()]
    assert columns == names["frames"].collect_schema().names()
    assert columns[-1] == "class_confidence"
    assert not {"mask", "mask_uncertain"} & set(columns)
    assert database.sql("select count(*) from frames").fetchall() == [(250,)]


def test_random_samples_repeat(database, names, output):
    everything = {(video, index) for video, index, _ in sound(output.frames)}
    query = output.code(block("A random sample", 0))
    for rows in (database.sql(query).fetchall(), run_python(output.code(block("A random sample", 1)), names).rows()):
        assert len(set(rows)) == 20
        assert set(rows) <= everything
    assert database.sql(query).fetchall() == database.sql(query).fetchall()


def test_masks_of_a_query(names, output):
    run_python(output.code(block("The masks of a query's frames", 0)), names)
    assert names["masks"].keys() == {DAY}
    indices = names["chosen"]["frame_index"].to_list()
    assert sorted(indices) == sorted(LOW)
    np.testing.assert_array_equal(names["masks"][DAY], np.stack([output.frames[DAY][i].labels for i in indices]))


def test_masks_by_the_reference_decoder(names, output):
    (source,) = re.findall(r"```python\n(.*?)```", (FOLDER / "FORMAT.md").read_text(), re.DOTALL)
    exec(source, names)
    run_python(output.code(block("The masks of a query's frames", 1)), names)
    np.testing.assert_array_equal(names["masks"], np.stack([output.frames[DAY][i].labels for i in sorted(LOW)]))


def test_the_torch_loader(output):
    pytest.importorskip("torch")
    names: dict[str, Any] = {}
    run_python(output.code(block("A torch loader", 0)), names)
    expected = {i for v, i, f in sound(output.frames) if v == DAY and (f.labels == PEDESTRIAN).sum() > 10}
    seen = [int(i) for batch in names["loader"] for i in batch["frame_index"]]
    assert len(seen) == len(expected)
    assert set(seen) == expected


@pytest.mark.s3
def test_duckdb_reads_a_bucket_through_arrow(bucket):
    try:
        run_python(bucket.code(block("Buckets", 1)), {})
        assert duckdb.sql("select count(*) from frames").fetchall() == [(250,)]
    finally:
        duckdb.execute("drop view if exists frames")
        duckdb.unregister("labels")


@pytest.mark.s3
def test_polars_reads_a_bucket_with_options(bucket):
    names: dict[str, Any] = {}
    run_python(bucket.code(block("Buckets", 2)), names)
    assert names["frames"].collect().height == 250


@pytest.mark.s3
def test_duckdb_reads_a_bucket_through_httpfs(bucket, moto_s3):
    with duckdb.connect() as connection:
        try:
            connection.execute("load httpfs; load aws")  # installed by hand, from the network
        except duckdb.Error as error:
            pytest.skip(f"DuckDB has no httpfs here: {str(error)[:60]}")
        here = f"endpoint '{moto_s3.endpoint_url.removeprefix('http://')}', use_ssl false, url_style 'path'"
        connection.execute(bucket.code(block("Buckets", 0)).replace("(type s3", f"(type s3, {here}"))
        assert connection.sql("select count(*) from frames").fetchall() == [(250,)]


PRINT_ROWS = """
import json
print(json.dumps([[str(row["video"]), int(row["frame_index"]), row["labels"].tolist()] for row in dataset]))
"""


def test_hugging_face_streams_the_masks(output, tmp_path):
    python = os.environ.get(CONSUMERS)
    if not python:
        pytest.skip(f"name a Python that has `datasets` and s3fs in {CONSUMERS}")
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    code = output.code(block("Hugging Face datasets", 0)) + PRINT_ROWS
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    rows = {(video, index): mask for video, index, mask in json.loads(done.stdout.splitlines()[-1])}
    assert rows.keys() == {(video, index) for video, index, _ in sound(output.frames)}
    for (video, index), mask in rows.items():
        np.testing.assert_array_equal(mask, output.frames[video][index].labels)
