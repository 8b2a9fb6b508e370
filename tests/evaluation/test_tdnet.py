"""TDNet through the evaluation: frames around a batch, every scored frame once, by turn; references, ensembles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gsvnet.benchmark.streaming import stream_labels
from gsvnet.chunks import Chunk
from gsvnet.cli import main
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip import ClipLabeler, enlarge_batch, label_frames
from gsvnet.evaluation.clip_consistency import compare_consistency
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.dataset import ScoredClips
from gsvnet.evaluation.protocol import EvaluationResult, evaluate
from gsvnet.evaluation.speed import measure_speed
from gsvnet.models.segmenter import FrameNeeds
from gsvnet.nn.upsample import upsample_labels
from tests.tiny_tdnet import build_tdnet

FRAMES = 8


@pytest.fixture
def camvid(tmp_path, write_camvid) -> Path:
    """Eight images of 24x32 pixels, a pattern of squares that moves on by two pixels each."""
    pattern = np.random.default_rng(0).integers(0, 12, (6, 20)).repeat(4, 0).repeat(4, 1)
    return write_camvid(tmp_path / "camvid", np.stack([pattern[:, 2 * i : 2 * i + 32] for i in range(FRAMES)]))


@pytest.fixture
def data(camvid) -> ScoredClips:
    return open_camvid(camvid, "val", keyframe_interval=1)


def read_images(data: ScoredClips) -> list[torch.Tensor]:
    return [torch.from_numpy(frame.read_image()).permute(2, 0, 1) for frame in data.clips[0].frames]


@torch.inference_mode()
def stream(model, data: ScoredClips, *, first: int = 0) -> list[np.ndarray]:
    """Labels of the clip's frames by the authors' loop, which begins with sub-network `first`."""
    images = read_images(data)
    logits = list(stream_labels(model, [images[0]] * first + images))[first:]
    return [upsample_labels(x[None], (24, 32), align_corners=True)[0].numpy() for x in logits]


def score(data: ScoredClips, labels: list[np.ndarray], frames: range) -> np.ndarray:
    matrix = ConfusionMatrix(11)
    for frame in frames:
        matrix.update(data.clips[0].frames[frame].read_truth((24, 32)), labels[frame])
    return matrix.counts


# --- frames around a batch ---


def test_all_frames_are_labeled_as_the_authors_loop_labels_them(data):
    model = build_tdnet()
    found = list(label_frames(data.clips[0], model, interval=1))
    assert all(np.array_equal(a, b) for a, b in zip(found, stream(model, data), strict=True))


@pytest.mark.parametrize("references", ["none", "before", "nearest", "both"])
def test_chunks_are_labeled_alike_wherever_they_stand(data, references):
    model = build_tdnet(references)
    labeler = ClipLabeler(data.clips[0], model, interval=2)
    chunks = [Chunk(first_frame=start, num_frames=2) for start in range(0, FRAMES, 2)]
    together, apart = labeler.label(chunks), labeler.label([chunks[2], chunks[0], chunks[3], chunks[1]])
    for place, other in {0: 2, 1: 0, 2: 3, 3: 1}.items():
        assert all(np.array_equal(apart[place, p], together[other, p]) for p in range(2))


def test_a_clip_may_begin_anywhere_in_its_video(data):
    model, chunk = build_tdnet(num_sub_networks=4), [Chunk(first_frame=0, num_frames=1)]
    first, third = (ClipLabeler(data.clips[0], model, interval=1, first_index=i).label(chunk)[0, 0] for i in (0, 2))
    assert np.array_equal(third, stream(model, data, first=2)[0])  # the third of four gathers from none
    assert not np.array_equal(third, first)


@pytest.mark.parametrize(
    ("needs", "interval", "chunks"),
    [({}, 5, 4), ({"before": 3}, 1, 18), ({"before": 3, "after": 3}, 5, 8), ({"before": 1}, 5, 4)],
)
def test_batches_are_so_large_that_frames_around_them_are_few(needs, interval, chunks):
    assert enlarge_batch(FrameNeeds(keyframe_size=(8, 8), **needs), interval, 4) == chunks


# --- scores ---


def test_each_frame_is_scored_once_at_the_turn_of_its_sub_network(data):
    model = build_tdnet()
    result, labels = evaluate(model, data), stream(model, data)
    assert (result.num_frames, len(result.distances), len(result.turns)) == (FRAMES, 1, 3)
    for turn, matrix in enumerate(result.turns):
        np.testing.assert_array_equal(matrix.counts, score(data, labels, range(turn, FRAMES, 3)))
    np.testing.assert_array_equal(result.pooled.counts, score(data, labels, range(FRAMES)))
    figures = result.to_dict()
    assert figures["per_sub_network"] == [round(100 * matrix.miou(), 3) for matrix in result.turns]
    assert "hold" not in figures
    assert figures["notes"] == ["2 of 8 scored frames lack frames to look at, of 2 before them"]


def counts_of(result: EvaluationResult) -> list:
    return [matrix.counts.tolist() for matrix in (*result.distances, *result.turns)]


@pytest.mark.parametrize("batch_chunks", [1, 3, 50])
def test_the_batch_size_does_not_matter(data, batch_chunks, monkeypatch):
    monkeypatch.setattr("gsvnet.evaluation.clip._FRAMES_PER_CONTEXT", 0)
    model = build_tdnet("both")
    assert counts_of(evaluate(model, data, batch_chunks=batch_chunks)) == counts_of(evaluate(model, data))


def test_an_interval_says_which_frames_are_scored_and_a_note_says_so(camvid, data):
    model = build_tdnet()
    result = evaluate(model, open_camvid(camvid, "val", keyframe_interval=4))
    np.testing.assert_array_equal(result.pooled.counts, score(data, stream(model, data), range(3, FRAMES)))
    assert (result.num_frames, result.per_distance) == (5, [result.avg_miou])
    assert "the model has no keyframes; keyframe interval 4 says only which frames" in result.notes[0]


def test_where_keyframes_alone_are_labeled_by_all_the_interval_places_them(camvid, data):
    result = evaluate(build_tdnet("none", "keyframes"), open_camvid(camvid, "val", keyframe_interval=4))
    every, none = (
        list(label_frames(data.clips[0], build_tdnet("none", ensemble), interval=1)) for ensemble in ("all", "none")
    )
    labels = [every[i] if i % 4 == 0 else none[i] for i in range(FRAMES)]
    np.testing.assert_array_equal(result.pooled.counts, score(data, labels, range(3, FRAMES)))
    assert result.notes == ("every 4th frame of a clip, from its first one on, is a keyframe",)


def test_sparse_labels_are_seen_by_every_sub_network(data):
    clips = tuple(replace(data.clips[0], name=str(n), scored=(5,)) for n in range(3))
    model, result = build_tdnet(), evaluate(build_tdnet(), replace(data, clips=clips))
    for number in range(3):
        labels = stream(model, data, first=number)
        np.testing.assert_array_equal(result.turns[(5 + number) % 3].counts, score(data, labels, range(5, 6)))


def test_stills_do_not_look_at_each_other(tmp_path, camvid, write_camvid):
    truths = np.random.default_rng(1).integers(0, 12, (4, 24, 32))
    stills = open_camvid(write_camvid(tmp_path / "far", truths, split="test", step=30), "test", keyframe_interval=1)
    found, alone = (evaluate(build_tdnet(references), stills) for references in ("both", "none"))
    assert counts_of(found) == counts_of(alone)
    assert found.notes == ("4 of 4 scored frames lack frames to look at, of 2 before and 2 after them",)
    assert alone.notes == ()


# --- beside the scores ---


def test_taking_turns_flickers_and_all_together_do_not(data):
    pytest.importorskip("cv2")
    for frame in data.clips[0].frames[1:]:
        frame.image.write_bytes(data.clips[0].frames[0].image.read_bytes())  # nothing moves
    turns, every = (compare_consistency(build_tdnet("none", way), data, interval=3) for way in ("none", "all"))
    assert every.model.miou == 100 > turns.model.miou
    assert turns.model is turns.per_frame


def test_where_keyframes_differ_they_are_placed_for_consistency(data):
    pytest.importorskip("cv2")
    compared = compare_consistency(build_tdnet("none", "keyframes"), data, interval=3)
    assert compared.model.miou != compared.per_frame.miou


def test_its_speed_is_that_of_labeling_every_frame():
    speed = measure_speed(build_tdnet(), height=24, width=32, keyframe_interval=2, batch_chunks=4, seconds=0)
    assert 0.2 < speed.speedup < 5
    assert speed.keyframe_s < 2 / speed.frames_per_s


# --- the command ---


@pytest.fixture
def run(camvid, tmp_path, monkeypatch):
    """run(*options, **model): the JSON of `gsvnet evaluate camvid` on a TDNet; the exit code if it fails."""

    def run(*options, **model):
        monkeypatch.setattr("gsvnet.evaluation.commands.load_model", lambda name: build_tdnet(**model))
        monkeypatch.setattr("gsvnet.evaluation.commands._SECONDS", 0.01)
        monkeypatch.setattr("gsvnet.models.contract.SAMPLE_SIZE", (24, 32))
        out = tmp_path / "result.json"
        command = ["evaluate", "camvid", "--root", camvid, "--split", "val", "--device", "cpu", "--json", out]
        code = main([str(word) for word in (*command, *options)])
        return json.loads(out.read_text()) if code == 0 else code

    return run


def test_everything_is_measured_of_a_tdnet(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("cv2")
    result = run("--consistency", "--cost", "--plots", tmp_path / "plots")
    assert (result["num_frames"], result["keyframe_interval"], len(result["per_sub_network"])) == (FRAMES, 1, 3)
    assert result["cost"]["published_frame_macs"] > result["cost"]["frame_macs"] == result["cost"]["keyframe_macs"]
    assert result["speed"]["batch_chunks"] == 12
    assert (tmp_path / "plots" / "classes.svg").is_file()
    printed = capsys.readouterr().out
    assert "frames at the turn of" in printed
    assert "sub-network 2" in printed
    assert "per frame" not in printed.split("temporal consistency")[1].split("cost of a video")[0]


def test_references_and_ensemble_are_chosen_and_written_down(run):
    usual, chosen = run(), run("--references", "both", "--ensemble", "all")
    assert (chosen["references"], chosen["ensemble"]) == ("both", "all")
    assert "ensemble" not in usual
    assert chosen["avg_miou"] != usual["avg_miou"]


@pytest.mark.parametrize(
    ("options", "frames"), [((), 4), (("--keyframe-interval", 3), 6), (("--keyframe-interval", 1), FRAMES)]
)
def test_an_ensemble_of_keyframes_has_an_interval_as_other_models_have(run, options, frames):
    assert run("--ensemble", "keyframes", *options)["num_frames"] == frames


def test_an_ensemble_of_another_model_is_refused(camvid, tiny_model, capsys):
    options = ["--split", "val", "--model", str(tiny_model), "--ensemble", "all"]
    assert main(["evaluate", "camvid", "--root", str(camvid), *options]) == 2
    assert "GSVNet has none" in capsys.readouterr().err


def test_arseg_draws_on_some_keyframe(camvid, make_arseg, monkeypatch, capsys):
    monkeypatch.setattr("gsvnet.evaluation.commands.load_model", lambda name: make_arseg())
    assert main(["evaluate", "camvid", "--root", str(camvid), "--split", "val", "--references", "none"]) == 2
    assert "references 'none'; allowed: before, nearest, both" in capsys.readouterr().err
