"""Rows one after another: what fails or is missing is said, and does not stop the others."""

from __future__ import annotations

import pytest

from gsvnet.benchmark.reach import REACH
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.suite import ROWS, run_rows
from gsvnet.errors import MissingExtra


def good(setting):
    return Row(name="upsample", ratio=2.0, unit="times as fast")


def two(setting):
    return tuple(Row(name=name, ratio=1.0, unit="of PNG") for name in ("mask_bytes", "mask_encode"))


def broken(setting):
    raise RuntimeError("no such kernel")


def bare(setting):
    raise MissingExtra("ray", "label")


def run(rows, names=None):
    return list(run_rows(names or list(rows), lambda folder: folder, rows=rows))


def test_every_row_has_its_function_and_its_mark():
    assert list(ROWS) == list(REACH)


def test_a_row_that_fails_says_so_and_the_next_one_runs():
    failed, fine = run({"overlap": broken, "upsample": good})
    assert (failed.ratio, failed.skipped) == (None, "RuntimeError: no such kernel")
    assert "broken" in failed.detail["error"]
    assert fine.ratio == 2.0


def test_a_missing_extra_is_no_failure():
    (row,) = run({"ray_data": bare})
    assert "gsvnet[label]" in row.skipped
    assert "error" not in row.detail


def test_rows_of_one_function_are_measured_once():
    calls = []

    def counted(setting):
        calls.append(setting)
        return two(setting)

    rows = {"mask_bytes": counted, "mask_encode": counted}
    assert [row.name for row in run(rows)] == ["mask_bytes", "mask_encode"]
    assert [row.name for row in run(rows, ["mask_encode"])] == ["mask_encode"]
    assert len(calls) == 2


def test_every_function_gets_an_empty_folder_that_is_gone_afterwards():
    folders = []

    def keep(setting):
        folders.append(setting)
        assert list(setting.iterdir()) == []
        (setting / "scratch").write_text("x")
        return good(setting)

    run({"upsample": keep})
    assert not folders[0].exists()


def test_ctrl_c_stops_the_run():
    def interrupted(setting):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({"upsample": interrupted, "overlap": good})
