"""Names out of files on a terminal: shown as they are, whatever they hold."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.table import Table

from gsvnet.cli import main
from gsvnet.terminal import PlainConsole, printable
from tests.security.test_foreign_labels import DRIVE, compacted_as
from tests.viewing.conftest import Output

ACTIVE = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202eleft\rstart"


@pytest.fixture
def output(tmp_path) -> Output:
    return Output(tmp_path / "out")


def test_characters_that_a_terminal_acts_upon_are_written_out():
    assert printable(ACTIVE) == "\\x1b]0;title\\x07\\x1b[31mred\\x9b2J\\u202eleft\\rstart"
    assert printable("häßlich ü\t[x]\n日本") == "häßlich ü\t[x]\n日本"


def test_a_console_shows_them_in_lines_tables_and_raw_output():
    console = PlainConsole(file=io.StringIO(), width=200)
    table = Table("name")
    table.add_row(ACTIVE)
    for show in (console.print, console.out):
        show(ACTIVE, ":smile:")
    console.print(table)
    said = console.file.getvalue()
    assert said.count(":smile:") == 2
    assert not set(said) & set("\x1b\x07\x9b\u202e\r")
    assert said.count("\\x1b[31mred") == 3


def test_its_own_colours_stay():
    console = PlainConsole(file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print("[red]found[/red]")
    assert console.file.getvalue() == "\x1b[31mfound\x1b[0m\n"


@pytest.mark.parametrize("command", ["status", "verify"])
def test_a_failure_s_message_is_shown_as_it_is(output, command, capsys):
    output.write()
    output.plan(DRIVE, [(0, 20), (20, 20)])
    output.fail(DRIVE, "000001", f"{ACTIVE} [bold]x[/bold] :smile:")
    main([command, output.out])
    said = capsys.readouterr()
    assert "\\x1b[31mred" in said.out
    assert "[bold]x[/bold] :smile:" in said.out
    assert not set(said.out + said.err) & set("\x1b\x07\x9b\u202e\r")


def test_an_error_is_shown_as_it_is(output, capsys):
    output.write(uri=f"/videos/{ACTIVE}.mp4")
    assert main(["show", output.out]) == 1
    assert not set(capsys.readouterr().err) & set("\x1b\x07\x9b\u202e\r")


def test_a_picture_is_not_written_where_a_hostile_id_says(output, tmp_path, monkeypatch, drive, capsys):
    there = compacted_as(output, tmp_path / "copy", "../escaped")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    assert main(["show", there, "--source", str(drive)]) in (1, 2)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("data", ["[" * 100_000, json.dumps({"exit_code": 1e400}), "[]", '{"exit_code": []}'])
def test_a_status_leaves_out_a_report_that_makes_no_sense(output, data, capsys):
    output.write()
    (Path(output.out) / "_report.json").write_text(data)
    assert main(["status", output.out]) == 0
