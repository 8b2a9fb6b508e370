"""The command: JSON lines as rows come, a table that fits a terminal, exit codes, options."""

from __future__ import annotations

import json

import pytest

from gsvnet.benchmark import commands
from gsvnet.benchmark.config import BenchmarkConfig
from gsvnet.benchmark.machine import describe_machine
from gsvnet.benchmark.reach import REACH, Reach
from gsvnet.benchmark.record import Row, skip
from gsvnet.benchmark.table import show_rows
from gsvnet.errors import ConfigError

ROWS = [
    Row(name="upsample", ratio=25.31, unit="times as fast", seconds={"ours": 0.012, "argmax": 0.31}),
    Row(name="overlap", ratio=1.2, unit="of the longest stage", seconds={"end to end": 12.5}),
    skip("h200_compute", "of the convolutions", "no CUDA device here"),
]


@pytest.fixture
def run(monkeypatch, tiny_setting, tmp_path, make_console):
    """run(rows): what the command wrote as records, its exit code and what it printed."""

    def go(rows):
        monkeypatch.setattr(commands, "prepare", lambda config, report: tiny_setting)
        monkeypatch.setattr(commands, "run_rows", lambda names, setting, report: iter(rows))
        console, path = make_console(width=120), tmp_path / "rows.jsonl"
        code = commands.benchmark(BenchmarkConfig(json=path), console)
        return [json.loads(line) for line in path.read_text().splitlines()], code, console.file.getvalue()

    return go


def test_the_first_line_is_the_machine_and_each_further_one_a_row(run):
    records, code, _ = run(ROWS)
    assert {"processor", "cores", "torch", "commit", "clip"} <= records[0]["machine"].keys()
    assert [record["name"] for record in records[1:]] == ["upsample", "overlap", "h200_compute"]
    assert records[3] == {
        "name": "h200_compute", "ratio": None, "unit": "of the convolutions", "seconds": {}, "detail": {},
        "skipped": "no CUDA device here",
    }  # fmt: skip
    assert code == 0


def test_a_row_that_failed_makes_the_exit_code_1(run):
    failed = Row(name="overlap", ratio=None, unit="", detail={"error": "Traceback"}, skipped="RuntimeError: no")
    assert run([failed])[1] == 1


def test_an_interrupted_run_leaves_what_it_measured(monkeypatch, tiny_setting, tmp_path, make_console):
    def rows(names, setting, report):
        yield ROWS[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "prepare", lambda config, report: tiny_setting)
    monkeypatch.setattr(commands, "run_rows", rows)
    with pytest.raises(KeyboardInterrupt):
        commands.benchmark(BenchmarkConfig(json=tmp_path / "rows.jsonl"), make_console())
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


def test_the_table_fits_120_columns_and_says_what_was_reached(make_console):
    console = make_console(width=120)
    show_rows(ROWS, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 120
    upsample, overlap = (next(line for line in lines if line.startswith(("│" + n, "│ " + n))) for n in ("ups", "ove"))
    assert "25.3" in upsample
    assert "yes" in upsample
    assert "12.5 s" in overlap
    assert " no " in overlap


def test_marks():
    assert Reach(what="", least=20).met(20.0) is True
    assert Reach(what="", most=0.4).met(0.41) is False
    assert Reach(what="").met(1.0) is None
    assert REACH["mask_decode"].text == ">= 300"


def test_machine_facts_name_no_machine():
    import platform

    assert platform.node() not in json.dumps(describe_machine()).split('"')


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"only": ("upsampling",)}, "--only upsampling"),
        ({"rounds": 0}, "--rounds 0"),
        ({"threads": 0}, "--threads 0"),
        ({"size": "1024"}, "--size 1024"),
        ({"size": "101x200"}, "--size 101x200"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ConfigError, match=named):
        BenchmarkConfig(**options)


def test_rows_keep_the_benchmarks_order():
    assert BenchmarkConfig(only=("mask_bytes", "upsample")).rows == ("upsample", "mask_bytes")
