from __future__ import annotations

import json
import math
from functools import reduce
from operator import add

import numpy as np
import pytest

from gsvnet.chunks import Chunk
from gsvnet.cli import main
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip import ClipLabeler
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.drift import ChunkDrift, correlate_ranks
from gsvnet.evaluation.drift_chunks import measure_drift
from gsvnet.models.checkpoints import load_model
from gsvnet.models.transfer import image_network_of, with_references
from gsvnet.nn.agreement import compare_maps
from gsvnet.nn.best_class import best_class
from gsvnet.nn.blocks import resize


@pytest.fixture
def model(tiny_model):
    return load_model(str(tiny_model)).eval()


@pytest.fixture
def root(tmp_path, write_camvid):
    """Eight images of 48x64 pixels of noise."""
    return write_camvid(tmp_path / "camvid", np.random.default_rng(0).integers(0, 11, (8, 48, 64)))


@pytest.fixture
def data(root):
    return open_camvid(root, "val", keyframe_interval=1)


def test_ranks_are_compared_not_values():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert correlate_ranks(x, x**5) == pytest.approx(1)
    assert correlate_ranks(x, -np.exp(x)) == pytest.approx(-1)


def test_equal_values_share_their_mean_rank():
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 over the root of 4.5 * 5
    assert correlate_ranks(np.array([0, 5, 5, 9]), np.array([1, 2, 3, 4])) == pytest.approx(math.sqrt(0.9))


def test_without_an_order_there_is_no_correlation():
    assert math.isnan(correlate_ranks(np.ones(3), np.arange(3)))


def test_drift_compares_labels_one_step_further_with_the_keyframe_there(data, model):
    interval = 3
    grid = model.needs(48, 64).frame_size
    found = measure_drift(model, data, interval=interval)
    assert [chunk.first_frame for chunk in found.chunks] == [0, 1, 2, 3, 4]
    longer = ClipLabeler(data.clips[0], model, interval=8)
    for chunk in found.chunks:
        chunks = [
            Chunk(first_frame=chunk.first_frame, num_frames=interval + 1),
            Chunk(first_frame=chunk.first_frame + interval, num_frames=1),
        ]
        labels = {}
        for _, output in longer.segment(chunks):
            maps = best_class(resize(output.logits, grid, align_corners=output.align_corners)).numpy()
            labels |= zip(zip(output.chunk.tolist(), output.position.tolist()), maps)
        expected = compare_maps(labels[0, interval], labels[1, 0], num_classes=11)
        assert chunk.drift.agreement == expected.agreement
        np.testing.assert_array_equal(chunk.drift.iou, expected.iou)


def test_from_both_sides_drift_is_of_all_frames_that_have_both(data, model):
    model = with_references(model, "both")
    found = measure_drift(model, data, interval=5, batch_chunks=2)
    assert [chunk.first_frame for chunk in found.chunks] == [0, 1, 2]
    labeler = ClipLabeler(data.clips[0], model, interval=5)
    for chunk in found.chunks:
        outputs = labeler.segment([Chunk(first_frame=chunk.first_frame, num_frames=5)])
        pairs = [pair for _, output in outputs if output.sides is not None for pair in output.sides.numpy()]
        expected = reduce(add, [compare_maps(*pair, num_classes=11) for pair in pairs])
        assert (chunk.drift.num_equal, chunk.drift.num_places) == (expected.num_equal, expected.num_places)
        assert chunk.farthest == 1  # of the frames behind the keyframe the second


def test_batches_do_not_change_what_is_found(data, model):
    for network in (model, with_references(model, "both")):
        one, many = (measure_drift(network, data, interval=3, batch_chunks=size).to_dict() for size in (1, 4))
        assert one == many


def test_starts_may_be_apart(data, model):
    found = measure_drift(model, data, interval=2, every=3)
    assert [chunk.first_frame for chunk in found.chunks] == [0, 3]


def test_losses_are_against_the_same_frame_as_a_keyframe():
    truth = np.uint8([[0, 0, 1, 1]])
    right, wrong = ConfusionMatrix(2), ConfusionMatrix(2)
    right.update(truth, truth)
    wrong.update(truth, np.uint8([[0, 0, 0, 1]]))
    drift = compare_maps(truth, np.uint8([[0, 0, 0, 1]]), num_classes=2)
    assert drift is not None
    chunk = ChunkDrift(
        clip="", first_frame=0, drift=drift, same_frame=drift, as_keyframes=(right, right), labeled=(right, wrong),
        farthest=1,
    )  # fmt: skip
    losses = chunk.losses()
    assert losses["loss_of_places"] == losses["error_of_places"] == 25
    assert losses["loss_of_classes"] == pytest.approx(100 * (1 - (2 / 3 + 1 / 2) / 2))
    assert losses["mean_loss_of_places"] == 12.5
    assert chunk.signs()["places"] == 25
    assert chunk.signs()["classes"] == pytest.approx(losses["loss_of_classes"])


def test_what_tells_no_drift_is_refused(data, model):
    with pytest.raises(ModelError, match="PerFrame tells no drift"):
        measure_drift(image_network_of(model), data, interval=3)
    with pytest.raises(ConfigError, match="interval 1"):
        measure_drift(model, data, interval=1)
    with pytest.raises(ConfigError, match="has 8 frames"):
        measure_drift(model, data, interval=8)


def test_the_command_shows_writes_and_draws(root, tiny_model, tmp_path, capsys):
    out = tmp_path / "drift.json"
    arguments = ["evaluate", "drift", "--root", root, "--model", tiny_model, "--keyframe-interval", 2]
    assert main([*map(str, arguments), "--json", str(out), "--plots", str(tmp_path / "plots")]) == 0
    result = json.loads(out.read_text())
    assert (result["num_chunks"], result["keyframe_interval"], result["references"]) == (6, 2, "before")
    assert set(result["rank_correlation"]) == set(result["rank_correlation_apart"]) >= {"places", "classes"}
    assert len(result["chunks"]["drift_places"]) == len(result["chunks"]["loss_of_classes"]) == 6
    assert "6 chunks of 2 frames" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"drift.png", "drift.svg"}
