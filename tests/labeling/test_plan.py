from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gsvnet.errors import NotAVideo, OutputConflict, SourceChanged, StoreError, VideoError, VideoNotFound
from gsvnet.labeling.plan import PlanRule, find_reach, plan_video, stored_or_new_plan
from gsvnet.labeling.tasks import Reach, ShardMotion
from gsvnet.store.layout import plan_uri
from gsvnet.video.index import index_video
from gsvnet.video.motion import read_motion
from tests.video.moving import encode, pan_texture

RULE = PlanRule(interval=5, shard_seconds=60.0, shard_frames=12)


@pytest.fixture
def clip(media, tmp_path) -> Path:
    return media.write_clip(
        tmp_path / "clip.mp4", num_frames=30, options={"x264-params": "keyint=10:scenecut=0:bframes=2"}
    )


def test_a_plan_says_what_the_video_is_and_where_its_shards_lie(clip):
    plan = plan_video(str(clip), rule=RULE)
    video = plan.video
    assert (video.height, video.width, video.num_frames, video.uri) == (72, 96, 30, str(clip))
    assert video.id.startswith("clip-")
    assert [(s.first_frame, s.num_frames) for s in plan.shards] == [(0, 10), (10, 10), (20, 10)]
    assert [s.start_pts * video.time_base for s in plan.shards] == [0, Fraction(1, 3), Fraction(2, 3)]
    assert (plan.numbers_from, plan.problems) == ("index", ())


def test_shard_seconds_are_seconds_of_video(clip):
    plan = plan_video(str(clip), rule=replace(RULE, interval=1, shard_frames=999, shard_seconds=0.5))
    assert [s.first_frame for s in plan.shards] == [0, 10, 20]  # of 15 frames in reach, the last I-frame
    assert [s.first_frame for s in plan_video(str(clip), rule=replace(RULE, shard_seconds=1e9)).shards] == [0, 10, 20]


def test_a_plan_is_stored_and_then_read_back_equal(clip, tmp_path):
    out = str(tmp_path / "out")
    first = stored_or_new_plan(out, str(clip), rule=RULE)
    written = Path(plan_uri(out, first.video.id))
    before = written.stat().st_mtime_ns
    assert stored_or_new_plan(out, str(clip), rule=RULE) == first
    assert written.stat().st_mtime_ns == before


def test_a_stored_plan_of_another_rule_is_refused_with_both_values(clip, tmp_path):
    out = str(tmp_path / "out")
    stored_or_new_plan(out, str(clip), rule=RULE)
    with pytest.raises(OutputConflict, match=r"other settings: --shard-frames 12 there, 5 now; use another --out"):
        stored_or_new_plan(out, str(clip), rule=replace(RULE, shard_frames=5))


def test_a_plan_of_the_first_version_still_counts(clip, tmp_path):
    out = str(tmp_path / "out")
    plan = stored_or_new_plan(out, str(clip), rule=RULE)
    path = Path(plan_uri(out, plan.video.id))
    data = json.loads(path.read_text())
    del data["rule"], data["end_pts"]
    path.write_text(json.dumps(data))
    old = stored_or_new_plan(out, str(clip), rule=RULE)
    assert old == replace(plan, end_pts=None)
    assert old.media_s == pytest.approx(2 / 3)  # up to the last shard


def test_a_video_planned_by_another_run_in_between_is_planned_as_that_run_did(clip, tmp_path):
    out = str(tmp_path / "out")
    first = stored_or_new_plan(out, str(clip), rule=RULE)
    assert stored_or_new_plan(out, str(clip), rule=RULE, is_stored=False) == first


def test_a_plan_knows_length_and_size(clip):
    plan = plan_video(str(clip), rule=RULE)
    assert plan.media_s == pytest.approx(1.0)
    assert plan.num_bytes == clip.stat().st_size


def test_a_changed_file_is_refused_with_both_identities(clip, media, tmp_path):
    out = str(tmp_path / "out")
    before = stored_or_new_plan(out, str(clip), rule=RULE).video.identity
    media.write_clip(clip, num_frames=31)
    with pytest.raises(SourceChanged, match="the file changed since it was planned") as refused:
        stored_or_new_plan(out, str(clip), rule=RULE)
    assert before in str(refused.value)
    assert refused.value.uri == str(clip)


def test_a_video_that_cannot_be_used_leaves_no_plan(media, tmp_path):
    out = str(tmp_path / "out")
    audio = media.write_audio(tmp_path / "audio.m4a")
    with pytest.raises(NotAVideo):
        stored_or_new_plan(out, str(audio), rule=RULE)
    with pytest.raises(VideoNotFound):
        stored_or_new_plan(out, str(tmp_path / "none.mp4"), rule=RULE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"shards": [{}]}, {"video": {}}, {"problems": None}], ids=str)
def test_a_stored_plan_that_is_no_plan_is_refused(clip, tmp_path, change):
    out = str(tmp_path / "out")
    name = stored_or_new_plan(out, str(clip), rule=RULE).video.id
    path = Path(plan_uri(out, name))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=f"the stored plan of {name} is not of this version"):
        stored_or_new_plan(out, str(clip), rule=RULE)


def test_odd_files_are_planned_with_their_problems(clip, media, tmp_path):
    fast = media.write_clip(tmp_path / "cut.mp4", num_frames=60, container_options={"movflags": "faststart"})
    fast.write_bytes(fast.read_bytes()[: fast.stat().st_size * 6 // 10])
    plan = plan_video(str(fast), rule=RULE)
    assert 0 < plan.video.num_frames < 60
    assert "the header declares 60 frames" in plan.problems[0]


def test_the_stored_uri_of_a_local_video_is_absolute(drive, monkeypatch):
    monkeypatch.chdir(drive.parent)
    plan = plan_video(drive.name, rule=RULE)
    assert plan.video.uri == str(drive)


# --- motion ---

MOVING = replace(RULE, motion="codec")


@pytest.fixture
def plain_clip(media, tmp_path) -> Path:
    """One reference, no B-frames, I-frames at 0, 12 and 24."""
    options = {"x264-params": "ref=1:bframes=0:keyint=12:scenecut=0"}
    return media.write_clip(tmp_path / "plain.mp4", num_frames=30, options=options)


def stored_text(out, plan) -> str:
    return Path(plan_uri(out, plan.video.id)).read_text()


def test_with_codec_motion_chunks_restart_at_i_frames(plain_clip):
    plan = plan_video(str(plain_clip), rule=replace(MOVING, shard_frames=30))
    assert (plan.motion.source, [s.restarts for s in plan.shards]) == ("codec", [(12, 24)])
    assert [s.first_frame for s in plan_video(str(plain_clip), rule=MOVING).shards] == [0, 12, 24]


def test_with_a_proxy_chunks_do_not_restart(plain_clip):
    plan = plan_video(str(plain_clip), rule=replace(MOVING, motion="proxy", shard_frames=30))
    assert (plan.motion.source, [s.restarts for s in plan.shards], plan.reaches) == ("proxy", [()], ())
    assert plan.shard_motion == ShardMotion(source="proxy", max_distance=plan.motion.max_distance)
    assert plan.reach_of(plan.shards[0]) is None


def test_for_codec_motion_frames_around_a_shard_are_decoded_too(clip):
    plan = plan_video(str(clip), rule=MOVING)
    around = plan.motion.max_distance
    pts = index_video(str(clip)).pts.tolist()
    assert around > 1  # the clip has B-frames
    starts = [0, 10 - around, 20 - around]
    assert [reach.first_frame for reach in plan.reaches] == starts
    assert [reach.start_pts for reach in plan.reaches] == [pts[i] for i in starts]
    assert [reach.end_pts for reach in plan.reaches] == [pts[11 + around], pts[21 + around], None]


def test_what_is_found_of_a_next_keyframe_does_not_depend_on_the_cut(tmp_path):
    """It shows another scene than the frames before it, and of 8 B-frames the first: it leads 8 frames ahead."""
    options = {"x264-params": "ref=1:bframes=8:b-adapt=0:b-pyramid=0:keyint=250:scenecut=0"}
    images = [*pan_texture(48, 64, 10), *(image[::-1] for image in pan_texture(48, 64, 20, (1, 1)))]
    path = encode(tmp_path / "ahead.mp4", images, options=options)
    plan = plan_video(path, rule=replace(MOVING, shard_frames=10, interval=10))
    reach, around = plan.reaches[0], plan.motion.max_distance
    whole = list(read_motion(path, max_distance=around))[10]
    place = {"first_frame": reach.first_frame, "start_pts": reach.start_pts, "end_pts": reach.end_pts}
    cut = list(read_motion(path, **place, max_distance=around))[10]
    assert (whole.distance == -around).mean() > 0.5
    np.testing.assert_array_equal(cut.distance, whole.distance)


def test_where_the_codec_has_one_reference_only_the_next_keyframe_is_decoded_too(plain_clip):
    plan = plan_video(str(plain_clip), rule=MOVING)
    pts = index_video(str(plain_clip)).pts.tolist()
    assert plan.motion.max_distance == 1
    assert [(r.first_frame, r.end_pts) for r in plan.reaches] == [(0, pts[13]), (12, pts[25]), (24, None)]


def test_a_plan_with_motion_is_read_back_equal(plain_clip, tmp_path):
    out = str(tmp_path / "out")
    first = stored_or_new_plan(out, str(plain_clip), rule=MOVING)
    assert stored_or_new_plan(out, str(plain_clip), rule=MOVING) == first


def test_plans_for_networks_without_motion_say_nothing_of_it(clip, tmp_path):
    out = str(tmp_path / "out")
    plan = stored_or_new_plan(out, str(clip), rule=RULE)
    assert (plan.shard_motion, plan.reach_of(plan.shards[0])) == (None, None)
    stored = json.loads(stored_text(out, plan))
    assert set(stored) == {"video", "shards", "numbers_from", "problems", "end_pts", "version", "rule"}
    assert set(stored["rule"]) == {"interval", "shard_seconds", "shard_frames"}


@pytest.mark.parametrize(
    ("there", "now", "words"),
    [("codec", "proxy", "codec there, proxy now"), (None, "auto", "not read there, auto now"),
     ("auto", None, "auto there, not read now")],
)  # fmt: skip
def test_a_plan_made_for_other_motion_is_refused(plain_clip, tmp_path, there, now, words):
    out = str(tmp_path / "out")
    stored_or_new_plan(out, str(plain_clip), rule=replace(RULE, motion=there))
    with pytest.raises(OutputConflict, match=f"other settings: --motion {words}; use another --out"):
        stored_or_new_plan(out, str(plain_clip), rule=replace(RULE, motion=now))


def test_codec_motion_that_a_video_does_not_have_is_that_videos_error(media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mkv", num_frames=3, codec="mjpeg", pixel_format="yuvj420p")
    with pytest.raises(VideoError, match="mjpeg gives no motion vectors"):
        plan_video(str(clip), rule=MOVING)


# --- frames around a batch ---

AROUND = replace(RULE, before=3, after=2)


def test_frames_that_a_network_looks_at_around_a_shard_are_decoded_too(clip):
    plan = plan_video(str(clip), rule=AROUND)
    pts = index_video(str(clip)).pts.tolist()
    assert plan.shards == plan_video(str(clip), rule=RULE).shards
    assert plan.reaches == (
        Reach(first_frame=0, start_pts=pts[0], end_pts=pts[12]),
        Reach(first_frame=7, start_pts=pts[7], end_pts=pts[22]),
        Reach(first_frame=17, start_pts=pts[17], end_pts=None),
    )


def test_a_reach_past_the_last_frame_is_open_as_the_last_shard_is(clip):
    plan = plan_video(str(clip), rule=replace(AROUND, after=10))
    pts = index_video(str(clip)).pts.tolist()
    assert [reach.end_pts for reach in plan.reaches] == [pts[20], None, None]


@pytest.mark.parametrize(("before", "after", "first", "stop"), [(3, 0, 7, 21), (0, 4, 10, 24), (0, 0, 10, 21)])
def test_codec_motion_and_frames_around_reach_as_far_as_the_farther_of_both(clip, before, after, first, stop):
    index, shard = index_video(str(clip)), plan_video(str(clip), rule=RULE).shards[1]
    reach = find_reach(shard, index, max_distance=1, before=before, after=after)
    pts = index.pts.tolist()
    assert reach == Reach(first_frame=first, start_pts=pts[first], end_pts=pts[stop])


def test_a_plan_with_frames_around_is_read_back_equal_and_says_so(clip, tmp_path):
    out = str(tmp_path / "out")
    plan = stored_or_new_plan(out, str(clip), rule=replace(AROUND, after=0))
    assert stored_or_new_plan(out, str(clip), rule=replace(AROUND, after=0)) == plan
    stored = json.loads(stored_text(out, plan))
    assert stored["rule"] == {"interval": 5, "shard_seconds": 60.0, "shard_frames": 12, "before": 3}
    assert len(stored["reaches"]) == 3
    assert "motion" not in stored


@pytest.mark.parametrize(
    ("there", "now", "words"),
    [
        ({}, {"before": 3}, "frames looked at before a batch 0 there, 3 now"),
        ({"before": 3}, {"before": 3, "after": 3}, "frames looked at after a batch 0 there, 3 now"),
        ({"before": 3, "after": 3}, {}, "before a batch 3 there, 0 now, frames looked at after a batch 3 there, 0 now"),
    ],
)
def test_a_plan_for_a_network_that_looks_elsewhere_is_refused(clip, tmp_path, there, now, words):
    out = str(tmp_path / "out")
    stored_or_new_plan(out, str(clip), rule=replace(RULE, **there))
    with pytest.raises(OutputConflict, match=f"other settings: .*{words}; use another --out"):
        stored_or_new_plan(out, str(clip), rule=replace(RULE, **now))


def test_a_plan_of_the_first_version_is_none_for_a_network_that_looks_around(clip, tmp_path):
    out = str(tmp_path / "out")
    path = Path(plan_uri(out, stored_or_new_plan(out, str(clip), rule=RULE).video.id))
    data = json.loads(path.read_text())
    del data["rule"]
    path.write_text(json.dumps(data))
    with pytest.raises(OutputConflict, match="frames looked at before a batch 0 there, 3 now"):
        stored_or_new_plan(out, str(clip), rule=AROUND)


def shard_change(index, **changes):
    return lambda plan: plan["shards"][index].update(changes)


CONTRADICTIONS = {
    "another video": lambda plan: plan["video"].update(id="other-0123456789ab"),
    "a uri that is no text": lambda plan: plan["video"].update(uri=None),
    "an identity that is no text": lambda plan: plan["video"].update(identity=["x"]),
    "no size": lambda plan: plan["video"].update(height=0),
    "a rotation by half a turn and a bit": lambda plan: plan["video"].update(rotation=181),
    "more frames than shards": lambda plan: plan["video"].update(num_frames=31),
    "no frames": lambda plan: plan["video"].update(num_frames=True),
    "no time base": lambda plan: plan["video"].update(time_base="1/0"),
    "a time base beyond numbers": lambda plan: plan["video"].update(time_base="1e999999999"),
    "no shards": lambda plan: plan.update(shards=[]),
    "a shard twice": lambda plan: plan["shards"].insert(0, plan["shards"][0]),
    "a shard of another video": shard_change(1, video_id="other-0123456789ab"),
    "a gap": shard_change(1, first_frame=11),
    "a shard in text": shard_change(1, num_frames="10"),
    "a shard from half a frame on": shard_change(1, first_frame=10.0),
    "no time between shards": shard_change(0, end_pts=None),
    "time that goes back": shard_change(1, start_pts=0),
    "a closed last shard": shard_change(2, end_pts=10**6),
    "restarts outside": shard_change(0, restarts=[12]),
    "restarts in disorder": shard_change(0, restarts=[7, 3]),
    "an end before the last shard": lambda plan: plan.update(end_pts=1),
    "an end that is no number": lambda plan: plan.update(end_pts={}),
    "motion from nowhere": lambda plan: plan.update(motion={"source": "x", "reason": "", "max_distance": 1}),
    "one reach for all": lambda plan: plan.update(reaches=[{"first_frame": 0, "start_pts": 0, "end_pts": None}]),
    "a reach inside its shard": lambda plan: plan.update(
        reaches=[{"first_frame": 25, "start_pts": 0, "end_pts": None}] * 3
    ),
    "a narrower shard to label": lambda plan: plan.update(widened=[plan["shards"][0] | {"num_frames": 5}] * 3),
    "a rule that is none": lambda plan: plan.update(rule=[]),
}


@pytest.fixture(scope="module")
def planned(media, tmp_path_factory):
    """A clip, and the output that holds its plan of three shards."""
    folder = tmp_path_factory.mktemp("planned")
    options = {"x264-params": "keyint=10:scenecut=0:bframes=2"}
    clip = media.write_clip(folder / "clip.mp4", num_frames=30, options=options)
    return clip, str(folder / "out"), stored_or_new_plan(str(folder / "out"), str(clip), rule=RULE).video.id


@pytest.mark.parametrize("wrong", CONTRADICTIONS)
def test_a_stored_plan_that_contradicts_itself_is_refused(planned, tmp_path, wrong):
    clip, out, name = planned
    plan = json.loads(Path(plan_uri(out, name)).read_text())
    CONTRADICTIONS[wrong](plan)
    changed = Path(plan_uri(str(tmp_path / "out"), name))
    changed.parent.mkdir(parents=True)
    changed.write_text(json.dumps(plan))
    with pytest.raises(StoreError, match=f"the stored plan of {name} is not of this version"):
        stored_or_new_plan(str(tmp_path / "out"), str(clip), rule=RULE)
