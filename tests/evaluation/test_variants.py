"""Variants of propagation: what each moves, and that none leaves a frame out."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import nn

from gsvnet.classes import ClassSet
from gsvnet.cli import main
from gsvnet.errors import ModelError
from gsvnet.evaluation.variants import vary_propagation
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import ChunkBatch, Normalise, PerFrame, SizeRule, VideoSegmenter
from gsvnet.nn.warp import warp

THREE = ClassSet(name="three", names=("a", "b", "c"), colours=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
VALID = torch.tensor([[True, True, True], [True, False, True], [True, True, False]])
VARIANTS = ("full", "hold", "motion", "flow", "filter")


@pytest.fixture
def model() -> GSVNet:
    torch.manual_seed(0)
    propagation = Propagation(num_classes=3)
    nn.init.normal_(propagation.guided_filter.guide.to_taps[1].bias)
    nn.init.normal_(propagation.flow.to_flow.bias, std=4)
    normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    return GSVNet(
        nn.Conv2d(3, 3, 4, 4),
        propagation,
        classes=THREE,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(strides=(4,)),
        align_corners=False,
        keyframe_batch=2,
    ).eval()


@pytest.fixture
def chunks() -> ChunkBatch:
    generator = torch.Generator().manual_seed(1)
    return ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([3, 3, 2]),
        keyframes=torch.randint(0, 256, (3, 3, 32, 48), generator=generator, dtype=torch.uint8),
        frames=torch.randint(0, 256, (3, 3, 3, 8, 12), generator=generator, dtype=torch.uint8),
        valid=VALID,
        motion=torch.randn(3, 3, 2, 8, 12, generator=generator),
        motion_valid=torch.ones(3, 3, 8, 12, dtype=torch.bool),
    )


@torch.inference_mode()
def logits_by_place(model: VideoSegmenter, chunks: ChunkBatch) -> dict[tuple[int, int], torch.Tensor]:
    found = {}
    for batch in model.segment(chunks):
        for chunk, position, logits in zip(batch.chunk.tolist(), batch.position.tolist(), batch.logits):
            assert (chunk, position) not in found
            found[chunk, position] = logits
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_valid_frame_is_labeled_once(model, chunks, variant):
    varied = vary_propagation(model, variant)
    assert isinstance(varied, VideoSegmenter)
    assert logits_by_place(varied, chunks).keys() == {(c, p) for c, p in VALID.nonzero().tolist()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_keyframes_are_the_same_in_all_variants(model, chunks, variant):
    wanted, found = logits_by_place(model, chunks), logits_by_place(vary_propagation(model, variant), chunks)
    assert all(torch.equal(found[chunk, 0], wanted[chunk, 0]) for chunk in range(3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_codec_motion_needs_motion(model, variant):
    assert vary_propagation(model, variant).needs(32, 48).motion_grid == ((8, 12) if variant == "motion" else None)


def test_hold_keeps_the_keyframes_logits(model, chunks):
    found = logits_by_place(vary_propagation(model, "hold"), chunks)
    assert torch.equal(found[0, 1], found[0, 0])
    assert torch.equal(found[1, 2], found[1, 0])


def test_codec_motion_moves_the_keyframe_in_one_hop(model, chunks):
    chunks.motion[:, 1], chunks.motion[:, 2] = 0.0, torch.tensor([3.0, -2.0])[:, None, None]
    found = logits_by_place(vary_propagation(model, "motion"), chunks)
    assert torch.allclose(found[0, 1], found[0, 0], atol=1e-5)
    assert torch.allclose(found[0, 2][:, 2:, :9], found[0, 0][:, :6, 3:], atol=1e-5)


def test_beyond_the_border_plain_warping_repeats_it(model, chunks):
    chunks.motion[:] = torch.tensor([100.0, 0.0])[:, None, None]
    found = logits_by_place(vary_propagation(model, "motion"), chunks)
    assert torch.allclose(found[0, 1], found[0, 0][:, :, -1:].expand(-1, -1, 12), atol=1e-5)


def test_flow_alone_warps_from_frame_to_frame(model, chunks):
    found = logits_by_place(vary_propagation(model, "flow"), chunks)
    nn.init.zeros_(model.propagation.flow.to_flow.weight)
    model.propagation.flow.to_flow.bias.data = torch.tensor([-4.0, 4.0])  # quarter pixels: one left, one down
    moved = logits_by_place(vary_propagation(model, "flow"), chunks)
    inside = moved[0, 2][:, :6, 2:]
    assert torch.allclose(inside, moved[0, 0][:, 2:, :10], atol=1e-4)
    assert not torch.equal(found[0, 1], moved[0, 1])


def test_the_filter_alone_is_gsvnet_without_flow(model, chunks):
    found = logits_by_place(vary_propagation(model, "filter"), chunks)
    nn.init.zeros_(model.propagation.flow.to_flow.weight)
    nn.init.zeros_(model.propagation.flow.to_flow.bias)
    wanted = logits_by_place(model, chunks)
    assert all(torch.allclose(found[place], wanted[place], atol=1e-4) for place in wanted)


def test_the_filter_alone_runs_without_intra_features(model, chunks):
    model.propagation = Propagation(num_classes=3, intra=False).eval()
    assert len(logits_by_place(vary_propagation(model, "filter"), chunks)) == int(VALID.sum())


def test_the_model_itself_is_left_alone(model, chunks):
    before = logits_by_place(model, chunks)
    for variant in VARIANTS:
        vary_propagation(model, variant)
    after = logits_by_place(model, chunks)
    assert all(torch.equal(before[place], after[place]) for place in before)


def test_image_networks_have_no_variants():
    model = PerFrame(nn.Conv2d(3, 3, 1), classes=THREE, normalise=Normalise(mean=(0.5,) * 3, std=(0.25,) * 3))
    assert vary_propagation(model, "full") is model
    with pytest.raises(ModelError, match="PerFrame does not propagate"):
        vary_propagation(model, "flow")


def test_warping_inside_the_picture_is_plain_warping(model, chunks):
    state = torch.randn(1, 3, 8, 12)
    flow = torch.zeros(1, 2, 8, 12)
    flow[:, 0, :, 2:10] = 1.5
    part = vary_propagation(model, "flow").propagation
    assert torch.allclose(part.step(state, flow, None), warp(state, flow), atol=1e-5)


def test_only_what_a_variant_uses_counts_as_its_parameters(model):
    def count(part: nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    keyframe, flow = count(model.keyframe_network), count(model.propagation.flow)
    assert {v: count(vary_propagation(model, v)) for v in ("hold", "motion", "flow", "filter")} == {
        "hold": keyframe,
        "motion": keyframe,
        "flow": keyframe + flow,
        "filter": count(model) - flow,
    }


@pytest.fixture
def camvid(tmp_path, write_camvid) -> Path:
    truths = np.random.default_rng(0).integers(0, 12, (5, 48, 64))
    return write_camvid(tmp_path / "camvid", truths)


def score(camvid: Path, model: Path, *options: str) -> dict:
    out = camvid.parent / "result.json"
    command = ["evaluate", "camvid", "--root", str(camvid), "--split", "val", "--keyframe-interval", "3"]
    assert main([*command, "--model", str(model), "--json", str(out), *options]) == 0
    return json.loads(out.read_text())


def test_the_command_scores_hold_as_the_baseline_of_every_run(camvid, tiny_model):
    full, held = score(camvid, tiny_model), score(camvid, tiny_model, "--propagation", "hold")
    assert held["per_distance"] == full["hold"]["per_distance"]
    assert held["per_distance"] != full["per_distance"]
    assert held["propagation"] == "hold"


def test_the_command_scores_codec_motion_from_a_video_of_the_clip(camvid, tiny_model, tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=15, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(5):
            image = np.full((48, 64, 3), 10 * index, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    figures = score(camvid, tiny_model, "--propagation", "motion", "--motion-video", str(path))
    assert len(figures["per_distance"]) == 3
    assert figures["propagation"] == "motion"


def test_codec_motion_needs_its_video(camvid, capsys):
    assert main(["evaluate", "camvid", "--root", str(camvid), "--propagation", "motion"]) == 2
    assert "--propagation motion needs --motion-video" in capsys.readouterr().err


def test_a_video_of_the_clip_is_refused_where_nothing_reads_its_motion(camvid, tiny_model, capsys):
    options = ["--split", "val", "--model", str(tiny_model), "--motion-video", "clip.mp4"]
    assert main(["evaluate", "camvid", "--root", str(camvid), *options]) == 2
    assert "--motion-video clip.mp4: the model reads no motion" in capsys.readouterr().err
