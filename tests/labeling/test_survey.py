from __future__ import annotations

from fractions import Fraction

import pytest

from gsvnet.chunks import Shard, Video
from gsvnet.labeling.plan import VideoPlan
from gsvnet.labeling.planning import Planned, failed_video
from gsvnet.labeling.survey import Survey


def planned(name="a", *, size=(36, 64), shards=(10, 10), numbers_from="index", problems=(), num_bytes=1000) -> Planned:
    num_frames = sum(shards)
    video = Video(
        id=f"{name}-id",
        uri=f"s3://b/{name}.mp4",
        identity=f"{num_bytes}:etag:{name}",
        height=size[0],
        width=size[1],
        rotation=0,
        time_base=Fraction(1, 10),
        num_frames=num_frames,
    )
    starts = [sum(shards[:i]) for i in range(len(shards))]
    cut = tuple(
        Shard(
            video_id=video.id,
            index=i,
            first_frame=start,
            num_frames=shards[i],
            start_pts=start,
            end_pts=start + shards[i],
        )
        for i, start in enumerate(starts)
    )
    plan = VideoPlan(video=video, shards=cut, numbers_from=numbers_from, problems=problems, end_pts=num_frames)
    return Planned(uri=f"s3://key:secret@b/{name}.mp4", plan=plan)


def survey_of(*videos, array_count=None, committed=()) -> Survey:
    survey = Survey(array_count=array_count)
    for video in videos:
        survey.add(video, committed)
    return survey


def test_totals_are_sums_over_the_videos():
    survey = survey_of(planned("a"), planned("b", shards=(30,), num_bytes=500))
    assert (survey.num_videos, survey.num_frames, survey.num_shards, survey.num_bytes) == (2, 50, 3, 1500)
    assert survey.media_s == pytest.approx(5.0)


def test_what_has_labels_is_counted_but_not_to_do():
    survey = survey_of(planned("a"), planned("b"), committed={("a-id", "000001"), ("other", "000000")})
    assert (survey.num_shards, survey.num_shards_done, survey.frames_to_label) == (4, 1, 30)
    assert survey.sizes[36, 64].frames == 30
    assert survey.sizes[36, 64].shards == 3


def test_full_scans_are_counted_with_their_bytes():
    survey = survey_of(planned("a"), planned("b", numbers_from="scan", num_bytes=700))
    assert (survey.num_scanned, survey.scanned_bytes) == (1, 700)


def test_problems_that_differ_in_their_numbers_only_are_one_group():
    texts = [f"the header declares {n} frames, {n - 4} are there: cut short?" for n in (60, 70, 80, 90)]
    survey = survey_of(*(planned(f"v{i}", problems=(text,)) for i, text in enumerate(texts)))
    (group,) = survey.problems.values()
    assert (group.text, group.count, group.examples) == (texts[0], 4, [f"s3://b/v{i}.mp4" for i in range(3)])
    assert survey.num_with_problems == 4


def test_videos_that_cannot_be_used_are_grouped_by_error():
    errors = ["NotAVideo", "VideoNotFound", "NotAVideo"]
    survey = survey_of(*(failed_video(f"{i}.mp4", error=e, message=f"{i}: {e}") for i, e in enumerate(errors)))
    assert {name: group.count for name, group in survey.failed.items()} == {"NotAVideo": 2, "VideoNotFound": 1}
    assert (survey.num_failed, survey.num_videos) == (3, 0)


def test_the_sample_of_a_size_is_its_longest_video_that_needs_no_scan():
    survey = survey_of(
        planned("short"),
        planned("scan", shards=(90,), numbers_from="scan"),
        planned("long", shards=(40,)),
        planned("other", size=(72, 128)),
    )
    assert survey.sizes[36, 64].sample.video.id == "long-id"
    assert survey.sizes[36, 64].sample_uri == "s3://key:secret@b/long.mp4"
    assert "secret" not in repr(survey.sizes[36, 64])


def test_an_array_splits_the_videos():
    survey = survey_of(*(planned(f"v{i}") for i in range(50)), array_count=4)
    assert sum(share.videos for share in survey.shares) == 50
    assert sum(share.frames for share in survey.shares) == survey.num_frames
    assert min(share.videos for share in survey.shares) > 4
