"""What the README tells users of labels to type works as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import duckdb
import pytest

import gsvnet
from gsvnet.cli import COMMANDS, main

README = (Path(__file__).parents[1] / "README.md").read_text()
LABELS = README.partition("## The labels\n")[2].partition("\n## ")[0]


@pytest.fixture
def out(label_config, tmp_path, monkeypatch):
    """An output `out/` in the current folder."""
    report = gsvnet.label(label_config())
    monkeypatch.chdir(tmp_path)
    return report.out


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", LABELS, re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_the_query_finds_what_it_says(out):
    (sql,) = blocks("sql")
    rows = gsvnet.open_labels(out).frames.to_table().to_pylist()
    wanted = [row for row in rows if row["pixels"]["car"] > 0.02 * row["height"] * row["width"]]
    assert duckdb.sql(sql).fetchall() == [
        (row["video"], row["frame_index"], row["time_s"], row["pixels"]["car"]) for row in wanted
    ]


def test_the_python_code_runs(out):
    (code,) = blocks("python")
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert {"labels", "image"} <= next(iter(names["dataset"])).keys()


def test_the_commands_of_the_table_run(out):
    commands = [shlex.split(command) for command in re.findall(r"^\| `gsvnet (.*?)` \|", LABELS, re.MULTILINE)]
    shutil.copytree(out, "other")
    assert {command: main([command, *rest]) for command, *rest in commands if command != "view"} == dict.fromkeys(
        ("report", "review", "export", "verify", "compact", "diff"), 0
    )
    assert Path("out/_report.html").is_file()
    assert len(list(Path("cvat/SegmentationClass").iterdir())) == 6
    assert gsvnet.open_labels("out2").frames.count_rows() == 60


def test_the_commands_exist():
    named = re.findall(r"`gsvnet ([a-z]+)", README) + re.findall(r"^gsvnet ([a-z]+)", README, re.MULTILINE)
    assert {"report", "view", "review", "export", "verify", "compact", "diff"} <= set(named)
    assert set(named) <= set(COMMANDS)
