"""AR-Seg through the evaluation: positions, chunks, references, frames with keyframes on both sides, variants."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gsvnet.cli import main
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip import label_frames
from gsvnet.evaluation.dataset import ScoredClips, has_both_sides, keep_both_sides
from gsvnet.evaluation.protocol import evaluate
from gsvnet.evaluation.scores import chain_chunks, plan_chunks
from gsvnet.evaluation.variants import vary_propagation
from gsvnet.models.arseg import ARSeg
from gsvnet.models.noise import draw_chunks
from gsvnet.models.transfer import image_network_of, with_references

REFERENCES = ("before", "nearest", "both")
INTERVAL = 3


@pytest.fixture
def camvid(tmp_path, write_camvid) -> Path:
    """Nine images of 32x48 pixels, a pattern of squares that moves on by two pixels each."""
    pattern = np.random.default_rng(0).integers(0, 12, (8, 20)).repeat(4, 0).repeat(4, 1)
    return write_camvid(tmp_path / "camvid", np.stack([pattern[:, 2 * i : 2 * i + 48] for i in range(9)]))


@pytest.fixture
def data(camvid) -> ScoredClips:
    return keep_both_sides(open_camvid(camvid, "val", keyframe_interval=INTERVAL))


@pytest.fixture
def faithful(make_arseg) -> ARSeg:
    """An AR-Seg that says of every frame what its keyframe network does, since its fusion adds nothing."""
    model = make_arseg(scale=1.0)
    model.frame_network.load_state_dict(model.keyframe_network.state_dict())
    nn.init.zeros_(model.fusion.value.weight)
    nn.init.zeros_(model.fusion.value.bias)
    return model


@pytest.mark.parametrize("references", REFERENCES)
def test_where_fusion_adds_nothing_every_distance_is_per_frame(faithful, data, references):
    result = evaluate(with_references(faithful, references), data)
    alone = evaluate(image_network_of(faithful), data)
    for distance in range(INTERVAL):
        np.testing.assert_array_equal(result.distances[distance].counts, alone.distances[distance].counts)


@pytest.mark.parametrize("references", REFERENCES)
def test_frames_come_labeled_as_they_are_by_themselves(faithful, data, references):
    labels = list(label_frames(data.clips[0], with_references(faithful, references), interval=4, batch_chunks=2))
    alone = list(label_frames(data.clips[0], image_network_of(faithful), interval=1))
    assert len(labels) == 9
    assert all(np.array_equal(a, b) for a, b in zip(labels, alone))


def test_keyframes_after_a_frame_change_its_labels_and_not_those_of_keyframes(make_arseg, data):
    results = [evaluate(make_arseg(references=references), data) for references in REFERENCES]
    firsts = [result.distances[0].counts for result in results]
    assert all(np.array_equal(firsts[0], other) for other in firsts[1:])
    lasts = [result.distances[INTERVAL - 1].counts for result in results]
    assert not any(np.array_equal(a, b) for a, b in ((lasts[0], lasts[1]), (lasts[0], lasts[2]), (lasts[1], lasts[2])))


@pytest.mark.parametrize("batch_chunks", [1, 2, 50])
def test_the_batch_size_does_not_matter(make_arseg, data, batch_chunks):
    model = make_arseg(references="both")
    wanted, found = evaluate(model, data), evaluate(model, data, batch_chunks=batch_chunks)
    for a, b in zip(wanted.distances, found.distances):
        np.testing.assert_array_equal(a.counts, b.counts)


def test_the_result_says_where_motion_came_from(make_arseg, data):
    result = evaluate(make_arseg(), data).to_dict()
    assert result["motion"] == "proxy"
    assert any("encoder run over each chunk" in note for note in result["notes"])
    assert "motion" not in evaluate(image_network_of(make_arseg()), data).to_dict()


# --- frames with a keyframe on both sides ---


def test_frames_with_keyframes_on_both_sides_are_kept(camvid):
    data = open_camvid(camvid, "val", keyframe_interval=INTERVAL)
    kept = keep_both_sides(data)
    assert (data.clips[0].scored, kept.clips[0].scored) == ((2, 3, 4, 5, 6, 7, 8), (2, 3, 4, 5, 6))
    assert kept.notes == ("only frames with a keyframe on both sides are scored, 5 of 7",)
    assert has_both_sides(kept)
    assert not has_both_sides(data)


def test_keyframes_alone_need_none_on_the_other_side(camvid):
    data = open_camvid(camvid, "val", keyframe_interval=1)
    assert keep_both_sides(data) == data


def test_a_clip_without_such_frames_is_refused(camvid):
    data = open_camvid(camvid, "val", keyframe_interval=6)
    with pytest.raises(ConfigError, match="the 5 frames after it"):
        keep_both_sides(data)


def test_a_network_that_reads_both_sides_is_not_scored_on_frames_with_one(make_arseg, camvid):
    data = open_camvid(camvid, "val", keyframe_interval=INTERVAL)
    with pytest.raises(ConfigError, match="not every scored frame of camvid val has one"):
        evaluate(make_arseg(references="nearest"), data)


def test_sparse_labels_are_scored_where_frames_follow_them(faithful, data):
    clip = replace(data.clips[0], scored=(4,))
    model, sparse = with_references(faithful, "both"), replace(data, clips=(clip,))
    result, alone = evaluate(model, sparse), evaluate(image_network_of(faithful), sparse)
    assert [matrix.counts.tolist() for matrix in result.distances] == [alone.distances[0].counts.tolist()] * INTERVAL


def test_chunks_stand_before_those_that_follow_them():
    chunks = chain_chunks(plan_chunks([2, 3, 4], 2), 2)
    assert [(chunk.first_frame, chunk.num_frames) for chunk in chunks] == [(2, 2), (4, 2), (1, 2), (3, 2)]


# --- variants ---


@torch.inference_mode()
def logits_of(model, **chunk_changes) -> dict[tuple[int, int], torch.Tensor]:
    chunks = draw_chunks(model, height=32, width=48, num_chunks=2, interval=3, device="cpu")
    found = {}
    for batch in model.segment(replace(chunks, **chunk_changes)):
        found |= dict(zip(zip(batch.chunk.tolist(), batch.position.tolist()), batch.logits))
    return found


@pytest.mark.parametrize("variant", ["hold", "motion", "fusion", "alone"])
def test_every_frame_has_logits_and_keyframes_keep_theirs(make_arseg, variant):
    model = make_arseg()
    found, wanted = logits_of(vary_propagation(model, variant)), logits_of(model)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[chunk, 0], wanted[chunk, 0]) for chunk in range(2))


def test_hold_keeps_the_keyframes_logits(make_arseg):
    varied = vary_propagation(make_arseg(references="both"), "hold")
    found = logits_of(varied)
    assert torch.equal(found[0, 2], found[0, 0])
    assert (varied.needs(32, 48).motion_grid, varied.needs(32, 48).next_keyframe) == (None, False)


@pytest.mark.parametrize("references", REFERENCES)
def test_fusion_without_motion_is_arseg_on_a_clip_that_stands_still(make_arseg, references):
    model = make_arseg(references=references)
    still = {"motion": torch.zeros(2, 3, 2, 4, 6), "motion_valid": torch.ones(2, 3, 4, 6, dtype=torch.bool)}
    still |= {f"next_{name}": value for name, value in still.items()}
    chunks = draw_chunks(model, height=32, width=48, num_chunks=2, interval=3, device="cpu")
    with torch.inference_mode():
        wanted = [batch.logits for batch in model.segment(replace(chunks, **still))]
        found = [batch.logits for batch in vary_propagation(model, "fusion").segment(replace(chunks, motion=None))]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(wanted, found, strict=True))


def test_alone_is_the_network_of_the_small_frames(make_arseg):
    model = make_arseg()
    chunks = draw_chunks(model, height=32, width=48, num_chunks=2, interval=3, device="cpu")
    with torch.inference_mode():
        wanted = model.frame_network(model.normalise(chunks.frames[1, 2][None]))[0]
    assert torch.allclose(logits_of(vary_propagation(model, "alone"))[1, 2], wanted, atol=1e-5)


def test_variants_of_gsvnet_are_refused(make_arseg):
    with pytest.raises(ModelError, match="'filter': ARSeg has full, hold, motion, fusion, alone"):
        vary_propagation(make_arseg(), "filter")


# --- the command ---


@pytest.fixture
def score(camvid, make_arseg, tmp_path, monkeypatch):
    """score(*options, **model): the JSON of `gsvnet evaluate camvid` on an AR-Seg; the exit code if it fails."""

    def run(*options, **model):
        monkeypatch.setattr("gsvnet.evaluation.commands.load_model", lambda name: make_arseg(**model))
        monkeypatch.setattr("gsvnet.evaluation.commands._SECONDS", 0.01)
        command = ["evaluate", "camvid", "--root", camvid, "--split", "val", "--keyframe-interval", INTERVAL]
        out = tmp_path / "result.json"
        code = main([str(word) for word in (*command, "--device", "cpu", "--json", out, *options)])
        return json.loads(out.read_text()) if code == 0 else code

    return run


def test_everything_is_measured_of_an_arseg(score, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("cv2")
    result = score("--consistency", "--cost", "--plots", tmp_path / "plots", references="both")
    assert len(result["per_distance"]) == INTERVAL
    assert result["num_frames"] == 5
    assert result["consistency"]["model"] != result["consistency"]["per_frame"]
    assert result["cost"]["computed_frame_macs"] > result["cost"]["frame_macs"]
    assert result["speed"]["frame_s"] > 0
    assert (tmp_path / "plots" / "distance.svg").is_file()
    printed = capsys.readouterr().out
    assert "GMAC with tiles" in printed
    assert "note: only frames with a keyframe on both sides are scored, 5 of 7" in printed


def test_references_are_chosen_and_written_down(score):
    before, nearest = score("--both-sides"), score("--references", "nearest")
    assert nearest["references"] == "nearest"
    assert "references" not in before
    assert before["num_frames"] == nearest["num_frames"] == 5
    assert before["per_distance"][0] == nearest["per_distance"][0]
    assert before["per_distance"][2] != nearest["per_distance"][2]


def test_one_sided_models_are_scored_on_all_frames_unless_told_otherwise(score):
    assert score()["num_frames"] == 7


def test_references_that_the_model_does_not_know_are_refused(camvid, tiny_model, capsys):
    options = ["--split", "val", "--model", str(tiny_model), "--references", "nearest"]
    assert main(["evaluate", "camvid", "--root", str(camvid), *options]) == 2
    assert "GSVNet has: before, both" in capsys.readouterr().err


def test_a_clips_own_video_gives_its_motion(score, tmp_path, media):
    video = media.write_clip(tmp_path / "clip.mp4", num_frames=9, size=(32, 48))
    result = score("--motion-video", video)
    assert result["motion"] == "codec"


def test_a_labelled_frame_with_too_few_behind_it_is_refused(tmp_path, make_arseg, monkeypatch, capsys):
    root = tmp_path / "cityscapes" / "val"
    root.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(root / f"ulm_000000_{number:06d}_leftImg8bit.png")
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(root / "ulm_000000_000002_gtFine_labelTrainIds.png")
    monkeypatch.setattr("gsvnet.evaluation.commands.load_model", lambda name: make_arseg(references="nearest"))
    assert main(["evaluate", "cityscapes", "--root", str(root.parent), "--keyframe-interval", "3"]) == 2
    assert "no labelled frame of cityscapes val has the 2 frames after it" in capsys.readouterr().err
