"""The times of packets behind damage."""

from __future__ import annotations

import pytest

from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video

HIDDEN = 30


@pytest.fixture(scope="module")
def avi_with_a_hidden_frame(zoo, tmp_path_factory):
    """An AVI file in which the header of frame 30 is destroyed, so that FFmpeg does not see it."""
    data = bytearray(zoo("mpeg4_avi").read_bytes())
    place = data.index(b"movi")
    for _ in range(HIDDEN + 1):
        place = data.index(b"00dc", place + 1)
    data[place : place + 8] = b"\x81" * 8
    path = tmp_path_factory.mktemp("hidden") / "hidden.avi"
    path.write_bytes(data)
    return path


def test_frames_of_an_avi_file_keep_their_times_behind_one_that_is_hidden(avi_with_a_hidden_frame, zoo):
    sound = index_video(str(zoo("mpeg4_avi"))).pts.tolist()
    found = index_video(str(avi_with_a_hidden_frame)).pts.tolist()
    assert HIDDEN not in found
    assert set(found) < set(sound)
    assert found[-1] == sound[-1]


@pytest.mark.parametrize("start", [0, 36, 60])
def test_frames_of_an_avi_file_are_the_same_wherever_reading_starts(avi_with_a_hidden_frame, media, start):
    frames = read_frames(
        str(avi_with_a_hidden_frame), first_frame=0, start_pts=start, end_pts=None, views=lambda index: (View(36, 48),)
    )
    shown = {frame.pts: media.read_number(frame.images[0]) for frame in frames if frame.status == "ok"}
    assert len(shown) > 20
    assert shown == {pts: pts for pts in shown}


def test_frames_that_follow_a_hidden_one_are_damaged_up_to_the_next_i_frame(avi_with_a_hidden_frame):
    frames = read_frames(str(avi_with_a_hidden_frame), first_frame=0, start_pts=0, end_pts=None, views=lambda index: ())
    assert [frame.pts for frame in frames if frame.status != "ok"] == [*range(HIDDEN + 1, 36)]


def test_one_frame_whose_time_overtakes_the_next_ones_loses_it_and_the_others_stay(zoo, tmp_path):
    """One bit in the clock of frame 45 of an MPEG-TS: 0.09 s late, between the times of others."""
    data = bytearray(zoo("intra_refresh_ts").read_bytes())
    place = -1
    for _ in range(46):
        place = data.index(b"\0\0\1\xe0", place + 1)
    data[place + 12] ^= 0x40
    (tmp_path / "late.ts").write_bytes(data)
    sound = index_video(str(zoo("intra_refresh_ts"))).pts.tolist()
    found = index_video(str(tmp_path / "late.ts"))
    assert found.pts.tolist() == [*sound[:45], *sound[46:]]
    assert "1 frames have no usable timestamp and are left out" in found.problems
    frames = read_frames(
        str(tmp_path / "late.ts"), first_frame=0, start_pts=sound[0], end_pts=None, views=lambda index: ()
    )
    assert [frame.pts for frame in frames] == found.pts.tolist()


def test_a_seek_that_fails_costs_no_frame(zoo, tmp_path):
    """An AVI stream that begins at frame 32, before which FFmpeg finds no place to seek to."""
    data = bytearray(zoo("mpeg4_avi").read_bytes())
    place = data.index(b"strh") + 8 + 28
    data[place : place + 4] = (32).to_bytes(4, "little")
    (tmp_path / "late.avi").write_bytes(data)
    pts = index_video(str(tmp_path / "late.avi")).pts.tolist()
    assert pts[0] == 32
    frames = read_frames(str(tmp_path / "late.avi"), first_frame=0, start_pts=32, end_pts=None, views=lambda index: ())
    assert [frame.pts for frame in frames] == pts
