"""Whole jobs whose labels are smoothed along flow."""

from __future__ import annotations

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import gsvnet
from gsvnet.chunks import Shard
from gsvnet.errors import ConfigError, MissingExtra, OutputConflict
from gsvnet.labeling.batching import FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.labeling.fingerprint import fingerprint_fields
from gsvnet.labeling.ledger import shard_tasks
from gsvnet.labeling.network import load_network
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.labeling.rows import LabeledFrame, RowMaker
from gsvnet.labeling.smoothing import smooth_rows, widened_task
from gsvnet.store.codec import decode_mask
from gsvnet.store.job import read_plan
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.smoothing import flow_size, smooth_labels
from tests.outputs import assert_equal_rows, footers_of, rows_of

pytest.importorskip("cv2")

REACH = 3  # more than a chunk, so that a shard needs two of its neighbour's
SHARD = Shard(video_id="v", index=1, first_frame=4, num_frames=4, start_pts=4, end_pts=8)


def masks_of(rows):
    """Labels of all frames."""
    sizes = zip(rows["mask"].to_pylist(), rows["height"].to_pylist(), rows["width"].to_pylist())
    return [decode_mask(mask, height, width) for mask, height, width in sizes]


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory) -> Path:
    """24 frames, an I-frame every eight."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return media.write_clip(path, num_frames=24, size=(48, 64), options={"x264-params": "keyint=8:min-keyint=8"})


@pytest.fixture(scope="module")
def job(clip, tiny_model, tmp_path_factory):
    """job(**changes): rows and configuration of a job over `clip` in one shard and chunks of two frames."""

    def run(**changes):
        usual = {"videos": (str(clip),), "model": str(tiny_model), "keyframe_interval": 2, "no_ray": True}
        config = gsvnet.LabelConfig(**usual | {"out": str(tmp_path_factory.mktemp("out"))} | changes)
        report = gsvnet.label(config)
        assert report.exit_code == 0, report.failures
        return rows_of(config.out), config

    return run


@pytest.fixture(scope="module")
def plain(job):
    return job()


@pytest.fixture(scope="module")
def smoothed(job):
    return job(smooth=REACH)


def test_labels_depend_neither_on_shards_nor_on_threads(job, smoothed):
    cut, config = job(smooth=REACH, shard_frames=8, cpus_per_actor=1)
    assert len(footers_of(config.out)) == 3
    assert_equal_rows(cut, smoothed[0])


def test_a_job_smooths_its_labels_as_a_clip_is_smoothed(clip, plain, smoothed):
    plan = plan_video(str(clip), rule=PlanRule(interval=2, shard_seconds=60.0, shard_frames=100))
    view = View(*flow_size(plan.video.height, plan.video.width))
    frames = read_frames(
        str(clip), first_frame=0, start_pts=plan.shards[0].start_pts, end_pts=None, views=lambda i: [view]
    )
    expected = list(smooth_labels(zip(masks_of(plain[0]), (frame.images[0] for frame in frames)), reach=REACH))
    found = masks_of(smoothed[0])
    assert all((a == b).all() for a, b in zip(expected, found, strict=True))
    assert any((a != b).any() for a, b in zip(masks_of(plain[0]), found))


def test_pixels_count_the_smoothed_labels_and_all_else_is_the_networks(plain, smoothed):
    counts = [tuple(counts.values()) for counts in smoothed[0]["pixels"].to_pylist()]
    assert counts == [tuple(np.bincount(mask.ravel(), minlength=len(counts[0]))) for mask in masks_of(smoothed[0])]
    others = [name for name in plain[0].column_names if name not in ("pixels", "mask")]
    assert_equal_rows(smoothed[0].select(others), plain[0].select(others))


def test_footers_and_report_say_over_how_many_frames(plain, smoothed):
    assert [footer.smooth for footer in footers_of(smoothed[1].out)] == [REACH]
    assert [footer.smooth for footer in footers_of(plain[1].out)] == [None]
    report = json.loads((Path(smoothed[1].out) / "_report.json").read_text())
    assert report["smooth"] == REACH
    assert report["stage_s"]["smooth"] > 0


def test_plans_and_fingerprints_of_other_jobs_say_nothing_of_it(plain, smoothed):
    [video] = set(plain[0]["video"].to_pylist())
    plan, smooth_plan = (read_plan(config.out, video, {}) for _, config in (plain, smoothed))
    assert not {"widened", "reaches"} & set(plan)
    assert "smooth" not in plan["rule"]
    assert (smooth_plan["rule"]["smooth"], len(smooth_plan["widened"])) == (REACH, 1)
    fields, smooth_fields = (fingerprint_fields(config, load_network(config)) for _, config in (plain, smoothed))
    assert smooth_fields == fields | {"smooth": REACH}


def test_an_output_belongs_to_one_reach(smoothed):
    with pytest.raises(OutputConflict, match="smooth"):
        gsvnet.label(replace(smoothed[1], smooth=1))


def test_a_shard_is_widened_by_whole_chunks_as_far_as_the_video_goes(clip):
    rule = PlanRule(interval=4, shard_seconds=60.0, shard_frames=8, smooth=5)
    tasks = [widened_task(task) for task in shard_tasks(str(clip), plan_video(str(clip), rule=rule))]
    assert [(task.shard.first_frame, task.shard.num_frames) for task in tasks] == [(0, 16), (0, 24), (8, 16)]
    assert [task.shard.end_pts is None for task in tasks] == [False, True, True]


def test_what_the_network_looks_at_is_around_the_widened_shard(clip):
    rule = PlanRule(interval=2, shard_seconds=60.0, shard_frames=8, smooth=1, before=3, after=2)
    plan = plan_video(str(clip), rule=rule)
    assert [shard.first_frame for shard in plan.widened] == [0, 6, 14]
    assert [reach.first_frame for reach in plan.reaches] == [0, 3, 11]
    assert plan.reaches[0].end_pts > plan.widened[0].end_pts > plan.shards[0].end_pts


def test_a_shard_that_was_planned_without_is_refused(clip):
    rule = PlanRule(interval=4, shard_seconds=60.0, shard_frames=8)
    with pytest.raises(ConfigError, match=r"shard 0 of clip-.* was planned without --smooth"):
        widened_task(shard_tasks(str(clip), plan_video(str(clip), rule=rule))[0])


@pytest.mark.parametrize("reach", [-1, 9])
def test_a_reach_that_makes_no_sense_stops_the_job_before_it_starts(tmp_path, reach):
    with pytest.raises(ConfigError, match=f"{reach}"):
        gsvnet.label(gsvnet.LabelConfig(demo=True, out=str(tmp_path / "out"), smooth=reach, no_ray=True))
    assert not (tmp_path / "out").exists()


def test_without_opencv_the_job_does_not_start(monkeypatch, tmp_path, clip):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[smooth\]"):
        gsvnet.label(gsvnet.LabelConfig(videos=(str(clip),), out=str(tmp_path / "out"), smooth=1, no_ray=True))
    assert not (tmp_path / "out").exists()


def labeled(classes, lost=()):
    """Frames 2, 3, ... of one class each, all of the same image."""
    grey = np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)
    for index, label in enumerate(classes, start=2):
        kept = index not in lost
        place = FramePlace(
            index=index, pts=index, keyframe=2, chunk=0, position=index if kept else None, grey=grey if kept else None
        )
        yield LabeledFrame(place=place, labels=np.full((24, 32), label, np.uint8) if kept else None)


def rows_from(frames, *, reach=1):
    maker = RowMaker(size=(24, 32), time_base=Fraction(1, 10), num_classes=3, clock=StageClock(), interval=2)
    with ThreadPoolExecutor(1) as threads:
        return list(smooth_rows(frames, shard=SHARD, reach=reach, maker=maker, submit=threads.submit))


def classes_of(rows):
    return [None if row.pixels is None else int(np.argmax(row.pixels)) for row in rows]


def test_frames_around_the_shard_vote_and_have_no_row():
    rows = rows_from(labeled([0, 1, 0, 1, 1, 0, 1, 0]))  # of 4, 5, 6 and 7 the first and the last one flicker
    assert [row.frame_index for row in rows] == [4, 5, 6, 7]
    assert classes_of(rows) == [1, 1, 1, 1]


def test_lost_frames_stay_lost_and_nobody_votes_past_them():
    rows = rows_from(labeled([0, 1, 0, 1, 1, 1, 0, 1], lost={5}), reach=2)
    assert Counter(row.status for row in rows) == {"ok": 3, "decode_error": 1}
    assert classes_of(rows) == [0, None, 1, 1]


def test_an_error_in_a_vote_ends_the_rows(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("in a vote")

    monkeypatch.setattr("gsvnet.labeling.smoothing.smooth_frame", fail)
    with pytest.raises(ZeroDivisionError, match="in a vote"):
        rows_from(labeled([0, 1, 0, 1, 1]))


def test_few_rows_are_made_before_they_are_asked_for():
    taken = Counter()

    def counted():
        for frame in labeled([0] * 40):
            taken["frames"] += 1
            yield frame

    endless = replace(SHARD, end_pts=None)
    maker = RowMaker(size=(24, 32), time_base=Fraction(1, 10), num_classes=3, clock=StageClock(), interval=2)
    with ThreadPoolExecutor(1) as threads:
        rows = smooth_rows(counted(), shard=endless, reach=1, maker=maker, submit=threads.submit)
        next(rows)
        assert taken["frames"] <= 14  # two before the shard, one beyond the last vote
        rows.close()
