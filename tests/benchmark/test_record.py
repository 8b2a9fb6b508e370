"""Rows as JSON."""

from __future__ import annotations

import json

import pytest

from gsvnet.benchmark.record import Row, skip


def test_a_skipped_row_has_no_ratio_and_says_why():
    row = json.loads(json.dumps(skip("ray_data", "times as fast", "ray is not installed").to_dict()))
    assert (row["ratio"], row["skipped"]) == (None, "ray is not installed")


def test_a_measured_row_names_what_the_issue_asks_for():
    row = Row(name="upsample", ratio=20.0, unit="times as fast", seconds={"ours": 0.01}, detail={"classes": 19})
    assert list(row.to_dict()) == ["name", "ratio", "unit", "seconds", "detail"]


def test_a_row_without_ratio_has_to_say_why():
    with pytest.raises(AssertionError):
        Row(name="upsample", ratio=None, unit="times as fast")
