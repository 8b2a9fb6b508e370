from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.ray.usage import Usage
from gsvnet.labeling.report import JobReport, describe, measure, show
from gsvnet.labeling.tasks import DriftFigures, ShardFailure, ShardResult

FAILURE = ShardFailure(video_id="a-1", shard_index=3, error="DecodeError", message="it broke", attempts=2)
REPORT = JobReport(
    out="out",
    model="default",
    model_hash="a" * 64,
    keyframe_interval=5,
    device="cpu",
    precision="fp32",
    num_actors=2,
    videos=1,
    shards_planned=3,
    shards_in_output=4,
    shards_labeled=3,
    shards_skipped=1,
    frames=300,
    frames_lost=0,
    label_bytes=60_000,
    media_s=20.0,
    wall_s=10.0,
    stage_s={"decode": 2.0, "segment": 9.0, "upsample": 3.0, "encode": 1.0, "write": 0.0, "total": 10.0},
    core_s={"decode": 1.0, "segment": 7.0, "upsample": 2.0, "encode": 0.8, "write": 0.0, "total": 19.0},
    threads=2,
    usage=Usage(actor_s=20.0, idle_s=5.0, tail_s=3.0),
)
FAILED = replace(REPORT, shards_planned=4, num_failed=1, failures=(FAILURE,))


def printed(report):
    stream = io.StringIO()
    show(report, Console(file=stream, width=40))
    return stream.getvalue()


def test_exit_codes():
    assert REPORT.exit_code == 0
    assert FAILED.exit_code == 3
    assert replace(REPORT, stopped=True).exit_code == 1
    assert replace(FAILED, stopped=True).exit_code == 1


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.0),
        ({"shards_planned": 9, "num_failed": 1}, 0.1),  # one more is there already
        ({"num_failed": 1, "videos_failed": 1}, 0.2),  # the video counts as a shard beside the four known ones
        ({"failed_earlier": 4}, 0.5),
        ({"shards_planned": 0, "shards_skipped": 0}, 0.0),
        ({"shards_planned": 0, "shards_skipped": 0, "num_failed": 2, "videos_failed": 2}, 1.0),
    ],
)
def test_the_share_that_failed_is_of_all_known_shards(changes, share):
    assert replace(REPORT, **changes).failed_share == share


def test_failures_up_to_the_allowed_share_are_a_success():
    tenth = replace(REPORT, shards_planned=9, num_failed=1)
    assert replace(tenth, max_failed_fraction=0.09).exit_code == 3
    assert replace(tenth, max_failed_fraction=0.1).exit_code == 0
    assert replace(tenth, partial_ok=True).exit_code == 0
    assert replace(tenth, partial_ok=True).to_dict()["num_failed"] == 1
    assert replace(tenth, partial_ok=True, stopped=True).exit_code == 1


def test_gpu_time_is_counted_and_priced():
    usage = Usage(actor_s=7200.0, gpu_s=3600.0, idle_s=720.0, tail_s=61.0)
    on_gpu = replace(REPORT, device="cuda", usage=usage, stage_s={"segment": 5400.0}, gpu_hour_price=2.5)
    data = on_gpu.to_dict()
    assert (data["gpu_hours"], data["cost"], data["gpu_idle_share"], data["tail_s"]) == (1.0, 2.5, 0.25, 61.0)
    text = "1.00 GPU hours, networks idle 25 %, without a shard 10 %, tail 1:01, cost 2.50"
    assert describe(on_gpu)["usage"] == text
    on_cpu = replace(REPORT, gpu_hour_price=2.5).to_dict()
    assert (on_cpu["gpu_hours"], on_cpu["cost"], on_cpu["gpu_idle_share"]) == (0.0, None, None)


def test_mishaps_are_named_only_if_there_were_any():
    assert "mishaps" not in describe(REPORT)
    usage = Usage(retries=2, actors_lost=1)
    assert describe(replace(REPORT, usage=usage))["mishaps"] == "2 retries, 1 actor lost"


def test_the_summary_says_what_was_done():
    assert describe(REPORT) == {
        "output": "out",
        "videos": "1",
        "shards": "3 labeled (1 were there already)",
        "frames": "300",
        "labels": "60.0 kB, 200 bytes a frame",
        "speed": "30.0 frames/s, 2.00x realtime on 2 x cpu, fp32",
        "busy": "cores 95 %: decode 5 % · segment 76 % · upsample 10 % · encode 4 % · write 0 %",
        "limit": "the cores, mostly for segment; faster with a longer --keyframe-interval, --precision bf16 where the "
        "processor has it, or more cores",
        "usage": "0.01 actor hours, without a shard 25 %, tail 0:03",
    }


DRIFT = DriftFigures(
    num_chunks=200, sum_agreement=194.2, least=0.81, least_video="a-1", least_frame=10800, least_s=723.0, num_below=7
)


def test_how_far_chunks_agree_is_one_line():
    assert "drift" not in describe(REPORT)
    text = "97.1 % of pixels agree where chunks meet, least 81 % at a-1 12:03"
    assert describe(replace(REPORT, drift=DRIFT))["drift"] == text
    asked = replace(REPORT, drift=DRIFT, min_agreement=0.97)
    assert describe(asked)["drift"] == text + "; 3.5 % of chunks below 97 %"


def test_programs_are_told_of_drift_too():
    asked = replace(REPORT, drift=DRIFT, min_agreement=0.97).to_dict()
    assert asked["min_agreement"] == 0.97
    assert asked["drift"] == {
        "num_chunks": 200,
        "sum_agreement": 194.2,
        "least": 0.81,
        "least_video": "a-1",
        "least_frame": 10800,
        "least_s": 723.0,
        "num_below": 7,
        "agreement": 0.971,
        "below_share": 0.035,
    }
    without = REPORT.to_dict()["drift"]
    assert (without["agreement"], without["least"], without["below_share"]) == (None, None, 0.0)


def test_a_run_with_nothing_to_do_divides_by_nothing():
    idle = replace(REPORT, frames=0, label_bytes=0, media_s=0.0, wall_s=0.0, stage_s={}, core_s={}, shards_labeled=0)
    assert describe(idle)["shards"] == "0 labeled (1 were there already)"
    data = idle.to_dict()
    assert (data["frames_per_s"], data["limit"], data["limit_share"], data["times_realtime"]) == (0.0, "", 0.0, 0.0)


def test_what_went_wrong_stands_at_the_end():
    lines = describe(replace(FAILED, stopped=True, frames_lost=7))
    assert lines["frames"] == "300, 7 lost in decoding"
    assert list(lines)[-2:] == ["stopped", "failed"]
    assert lines["failed"] == "1, listed in out/_failed; --retry-failed tries again"
    earlier = describe(replace(REPORT, failed_earlier=2))
    assert earlier["failed"] == "0 and 2 in earlier runs, listed in out/_failed; --retry-failed tries again"


def test_lines_are_not_wrapped_and_brackets_are_kept():
    text = printed(replace(FAILED, out="/a/very/long/path/to/an/output/[bold]/out"))
    assert "output   /a/very/long/path/to/an/output/[bold]/out\n" in text
    assert len(text.splitlines()) == 10


def test_the_report_for_programs_is_json_with_the_derived_figures():
    data = json.loads(json.dumps(FAILED.to_dict()))
    assert (data["frames_per_s"], data["times_realtime"], data["limit"], data["exit_code"]) == (30.0, 2.0, "segment", 3)
    assert data["failures"][0]["message"] == "it broke"
    assert (data["limited_by"], data["limit_share"], data["load"]["cores"]) == ("cores", 0.76, 0.95)


def test_figures_are_summed_over_shards():
    progress = JobProgress(console=Console(quiet=True))
    for index in range(2):
        drift = DriftFigures(num_chunks=2, sum_agreement=1.5, least=0.7 - index / 10, least_video="a-1")
        progress.add(replace(result(index, seconds={"decode": 1.5}, core_seconds={"total": 4.0}), drift=drift))
    figures = measure(progress)
    assert (figures["shards_labeled"], figures["frames"], figures["label_bytes"]) == (2, 20, 200)
    assert (figures["media_s"], figures["stage_s"], figures["core_s"]) == (2.0, {"decode": 3.0}, {"total": 8.0})
    assert figures["drift"] == DriftFigures(num_chunks=4, sum_agreement=3.0, least=0.6, least_video="a-1")


def result(index, *, seconds, core_seconds):
    return ShardResult(
        video_id="a-1",
        shard_index=index,
        num_frames=10,
        num_lost=0,
        num_keyframes=2,
        num_bytes=100,
        media_s=1.0,
        seconds=seconds,
        core_seconds=core_seconds,
        published=True,
    )


def test_whole_videos_and_unreachable_ones_are_told_apart():
    progress = JobProgress(console=Console(quiet=True))
    for index, error in ((0, "SourceUnavailable"), (None, "SourceUnavailable"), (None, "NotAVideo")):
        progress.fail(ShardFailure(video_id="a", shard_index=index, error=error, message="m", attempts=1))
    figures = measure(progress)
    assert (figures["num_failed"], figures["videos_failed"], figures["videos_unreachable"]) == (3, 2, 1)
