from __future__ import annotations

import json

import numpy as np
import pytest

from gsvnet.cli import main
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.as_labeled import AsLabeled, Compared, Setting, compare_as_labeled
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip import label_frames
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.cost import measure_cost
from gsvnet.models.checkpoints import load_model
from gsvnet.models.transfer import image_network_of


@pytest.fixture
def model(tiny_model):
    return load_model(str(tiny_model)).eval()


@pytest.fixture
def root(tmp_path, write_camvid):
    return write_camvid(tmp_path / "camvid", np.random.default_rng(0).integers(0, 11, (13, 48, 64)))


@pytest.fixture
def data(root):
    return open_camvid(root, "val", keyframe_interval=1)


def test_every_frame_counts_once_as_a_job_labels_it(data, model):
    _, row = compare_as_labeled(model, data, [Setting(interval=5)], batch_chunks=1).rows
    expected, frames = ConfusionMatrix(11), data.clips[0].frames
    for frame, labels in zip(frames, label_frames(data.clips[0], model, interval=5), strict=True):
        expected.update(frame.read_truth((48, 64)), labels)
    np.testing.assert_array_equal(row.matrix.counts, expected.counts)
    assert (row.num_frames, row.num_keyframes, row.mean_interval) == (13, 3, 5)


def test_macs_are_those_of_the_cost(data, model):
    model.keyframe_batch = 1  # so that no frame runs twice to fill a batch
    first, second = compare_as_labeled(model, data, [Setting(interval=13)]).rows
    cost = measure_cost(model, height=48, width=64, keyframe_interval=13)
    assert first.macs_per_frame == cost.keyframe_macs
    assert second.macs == cost.keyframe_macs + 12 * cost.frame_macs


def test_an_interval_that_is_chosen_is_told_by_the_labels(data, model):
    _, loose, strict = compare_as_labeled(model, data, [Setting(min_agreement=1e-6), Setting(min_agreement=1.0)]).rows
    assert (loose.num_keyframes, loose.mean_interval) == (2, 12)
    assert (strict.num_keyframes, strict.mean_interval) == (13, 1)
    assert strict.num_frames == loose.num_frames == 13


def test_chosen_intervals_are_compared_between_two_fixed_ones():
    def row(setting: Setting, right: int, macs: int, seconds: float) -> AsLabeled:
        matrix = ConfusionMatrix(1)
        matrix.update(np.zeros(100, np.uint8), np.repeat(np.uint8([0, 255]), [right, 100 - right]))
        return AsLabeled(
            setting=setting, matrix=matrix, num_frames=1, num_keyframes=1, interval_sum=1, macs=macs, seconds=seconds
        )

    compared = Compared(
        dataset="",
        split="",
        rows=(
            row(Setting(interval=1), 80, 100, 10.0),
            row(Setting(interval=2), 60, 50, 6.0),
            row(Setting(min_agreement=0.9), 75, 75, 7.0),
            row(Setting(min_agreement=0.8), 50, 40, 4.0),
        ),
    )
    fixed, _, chosen, beyond = compared.rows
    assert compared.gain_at_equal_macs(chosen) == pytest.approx(5)
    assert compared.gain_at_equal_time(chosen) == pytest.approx(75 - 65)
    assert compared.speedup_at_equal_miou(chosen) == pytest.approx(9 / 7)
    assert compared.relative_time(chosen) == 0.7
    assert compared.gain_at_equal_macs(fixed) is None
    assert compared.gain_at_equal_macs(beyond) is compared.gain_at_equal_time(beyond) is None
    assert compared.speedup_at_equal_miou(beyond) is None


def test_what_cannot_be_labeled_is_refused(data, model):
    with pytest.raises(ModelError, match="PerFrame propagates no labels"):
        compare_as_labeled(image_network_of(model), data, [Setting(min_agreement=0.9)])
    with pytest.raises(ConfigError, match="interval 0"):
        compare_as_labeled(model, data, [Setting(interval=0)])


def test_the_command_shows_writes_and_draws(root, tiny_model, tmp_path, capsys):
    out = tmp_path / "as_labeled.json"
    arguments = ["evaluate", "as-labeled", "--root", root, "--model", tiny_model]
    more = ["--intervals", 1, 4, "--min-agreement", 0.5, "--json", out, "--plots", tmp_path / "plots"]
    assert main([*map(str, arguments + more)]) == 0
    rows = json.loads(out.read_text())["as_labeled"]
    assert [(row["keyframe_interval"], row["min_agreement"]) for row in rows] == [(1, None), (4, None), (None, 0.5)]
    assert "agreement 0.5" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"as_labeled.png", "as_labeled.svg"}
