import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gsvnet.errors import WorkerError
from gsvnet.labeling.ray.events import ActorReport
from gsvnet.labeling.ray.same_code import Code, check_same_code, hash_sources, own_code

PACKAGE = Path(__file__).parents[3] / "gsvnet"


def test_the_hash_is_of_names_and_contents(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "sub" / "b.py").write_text("")
    first = hash_sources(tmp_path)
    (tmp_path / "notes.txt").write_text("no code")
    assert hash_sources(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    second = hash_sources(tmp_path)
    (tmp_path / "sub" / "b.py").rename(tmp_path / "sub" / "c.py")
    assert len({first, second, hash_sources(tmp_path)}) == 3


def test_the_same_code_elsewhere_will_do():
    check_same_code(Code(folder="/elsewhere/gsvnet", hash=own_code().hash), node_ip="10.0.0.1")
    with pytest.raises(WorkerError, match=r"node 10.0.0.1 runs another gsvnet \(/elsewhere/gsvnet\) than this process"):
        check_same_code(Code(folder="/elsewhere/gsvnet", hash="0"), node_ip="10.0.0.1")


@pytest.mark.timeout(600)
def test_an_actor_whose_report_does_not_tell_its_code_runs_another():
    report = ActorReport(model_hash="a", device="cpu", device_name="cpu", node_id="n", node_ip="10.0.0.1", pid=1)
    del report.__dict__["code"]  # as a report of a build without it comes out of its pickle
    with pytest.raises(WorkerError, match=r"runs another gsvnet .of an earlier build."):
        check_same_code(pickle.loads(pickle.dumps(report)).code, node_ip="10.0.0.1")


def test_a_job_ends_where_its_actors_run_other_code(drive, tiny_model, tmp_path):
    copy = tmp_path / "gsvnet"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "chunks.py").open("a") as file:
        file.write("\n# another version\n")
    command = [Path(sys.executable).with_name("gsvnet"), "label", drive, "--model", tiny_model]
    command += ["--cpus-per-actor", "1", "--out", tmp_path / "out"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1
    said = re.sub(r"\s+", "", done.stderr)
    assert f"runsanothergsvnet({copy})thanthisprocess({PACKAGE})" in said
    assert not list(tmp_path.glob("out/labels/**/*.parquet"))
