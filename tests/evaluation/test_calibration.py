"""Confidence against truth: counted, fitted, judged, and kept by `gsvnet calibrate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.cli import main
from gsvnet.errors import ConfigError
from gsvnet.evaluation.calibration import fit_calibration, measure_reliability
from gsvnet.evaluation.calibration_config import CalibrateConfig
from gsvnet.evaluation.calibration_counts import (
    LOG_ODDS,
    NUM_BINS,
    ConfidenceCounts,
    FrameCount,
    confidence_of_bins,
    count_confidence,
)
from gsvnet.evaluation.calibration_streets import draw_calibration_clips
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.models.calibration import calibration_of
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.content_hash import content_hash
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch
from gsvnet.nn.confidence import Calibration, measure_confidence

TRUE = Calibration(slope=0.7, shift=0.3, shift_per_frame=0.05, farthest=3)


def _counts(distances: range, *, level: float = 0.0) -> ConfidenceCounts:
    """Two classes whose pixels are right exactly as often as TRUE says, moved by `level` in log odds."""
    counts = ConfidenceCounts(num_classes=2)
    for distance in distances:
        curve = TRUE.slope * LOG_ODDS + TRUE.shift + level + TRUE.shift_per_frame * distance
        pixels = np.full((2, NUM_BINS), 1_000_000)
        right = np.tile((1_000_000 * torch.sigmoid(curve.double())).round().long().numpy(), (2, 1))
        counts.pixels[distance], counts.right[distance] = pixels, right
        accuracy = float(right.sum() / pixels.sum())
        counts.frames.append(FrameCount(distance=distance, accuracy=accuracy, places=pixels.sum(0)))
    return counts


class SaysSo(torch.nn.Module):
    """Labels every frame with class 0, ever less sure from left to right; propagation halves the logits."""

    classes = CAMVID

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(height, width))

    def segment(self, chunks):
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        h, w = chunks.keyframes.shape[-2:]
        logits = torch.zeros(len(chunk), len(CAMVID), h, w)
        logits[:, 0] = torch.linspace(6, 1, w)
        gain = torch.where(position > 0, 0.5, 1.0).view(-1, 1, 1, 1).expand(-1, 1, h, w)
        yield LogitsBatch(chunk=chunk, position=position, logits=logits * gain, gain=gain)


@pytest.fixture
def clip(tmp_path, write_camvid):
    """Five frames of one drive, half of whose pixels are of class 0, and a column without truth."""
    truths = np.random.default_rng(0).integers(0, 2, (5, 24, 32))
    truths[:, :, 0] = 11
    return write_camvid(tmp_path / "camvid", truths)


def test_a_frame_is_counted_once_at_every_distance(clip):
    counts = count_confidence(SaysSo(), open_camvid(clip, "val", keyframe_interval=3))
    assert [frame.distance for frame in counts.frames].count(2) == 3
    assert counts.distances == [0, 1, 2]
    assert {int(pixels.sum()) for pixels in counts.pixels.values()} == {3 * 24 * 31}  # void is left out


def test_counts_give_the_confidence_of_rows(clip):
    data = open_camvid(clip, "val", keyframe_interval=1)
    frame = count_confidence(SaysSo(), data).frames[0]
    logits = torch.zeros(1, len(CAMVID), 24, 32)
    logits[:, 0] = torch.linspace(6, 1, 32)
    for calibration in (None, TRUE):
        from_bins = frame.places @ confidence_of_bins(calibration, 0) / frame.places.sum()
        exact = measure_confidence(logits, calibration=calibration).mean.item()
        assert from_bins == pytest.approx(exact, abs=0.01)


def test_gain_is_divided_out_of_what_is_counted(clip):
    counts = count_confidence(SaysSo(), open_camvid(clip, "val", keyframe_interval=2))
    places = {frame.distance: frame.places for frame in counts.frames}
    assert (places[0] == places[1]).all()


def test_accuracy_is_over_the_pixels_with_a_truth(clip):
    data = open_camvid(clip, "val", keyframe_interval=1)
    truth = data.clips[0].frames[0].read_truth((24, 32))
    assert count_confidence(SaysSo(), data).frames[0].accuracy == pytest.approx((truth[:, 1:] == 0).mean())


def test_the_fit_finds_what_the_counts_were_made_of():
    fitted = fit_calibration(_counts(range(4)))
    assert fitted.farthest == 3
    assert (fitted.slope, fitted.shift, fitted.shift_per_frame) == pytest.approx((0.7, 0.3, 0.05), abs=0.005)


def test_distance_comes_from_drawn_streets_and_their_level_does_not():
    fitted = fit_calibration(_counts(range(1)), _counts(range(4), level=-1.0))
    assert fitted.farthest == 3
    assert (fitted.slope, fitted.shift, fitted.shift_per_frame) == pytest.approx((0.7, 0.3, 0.05), abs=0.005)


def test_distance_changes_nothing_where_it_was_not_measured():
    fitted = fit_calibration(_counts(range(1)))
    assert (fitted.shift_per_frame, fitted.farthest) == (0.0, 0)


def test_a_network_that_is_always_right_can_be_fitted():
    counts = _counts(range(1))
    counts.right[0] = counts.pixels[0].copy()
    assert fit_calibration(counts).shift > 0


def test_the_calibration_that_is_true_has_no_error():
    found = measure_reliability(_counts(range(4)), TRUE)
    assert found.pixel_ece < 1e-6
    assert found.frame_gap < 1e-6
    assert max(found.class_gap) < 1e-6


def test_gaps_are_between_confidence_and_accuracy():
    counts = ConfidenceCounts(num_classes=2)
    sure = np.zeros((2, NUM_BINS), np.int64)
    sure[0, -1] = 10  # certain in every one
    counts.pixels[0], counts.right[0] = sure, sure * 7 // 10
    counts.frames.append(FrameCount(distance=0, accuracy=0.7, places=sure[0]))
    found = measure_reliability(counts, None)
    assert (found.frame_ece, found.frame_gap, found.pixel_ece) == pytest.approx((0.3, 0.3, 0.3), abs=1e-5)
    assert found.class_gap[0] == pytest.approx(0.3, abs=1e-5)
    assert np.isnan(found.class_gap[1])


def test_frames_without_truth_are_refused(tmp_path, write_camvid):
    root = write_camvid(tmp_path / "camvid", np.full((3, 16, 16), 11))
    with pytest.raises(ConfigError, match="no pixel of camvid val has a truth"):
        count_confidence(SaysSo(), open_camvid(root, "val", keyframe_interval=1))


def test_frames_without_the_keyframe_after_that_is_read_are_refused(clip, make_arseg):
    data = open_camvid(clip, "val", keyframe_interval=3)
    with pytest.raises(ConfigError, match="reads the keyframe after a frame too"):
        count_confidence(make_arseg(references="both"), data)


def test_drawn_clips_are_the_same_again_and_differ_from_each_other(tmp_path):
    first, second = (
        draw_calibration_clips(folder, num_clips=2, keyframe_interval=2, size=(24, 32)).clips
        for folder in (tmp_path, tmp_path)
    )
    images = [clip.frames[1].read_image() for clip in first]
    assert (images[0] == second[0].frames[1].read_image()).all()
    assert (images[0] != images[1]).any()
    assert first[0].frames[1].read_truth((24, 32)).max() < len(CAMVID)


def test_the_command_keeps_a_calibration_beside_the_same_weights(tmp_path, clip, tiny_model, capsys):
    out, figures = tmp_path / "out.safetensors", tmp_path / "figures.json"
    arguments = ["--camvid", str(clip), "--split", "val", "--keyframe-interval", "2", "--model", str(tiny_model)]
    assert main(["calibrate", *arguments, "--out", str(out), "--json", str(figures)]) == 0
    model = load_checkpoint(out)
    told = json.loads(figures.read_text())
    assert calibration_of(model) == Calibration(**told["calibration"])
    assert content_hash(model) == content_hash(load_checkpoint(tiny_model))
    assert told["fitted_on"] == {"data": "camvid val", "frames": 4, "distances": 2}
    assert told["calibrated"]["pixel_ece"] < told["raw"]["pixel_ece"]
    assert "which it was fitted on" in capsys.readouterr().out


def test_evaluate_shows_confidence_and_draws_it(tmp_path, clip, tiny_model, capsys):
    figures, plots = tmp_path / "figures.json", tmp_path / "plots"
    run = ["evaluate", "camvid", "--root", str(clip), "--split", "val", "--model", str(tiny_model)]
    arguments = ["--keyframe-interval", "2", "--calibration", "--json", str(figures), "--plots", str(plots)]
    assert main([*run, *arguments]) == 0
    told = json.loads(figures.read_text())["calibration"]
    assert told["calibration"] is None
    assert len(told["raw"]["per_distance"]) == 2
    assert (plots / "reliability.png").is_file()
    assert "ECE of frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give one of --camvid and --cityscapes"),
        ({"camvid": "c", "cityscapes": "c"}, "give one of"),
        ({"camvid": "c", "drawn_clips": -1}, "--drawn-clips -1"),
        ({"camvid": "c", "plots": Path(__file__)}, "--plots: .* is a file"),
        ({"camvid": "c", "keyframe_interval": 0}, "--keyframe-interval 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        CalibrateConfig(out=tmp_path / "out.safetensors", **options)


def test_a_model_that_is_no_file_is_refused(tmp_path, clip, capsys):
    arguments = ["--camvid", str(clip), "--model", "my.package:factory", "--out", str(tmp_path / "o.safetensors")]
    assert main(["calibrate", *arguments]) == 2
    assert "kept in a checkpoint" in capsys.readouterr().err
