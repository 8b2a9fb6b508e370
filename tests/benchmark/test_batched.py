"""TDNet's batches against its authors' loop, and the stand-in that both run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.benchmark import batched
from gsvnet.benchmark.batched import NAMES, compare_ways, measure_batched
from gsvnet.benchmark.footage import ClipConfig, draw_frames, truth_table
from gsvnet.benchmark.running import run_model
from gsvnet.benchmark.standin_tdnet import as_single_frames, build_tdnet_stand_in
from gsvnet.benchmark.streaming import stream_labels
from gsvnet.classes import CITYSCAPES
from gsvnet.models.content_hash import content_hash
from gsvnet.nn.upsample import upsample_labels
from tests.tiny_tdnet import build_tdnet, draw_video

CLIP = ClipConfig(height=64, width=96, frames=6, drawn=3)


@torch.inference_mode()
def test_the_loop_forgets_what_lies_farther_back_than_the_other_sub_networks():
    video = draw_video(9)
    whole, late = (list(stream_labels(build_tdnet(), frames)) for frames in (video, video[3:]))
    assert all(torch.equal(a, b) for a, b in zip(whole[5:], late[2:], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(whole[3:5], late[:2]))


@torch.inference_mode()
def test_one_video_does_not_reach_into_the_next():
    model, video = build_tdnet(), draw_video(4)
    first, second = (list(stream_labels(model, video)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_both_ways_say_the_same_and_are_timed(tiny_setting):
    figures = compare_ways(build_tdnet(), draw_video(6), "fp32", tiny_setting)
    assert figures["differing"] == 0
    seconds = figures["seconds"]
    assert figures["ratio"] == seconds["streaming"] / seconds["batched"]
    assert figures["ratio_not_prepared"] == seconds["streaming, not prepared"] / seconds["batched"]


def test_what_differs_is_counted(tiny_setting, monkeypatch):
    flipped = lambda model, images: (x.flip(0) for x in stream_labels(model, images))  # noqa: E731
    monkeypatch.setattr(batched, "stream_labels", flipped)
    assert compare_ways(build_tdnet(), draw_video(6), "fp32", tiny_setting)["differing"] > 0.5


def test_the_row_is_of_the_network_that_gains_least(tiny_setting, monkeypatch):
    monkeypatch.setattr(batched, "build_tdnet_stand_in", lambda family, *_: build_tdnet(num_sub_networks=int(family)))
    cpu, gpu = measure_batched(tiny_setting, CLIP, families=("2", "4"))
    networks = cpu.detail["networks"]
    assert list(networks) == ["2 fp32", "4 fp32"]
    assert cpu.ratio == min(figures["ratio"] for figures in networks.values())
    assert cpu.detail["note"].count("% of the pixels differ") == 2
    assert ((cpu.name, gpu.name), gpu.skipped) == (tuple(NAMES.values()), "--device is cpu")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["td4-bisenetv1", "td4-pspnet18"])
def test_a_stand_in_has_learnt_the_frames_that_it_was_fitted_to(family):
    clip = replace(CLIP, height=128, width=256)
    images, truth = draw_frames(clip, range(8))
    pixels = torch.from_numpy(images).movedim(-1, 1)
    model = build_tdnet_stand_in(family, pixels, list(truth))
    outputs = run_model(model, as_single_frames(pixels), precision="fp32")
    logits = torch.cat([o.logits for o in outputs])[torch.cat([o.chunk for o in outputs]).argsort()]
    labels = upsample_labels(logits, truth[0].shape, align_corners=True).numpy()
    wanted = truth_table(CITYSCAPES)[truth]
    for found, true in zip(labels[3:], wanted[3:]):  # the first three look at nobody
        assert (found == true).mean() > max(0.6, np.bincount(true.ravel()).max() / true.size + 0.1)
    assert content_hash(build_tdnet_stand_in(family, pixels, list(truth))) == content_hash(model)
