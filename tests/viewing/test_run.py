from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsvnet.viewing.run import read_run
from tests.viewing.conftest import RUN


def write(out: Path, data: object) -> str:
    (out / "_report.json").write_text(json.dumps(data))
    return str(out)


def test_a_run_is_read_as_its_job_wrote_it(tmp_path):
    run = read_run(write(tmp_path, RUN.to_dict()))
    assert (run.frames, run.frames_per_s, run.times_realtime, run.cost) == (100, 5.0, 0.5, None)
    assert {stage.name: stage.busy_s for stage in run.stages} == {
        "decode": 1.0, "segment": 18.0, "upsample": 1.0, "encode": 1.0, "write": 0.5,
    }  # fmt: skip
    assert run.bottleneck == "Segment held the run up: its own threads were at work 90 % of the time."


def test_the_bottleneck_may_be_the_cores_or_nothing(tmp_path):
    data = RUN.to_dict()
    cores = data | {"limited_by": "cores", "limit_share": 0.83, "load": data["load"] | {"cores": 0.96}}
    assert read_run(write(tmp_path, cores)).bottleneck == (
        "The cores held the run up: 96 % of them were busy, most with segment (83 %)."
    )
    assert read_run(write(tmp_path, data | {"limit_share": 0.4})).bottleneck.startswith("No stage held the run up")
    assert read_run(write(tmp_path, data | {"limit": ""})).bottleneck == ""


def test_an_output_without_a_report_has_no_run(tmp_path):
    assert read_run(str(tmp_path)) is None


@pytest.mark.parametrize("data", [{}, [], "x", {"model": 1}, {**RUN.to_dict(), "load": None}])
def test_a_report_that_is_not_understood_is_left_out(tmp_path, data):
    assert read_run(write(tmp_path, data)) is None
