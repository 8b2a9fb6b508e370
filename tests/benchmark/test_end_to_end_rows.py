"""Rows that run the whole worker: their arithmetic, and each of them once on a tiny clip."""

from __future__ import annotations

import importlib.util
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.benchmark.altering import mac_share, measure_altering
from gsvnet.benchmark.children import Child
from gsvnet.benchmark.labeling import ClipLabeler, ClipRun, label_setting, loop_clip
from gsvnet.benchmark.overhead import measure_overhead
from gsvnet.benchmark.overlap import INTERVAL, make_waiting, measure_overlap, networks_frame_s
from gsvnet.benchmark.plain_loop import measure_plain_loop, start_plain
from gsvnet.benchmark.ray_data import measure_ray_data
from gsvnet.benchmark.running import run_model
from gsvnet.benchmark.sides import measure_sides
from gsvnet.benchmark.speedup import count_mac_ratio, measure_speedup
from gsvnet.errors import WorkerError
from gsvnet.evaluation.cost import measure_cost
from gsvnet.models.noise import draw_chunks
from gsvnet.video.decode import read_pictures
from gsvnet.video.index import index_video
from tests.tiny_arseg import build_arseg


def test_a_looped_clip_shows_its_frames_again_and_again(tiny_setting):
    looped = loop_clip(tiny_setting.video, 30, tiny_setting.folder)
    pts = index_video(str(looped)).pts
    assert len(pts) == 36
    assert set(np.diff(pts)) == {pts[1] - pts[0]}
    pictures = [picture.image.to_ndarray() for picture in read_pictures(str(looped), start_pts=0, end_pts=None)]
    assert all(np.array_equal(pictures[i], pictures[i + 12]) for i in range(24))


def test_a_clip_that_is_long_enough_stays_as_it_is(tiny_setting):
    assert loop_clip(tiny_setting.video, 12, tiny_setting.folder) == tiny_setting.video


def test_a_stretch_of_the_clip_is_labeled_and_published(tiny_setting):
    labeler = label_setting(tiny_setting, tiny_setting.video, interval=3, precision="fp32")
    run = labeler.label(4, first_frame=6)
    assert run.frames == 4
    assert run.frame_s == run.seconds / 4 > 0
    assert {"decode", "segment", "upsample", "encode", "write", "total"} <= run.wall.keys()
    assert labeler.label(99, first_frame=6).frames == 6  # to the end of the clip, as another shard
    assert len(list(tiny_setting.folder.rglob("*.parquet"))) == 2


def test_mac_ratios_are_those_of_the_paper(tiny_setting):
    ratio = count_mac_ratio(tiny_setting, 4)
    assert ratio == pytest.approx(3.54, abs=0.01)
    assert count_mac_ratio(tiny_setting, 1) == 1.0


@pytest.mark.slow
def test_speedups_are_frames_per_second_over_those_of_keyframes_alone(tiny_setting):
    rows = measure_speedup(tiny_setting, frames={1: 2, 2: 2, 4: 4, 12: 12})
    assert [row.name for row in rows] == ["speedup_l4_fp32", "speedup_l4_fast", "speedup_l12_fp32", "speedup_l12_fast"]
    for row in rows:
        interval = row.name.split("_")[1].replace("l", "L=")
        assert row.ratio == row.seconds["L=1"] / row.seconds[interval]
        assert row.detail["share_of_mac_ratio"] == row.ratio / row.detail["mac_ratio"]
        assert list(row.detail["intervals"]) == ["L=1", "L=2", "L=4", "L=12"]
        assert row.detail["intervals_run_once"] == ["L=2"]


@pytest.mark.slow
def test_a_second_side_is_timed_against_one_side_at_the_same_interval_and_at_half_of_it(tiny_setting):
    rows = measure_sides(tiny_setting, num_frames=12)
    assert [row.name for row in rows] == ["sides_l12", "sides_l6"]
    for row, other in zip(rows, ("forward L=12", "forward L=6")):
        assert row.ratio == row.seconds["two-sided L=12"] / row.seconds[other]
    assert rows[0].detail["keyframes"] == {"two-sided L=12": 1, "forward L=12": 1, "forward L=6": 2}


@pytest.mark.slow
def test_altering_resolutions_is_timed_against_the_keyframe_network(tiny_setting):
    rows = measure_altering(tiny_setting, frames={"per frame": 2, "codec": 12, "proxy": 12})
    assert [row.name for row in rows] == ["arseg_codec", "arseg_proxy"]
    for row in rows:
        assert row.ratio == row.seconds["L=12"] / row.seconds["per frame"]
        assert row.detail["fitted"] is True
        assert row.detail["motion_s"] > 0
        assert row.detail["frames"] == {"per frame": 2, "codec": 12, "proxy": 12}
        assert set(row.detail["core_s"]) == {"per frame", "codec", "proxy"}
    assert [row.detail["keyframes"] for row in rows] == [3, 1]


def test_macs_are_those_of_the_keyframes_that_ran():
    cost = measure_cost(build_arseg(), height=64, width=128, keyframe_interval=12)
    run = ClipRun(frames=60, keyframes=6, seconds=1.0, wall={}, cores={})
    assert mac_share(cost, replace(run, keyframes=5)) == pytest.approx(cost.per_frame_share)
    assert mac_share(cost, run) == pytest.approx((6 + 54 * cost.frame_macs / cost.keyframe_macs) / 60)


def test_with_codec_motion_a_chunk_begins_at_every_i_frame(tiny_setting):
    model, keyframes = build_arseg(), {}
    for motion in ("codec", "proxy"):
        labeler = ClipLabeler(
            model,
            tiny_setting.video,
            interval=12,
            precision="fp32",
            threads=1,
            folder=tiny_setting.folder / motion,
            motion=motion,
        )
        keyframes[motion] = labeler.label(12).keyframes
    assert keyframes == {"codec": 3, "proxy": 1}  # I-frames at 0, 5 and 10


def test_the_plain_loop_writes_a_png_of_full_size_per_frame(tiny_setting):
    image = pytest.importorskip("PIL.Image")
    start_plain(tiny_setting, "fp32", 3)()
    files = sorted(tiny_setting.folder.glob("*.png"))
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    assert np.asarray(image.open(files[2])).shape == (64, 128)


def test_networks_take_what_the_cores_spend_or_the_gpu(tiny_setting):
    run = ClipRun(frames=10, keyframes=2, seconds=9.0, wall={"segment": 3.0}, cores={"segment": 8.0})
    assert networks_frame_s(run, replace(tiny_setting, threads=2)) == pytest.approx(0.4)
    assert networks_frame_s(run, replace(tiny_setting, threads=2, device="cuda")) == pytest.approx(0.3)


def test_a_waiting_network_waits_and_answers_as_the_model_did(tiny_setting):
    waiting = make_waiting(tiny_setting, interval=INTERVAL)
    waiting.wait.frame_s = 0.01
    chunks = draw_chunks(waiting, height=64, width=128, num_chunks=2, interval=INTERVAL, device="cpu")
    began = time.monotonic()
    outputs = run_model(waiting, chunks, precision="fp32")
    assert time.monotonic() - began >= 2 * INTERVAL * 0.01
    assert waiting.wait.total_s >= 2 * INTERVAL * 0.01
    assert [output.position.tolist() for output in outputs] == [[p, p] for p in range(INTERVAL)]
    assert torch.equal(outputs[3].logits[0], outputs[3].logits[1])


def test_copies_of_a_waiting_network_share_its_wait(tiny_setting):
    import copy

    waiting = make_waiting(tiny_setting, interval=INTERVAL)
    assert copy.deepcopy(waiting).wait is waiting.wait


def test_overlap_is_the_whole_over_its_longest_part(tiny_setting):
    row = measure_overlap(tiny_setting, frames=10, real_frames=5)
    assert row.ratio == row.seconds["end to end"] / row.seconds["longest stage"]  # of one round
    assert row.seconds["longest stage"] >= row.detail["no_wait_s"]
    assert 0 < row.detail["busy_share"]["bf16"] <= 4.0


def test_overhead_is_a_share_of_a_shard_of_a_minute(tiny_setting):
    row = measure_overhead(tiny_setting, short=5, long=15, first=20)
    constant, frame = row.seconds["per shard"], row.seconds["per frame"]
    assert row.ratio == pytest.approx(100 * constant / (constant + 1800 * frame))


def start_counting(first: int):
    numbers = iter(range(first, first + 100))
    return lambda: (next(numbers), os.getpid())


def start_failing():
    raise ValueError("no such thing")


def test_a_child_runs_in_a_process_of_its_own_and_keeps_its_state():
    with Child(start_counting, 7, as_labeling=True) as child:
        (first, pid), (second, same) = child(), child()
    assert (first, second) == (7, 8)
    assert pid == same != os.getpid()


def test_what_a_child_raises_is_raised_here():
    with pytest.raises(WorkerError, match="ValueError: no such thing"):
        Child(start_failing, as_labeling=False)


@pytest.mark.slow
def test_the_plain_loop_row_compares_both_precisions(tiny_setting):
    fp32, equal = measure_plain_loop(tiny_setting, ours=5, plain=2)
    assert fp32.ratio == fp32.seconds["plain fp32"] / fp32.seconds["ours bf16"]
    assert equal.ratio == equal.seconds["plain fp32"] / equal.seconds["ours fp32"]
    assert equal.detail["bf16"] > 0
    assert {name: list(side_by_side) for name, side_by_side in equal.detail["frame_s"].items()} == {
        "plain_fp32": ["ours bf16", "plain fp32"],
        "plain_equal": ["ours fp32", "plain fp32"],
        "both bf16": ["ours bf16", "plain bf16"],
    }


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="Ray Data needs pandas")
def test_the_ray_data_row_states_memory_of_both_sides(tiny_setting):
    row = measure_ray_data(tiny_setting, ours=5, theirs=4)
    assert row.ratio == row.seconds["Ray Data"] / row.seconds["ours"]
    assert 0 < row.detail["memory_ratio"] < 1
