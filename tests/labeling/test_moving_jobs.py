"""Whole jobs with a network that reads motion and keyframes on both sides, on small clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import gsvnet
from gsvnet.errors import ConfigError, ModelError, OutputConflict
from gsvnet.labeling.config import PlanConfig
from gsvnet.labeling.preview import preview
from gsvnet.labeling.preview_text import describe_preview, preview_to_dict
from gsvnet.models.arseg import ARSeg
from tests.outputs import assert_equal_rows, footers_of, rows_of, shards_of

NUM_FRAMES, INTERVAL, GROUP = 40, 5, 14  # frames, frames per chunk, frames from I-frame to I-frame
MODEL = "tests.tiny_arseg:build_arseg"
STARTS = (0, 5, 10, 14, 19, 24, 28, 33, 38)  # of chunks that restart at I-frames


def x264(**parameters):
    usual = {"ref": 1, "bframes": 0, "keyint": GROUP, "scenecut": 0}
    return {"x264-params": ":".join(f"{name}={value}" for name, value in (usual | parameters).items())}


@pytest.fixture(scope="module")
def clips(media, tmp_path_factory):
    """plain: one reference, no B-frames. references: three, and B-frames. hevc: no vectors."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        "plain": media.write_clip(folder / "plain.mp4", num_frames=NUM_FRAMES, options=x264()),
        "references": media.write_clip(
            folder / "references.mp4", num_frames=NUM_FRAMES, options=x264(ref=3, bframes=2, keyint=250)
        ),
        "hevc": media.write_clip(
            folder / "hevc.mp4", num_frames=12, codec="libx265", options={"x265-params": "log-level=none"}
        ),
    }


@pytest.fixture
def job(label_config, clips):
    """job(clip, **changes): a job of that clip in this process, of one shard where nothing else is said."""

    def make(clip="plain", **changes):
        usual = {"videos": (str(clips[clip]),), "model": MODEL, "shard_frames": 20_000}
        return label_config(**usual | changes)

    return make


def label_rows(config):
    report = gsvnet.label(config)
    assert report.exit_code == 0, report.failures
    return rows_of(config.out)


def distances(starts, num_frames=NUM_FRAMES, *, two_sided=False, reached=()):
    """Frames to the nearest keyframe used. reached: of the starts, to which motion leads back from the chunk before."""
    found = []
    for start, stop in zip(starts, [*starts[1:], num_frames]):
        for frame in range(start, stop):
            from_next = two_sided and stop in reached and frame - start > (stop - start) / 2
            found.append(stop - frame if from_next else frame - start)
    return found


def test_labels_depend_on_motion_and_on_the_references(job, tmp_path):
    found = {
        settings: [
            row["mask"]
            for row in label_rows(
                job(motion=settings[0], references=settings[1], out=str(tmp_path / f"{n}"))
            ).to_pylist()
        ]
        for n, settings in enumerate([("codec", None), ("proxy", None), ("proxy", "nearest"), ("proxy", "both")])
    }
    assert len({tuple(masks) for masks in found.values()}) == 4


def test_with_codec_motion_chunks_restart_at_i_frames_and_the_footer_says_codec(job):
    rows = label_rows(job())
    assert rows["keyframe_distance"].to_pylist() == distances(STARTS)
    assert [i for i, is_key in enumerate(rows["is_keyframe"].to_pylist()) if is_key] == list(STARTS)
    assert [footer.motion for footer in footers_of(job().out)] == ["codec"]


def test_where_the_codec_gives_no_vectors_a_proxy_does_and_the_footer_says_so(job, make_console):
    console = make_console()
    report = gsvnet.label(job("hevc"), console=console)
    assert (report.exit_code, report.frames) == (0, 12)
    assert [footer.motion for footer in footers_of(report.out)] == ["proxy"]
    assert "motion: 1 video by a proxy encode" in console.file.getvalue()
    assert "motion" in report.stage_s
    assert 0 < report.stage_s["motion"] <= report.stage_s["decode"]


def test_a_network_without_motion_leaves_no_word_of_it(label_config):
    report = gsvnet.label(label_config(shard_frames=20_000))
    assert b"gsvnet.motion" not in pq.read_metadata(shards_of(report.out)[0]).metadata
    assert "motion" not in report.stage_s


@pytest.mark.parametrize(
    ("clip", "motion", "references"),
    [("plain", "codec", "nearest"), ("references", "codec", "nearest"), ("references", "proxy", "both")],
)
def test_labels_do_not_depend_on_shard_length(job, tmp_path, clip, motion, references):
    settings = {"motion": motion, "references": references}
    whole = label_rows(job(clip, **settings, out=str(tmp_path / "whole")))
    cut = job(clip, **settings, shard_frames=7, out=str(tmp_path / "cut"))
    assert_equal_rows(label_rows(cut), whole)
    assert len(shards_of(cut.out)) > 5


def test_labels_do_not_depend_on_the_size_of_batches(job, tmp_path):
    found = [
        label_rows(job(references="nearest", batch_chunks=size, out=str(tmp_path / f"{size}"))) for size in (1, 16)
    ]
    for rows in found[1:]:
        assert_equal_rows(rows, found[0])


def test_frames_count_to_the_nearest_keyframe_used(job):
    rows = label_rows(job(motion="proxy", references="nearest"))
    starts = range(0, NUM_FRAMES, INTERVAL)
    assert rows["keyframe_distance"].to_pylist() == distances(starts, two_sided=True, reached=starts)
    assert rows["keyframe_distance"].to_pylist()[-INTERVAL:] == [0, 1, 2, 3, 4]  # nothing follows the last chunk


def test_codec_motion_does_not_lead_on_to_an_i_frame(job):
    found = label_rows(job(motion="codec", references="nearest"))["keyframe_distance"].to_pylist()
    one_sided = distances(STARTS)
    from_next = {frame for frame in range(NUM_FRAMES) if found[frame] != one_sided[frame]}
    chunks_before_i_frames = {*range(10, 14), *range(24, 28), *range(38, NUM_FRAMES)}
    assert from_next
    assert not from_next & chunks_before_i_frames


@pytest.mark.parametrize("motion", ["codec", "proxy"])
def test_lost_frames_keep_their_place_and_those_before_them_their_labels(job, clips, tmp_path, motion):
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(clips["plain"].read_bytes())
    start, length = len(data) // 2, len(data) // 10
    data[start : start + length] = np.random.default_rng(0).bytes(length)
    damaged.write_bytes(data)
    settings = {"motion": motion, "references": "both"}
    found = label_rows(job(videos=(str(damaged),), **settings, out=str(tmp_path / "damaged")))
    assert found["frame_index"].to_pylist() == list(range(NUM_FRAMES))
    lost = [i for i, status in enumerate(found["status"].to_pylist()) if status == "decode_error"]
    assert 20 <= lost[0] < lost[-1] < 28
    if motion == "proxy":  # the codec's references are looked for in a damaged file, and known in a whole one
        whole = label_rows(job(**settings, out=str(tmp_path / "whole")))
        assert found["mask"].to_pylist()[:20] == whole["mask"].to_pylist()[:20]


def test_the_same_command_resumes_and_other_motion_is_refused(job):
    config = job(shard_frames=10, motion="codec")
    rows = label_rows(config)
    shards_of(config.out)[1].unlink()
    assert gsvnet.label(config).shards_labeled == 1
    assert_equal_rows(rows_of(config.out), rows)
    for other in (gsvnet.label, lambda changed: preview(PlanConfig(job=changed, no_calibrate=True), console=None)):
        with pytest.raises(OutputConflict, match="--motion: codec in the output, proxy now"):
            other(replace(config, motion="proxy"))
    with pytest.raises(OutputConflict, match="--model"):
        gsvnet.label(replace(config, references="nearest"))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"references": "nearest"}, ModelError, "references 'nearest'"),
        ({"motion": "codec"}, ConfigError, "--motion codec: the network .* reads no motion"),
    ],
    ids=str,
)
def test_what_a_network_has_no_choice_of_is_refused_before_anything_is_written(label_config, changes, error, words):
    config = label_config(**changes)
    with pytest.raises(error, match=words):
        gsvnet.label(config)
    assert not Path(config.out).exists()


def test_codec_motion_asked_for_in_vain_is_a_failure_of_that_video_alone(job, clips):
    report = gsvnet.label(job(videos=(str(clips["plain"]), str(clips["hevc"])), motion="codec"))
    [failure] = report.failures
    assert (failure.shard_index, report.frames, report.exit_code) == (None, NUM_FRAMES, 3)
    assert "hevc" in failure.message


def test_a_plan_tells_how_many_videos_move_by_what(job, clips, make_console):
    config = job(videos=tuple(map(str, clips.values())), out="", references="nearest")
    shown = preview(PlanConfig(job=config, no_calibrate=True), console=make_console())
    lines = dict(describe_preview(shown))
    assert lines["motion"] == "1 video by their own codec, 2 videos by a proxy encode"
    assert preview_to_dict(shown)["motion"] == {"codec": 1, "proxy": 2}


def test_codec_motion_is_decoded_on_the_cpu_whatever_is_asked_for(job, make_console):
    console = make_console()
    report = gsvnet.label(job(motion="codec", decoder="auto", device="cpu"), console=console)
    assert [(footer.decoder, footer.motion) for footer in footers_of(report.out)] == [("cpu", "codec")]
    assert (
        console.file.getvalue().count("decoded on the CPU: its motion is the codec's, which NVDEC does not give") == 1
    )


def test_a_video_too_large_for_the_memory_is_a_failure_and_the_others_are_labeled(
    job, clips, media, tmp_path, monkeypatch
):
    large = media.write_clip(tmp_path / "large.mp4", num_frames=5, size=(144, 192))
    peak_bytes = ARSeg.peak_bytes
    monkeypatch.setattr(
        ARSeg,
        "peak_bytes",
        lambda self, height, *rest, **more: 2**60 if height > 72 else peak_bytes(self, height, *rest, **more),
    )
    report = gsvnet.label(job(videos=(str(large), str(clips["plain"]))))
    [failure] = report.failures
    assert (failure.error, failure.attempts, report.frames) == ("VideoError", 1, NUM_FRAMES)
    assert "144x192 need about" in failure.message


def test_the_reason_of_a_choice_is_in_the_plan(job):
    gsvnet.label(job("references"))
    [plan] = Path(job().out).glob("_plan/*.json")
    assert json.loads(plan.read_text())["motion"]["source"] == "proxy"
    assert "B-frames" in json.loads(plan.read_text())["motion"]["reason"]
