from __future__ import annotations

import re

import pytest

from gsvnet import demo
from gsvnet.cli import main
from gsvnet.synthetic import SceneConfig


@pytest.fixture
def run_demo(tiny_model, tmp_path, monkeypatch, capsys):
    """The demo at a size that suits tests: run_demo(out) -> exit code and what was printed."""
    monkeypatch.setattr(demo, "NUM_FRAMES", 20)
    monkeypatch.setattr(demo, "SCENE", SceneConfig(height=72, width=96, seed=7))
    monkeypatch.chdir(tmp_path)

    def run(out="out"):
        code = main(["label", "--demo", "--out", out, "--model", str(tiny_model), "--no-ray", "--cpus-per-actor", "1"])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_the_demo_draws_labels_and_scores(run_demo, tmp_path):
    code, printed = run_demo()
    assert code == 0
    assert "drawing 20 frames of a street into out-street.mp4" in printed
    score = re.search(r"mIoU against the drawn truth: (\d+\.\d) % over 5 frames", printed)
    assert score is not None
    assert 0 <= float(score[1]) < 50  # the weights are random
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-street.mp4"]


def test_the_demo_goes_on_where_it_stopped(run_demo):
    run_demo()
    code, printed = run_demo()
    assert code == 0
    assert "drawing" not in printed
    assert "0 labeled (1 were there already)" in printed


def test_the_demo_needs_a_local_output(run_demo):
    code, printed = run_demo("ftp://user:secret@host/out")
    assert code == 2
    assert printed.startswith("gsvnet: --demo draws its video beside the output, which must be a local folder")
    assert "secret" not in printed
