"""Whole jobs with a network that looks at the frames around each frame, on a clip that has lost some of its frames."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch

import gsvnet
from gsvnet.cli import main
from gsvnet.errors import ConfigError, OutputConflict
from gsvnet.labeling.config import LabelConfig, PlanConfig
from gsvnet.labeling.preview import preview
from gsvnet.store.job import read_settled
from tests.around import AroundDummy
from tests.outputs import assert_equal_rows, rows_of, shards_of

NUM_FRAMES, INTERVAL = 40, 4
LOST = frozenset({7, 8, 14, 18, 33})  # on both sides of shard borders, and in reach of them
MODEL = "tests.around:build_around"  # three frames before, two after


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory) -> Path:
    """Every frame is coded by itself, so that those that do not decode are the same wherever decoding begins."""
    folder = tmp_path_factory.mktemp("clip")
    whole = media.write_clip(
        folder / "whole.mkv", num_frames=NUM_FRAMES, codec="mjpeg", pixel_format="yuvj420p", size=(48, 64)
    )
    path = folder / "clip.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            kept = av.Packet(bytes(packet.size) if number in LOST else bytes(packet))
            kept.pts, kept.dts, kept.time_base = packet.pts, packet.dts, packet.time_base
            kept.stream, kept.is_keyframe = copy, True
            target.mux(kept)
    return path


@pytest.fixture(scope="module")
def labeled(clip, tmp_path_factory):
    """An output that was labeled as one batch, which has no context."""
    config = make_job(clip, tmp_path_factory.mktemp("whole"))
    label_rows(config)
    return config.out


@pytest.fixture
def whole(labeled):
    """All rows of that output."""
    return rows_of(labeled)


@pytest.fixture
def job(clip, tmp_path):
    """job(**changes): a job of that clip in this process, of one shard and one batch where nothing else is said."""
    return lambda out=tmp_path / "out", **changes: make_job(clip, out, **changes)


def make_job(clip, out, **changes):
    usual = {"videos": (str(clip),), "out": str(out), "model": MODEL, "keyframe_interval": INTERVAL}
    return LabelConfig(**usual | {"batch_chunks": 10, "cpus_per_actor": 1, "no_ray": True} | changes)


def label_rows(config):
    report = gsvnet.label(config)
    assert report.exit_code == 0, report.failures
    return rows_of(config.out)


@pytest.mark.parametrize(("shard_frames", "batch_chunks"), [(40, 1), (8, 3), (4, 2)])
def test_labels_depend_on_neither_shards_nor_batches(job, whole, shard_frames, batch_chunks):
    cut = job(shard_frames=shard_frames, batch_chunks=batch_chunks)
    assert_equal_rows(label_rows(cut), whole)
    assert len(shards_of(cut.out)) == -(-NUM_FRAMES // shard_frames)


def test_the_frames_around_decide_about_the_labels(job, whole):
    alone = label_rows(job(model="tests.around:build_alone"))
    same = [a == b for a, b in zip(alone["mask"].to_pylist(), whole["mask"].to_pylist()) if a is not None]
    assert not any(same)


def test_rows_name_no_keyframe_and_lost_frames_keep_their_place(whole):
    assert whole["frame_index"].to_pylist() == list(range(NUM_FRAMES))
    assert {i for i, status in enumerate(whole["status"].to_pylist()) if status != "ok"} == LOST
    assert set(whole["keyframe_distance"].to_pylist()) == {None}
    assert set(whole["is_keyframe"].to_pylist()) == {False}


def test_a_frame_is_shown_without_a_word_of_keyframes(labeled, tmp_path, capsys):
    assert main(["show", labeled, "--frame", "3", "--png", str(tmp_path / "3.png")]) == 0
    assert "frame 3 at 0.100 s; " in capsys.readouterr().out


def test_a_batch_out_of_memory_in_the_middle_of_a_shard_gives_the_same_rows(job, whole, monkeypatch):
    segment = AroundDummy.segment

    def short_of_memory(network, chunks):
        for n, output in enumerate(segment(network, chunks)):
            if len(chunks.valid) > 1 and n == 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield output

    monkeypatch.setattr(AroundDummy, "segment", short_of_memory)
    config = job(shard_frames=16, batch_chunks=4)
    assert_equal_rows(label_rows(config), whole)


def test_batches_are_large_enough_for_what_is_run_twice(job):
    config = job(batch_chunks="auto")
    label_rows(config)
    assert read_settled(config.out, "cpu") == {"batch_chunks": 10}  # forty frames for five around them
    assert json.loads((Path(config.out) / "_report.json").read_text())["basis"] == "neighbours"


def test_a_plan_that_was_made_for_another_network_is_refused(job, make_console):
    config = job()
    other = replace(config, model="tests.around:build_alone")
    preview(PlanConfig(job=other, no_calibrate=True), console=make_console())
    with pytest.raises(OutputConflict, match="frames looked at before a batch 0 there, 3 now"):
        gsvnet.label(config)


@pytest.mark.slow
def test_tdnets_labels_depend_on_neither_shards_nor_batches(job, tmp_path):
    settings = {"model": "tests.tiny_tdnet:build_tdnet", "references": "both", "ensemble": "keyframes"}
    whole = label_rows(job(**settings, out=tmp_path / "whole"))
    cut = job(**settings, shard_frames=8, batch_chunks=3)
    assert_equal_rows(label_rows(cut), whole)


def test_an_ensemble_is_refused_of_networks_that_have_none(job):
    with pytest.raises(ConfigError, match="ensemble 'all' is a choice of TDNet"):
        gsvnet.label(job(ensemble="all"))
    assert not Path(job().out).exists()
