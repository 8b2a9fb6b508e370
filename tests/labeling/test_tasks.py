from __future__ import annotations

import pickle
from fractions import Fraction

from gsvnet.chunks import Shard, Video
from gsvnet.errors import ModelError, NoSpace, NotAVideo, SourceUnavailable, StoreError, StoreUnavailable
from gsvnet.labeling.tasks import ShardTask, describe_error

VIDEO = Video(
    id="a", uri="s3://bucket/a.mp4", identity="", height=2, width=2, rotation=0, time_base=Fraction(1), num_frames=1
)
SHARD = Shard(video_id="a", index=0, first_frame=0, num_frames=1, start_pts=0, end_pts=None)
TASK = ShardTask(video=VIDEO, shard=SHARD, uri="s3://key:hidden@bucket/a.mp4?sig=covert")


def test_showing_a_task_does_not_show_its_credentials():
    assert "hidden" not in repr(TASK)
    assert "covert" not in repr(TASK)


def test_credentials_are_taken_out_of_what_a_worker_raised():
    error = OSError(f"403 for {TASK.uri}; tried https://host/a.mp4?sig=covert as key:hidden")
    raised = describe_error(error, traceback=f"open({TASK.uri!r})", task=TASK)
    assert raised.message == "403 for s3://bucket/a.mp4; tried https://host/a.mp4?*** as ***"
    assert raised.traceback == "open('s3://bucket/a.mp4')"


def test_without_a_task_every_url_is_shown_without_credentials():
    text = "GET https://key:hidden@host/a.mp4?sig=covert failed"
    raised = describe_error(RuntimeError(text), traceback=f"  line 1\n  RuntimeError: {text}\n")
    assert raised.message == "GET https://host/a.mp4 failed"
    assert raised.traceback == "  line 1\n  RuntimeError: GET https://host/a.mp4 failed\n"


def test_errors_are_told_apart_by_whose_they_are():
    ours = (
        NotAVideo("x"),
        StoreError("x"),
        StoreUnavailable("x"),
        SourceUnavailable("x"),
        NoSpace("x"),
        ModelError("x"),
    )
    kinds = [describe_error(error).kind for error in (*ours, KeyError())]
    assert kinds == ["video", "store", "outage", "outage", "space", "fatal", "other"]


def test_an_error_of_ours_travels_as_itself():
    raised = pickle.loads(pickle.dumps(describe_error(NoSpace("2 GB are free, 3 GB are needed"))))
    assert type(raised.original) is NoSpace
    assert str(raised.original) == "2 GB are free, 3 GB are needed"
