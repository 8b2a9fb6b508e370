"""Which frames damage may show in, and that sound videos have none."""

from __future__ import annotations

import random

import av
import pytest

from gsvnet.video.damage import DamageTrail, Picture, mark_after_losses, mark_backwards
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video

SMALL = View(36, 48)


def statuses(path, *, first_frame=0, threads=1):
    index = index_video(str(path))
    frames = read_frames(
        str(path),
        first_frame=first_frame,
        start_pts=int(index.pts[first_frame]),
        end_pts=None,
        views=lambda i: (SMALL,),
        threads=threads,
    )
    return {frame.pts: (frame.status, frame.images) for frame in frames}


def flip_bits(path, target, *, seed, num=3):
    """A copy with `num` bits of its middle flipped."""
    data, source = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(num):
        data[source.randrange(len(data) // 5, len(data) * 4 // 5)] ^= 1 << source.randrange(8)
    target.write_bytes(data)
    return target


def test_no_frame_of_a_sound_video_is_damaged_wherever_it_is_entered(zoo_clip):
    num_frames = len(index_video(str(zoo_clip)).pts)
    for first_frame in (0, num_frames // 3, num_frames * 2 // 3):
        assert {status for status, _ in statuses(zoo_clip, first_frame=first_frame).values()} == {"ok"}


@pytest.mark.parametrize("name", ["b_frames_mp4", "open_gop_mp4", "b_frames_ts"])
def test_most_wrong_pictures_of_h264_say_that_they_are_damaged(zoo, tmp_path, media, name):
    number = {int(pts): n for n, pts in enumerate(index_video(str(zoo(name))).pts)}
    wrong = silent = 0
    for seed in range(6):
        path = flip_bits(zoo(name), tmp_path / zoo(name).name, seed=seed)
        for pts, (status, images) in statuses(path).items():
            if images and media.read_number(images[0]) != number[pts]:
                wrong += 1
                silent += status == "ok"
    assert wrong > 10
    assert silent <= 0.25 * wrong


def test_an_undamaged_stretch_after_an_i_frame_is_sound_again(zoo, tmp_path):
    clip = zoo("b_frames_mp4")  # an I-frame every 12 frames
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [p for p in container.demux(video=0) if p.is_keyframe and p.size]
    hit = packets[len(packets) // 2]
    middle = hit.pos + hit.size // 2
    data[middle : middle + 40] = bytes(40)
    (tmp_path / "hole.mp4").write_bytes(data)
    found = [status for status, _ in statuses(tmp_path / "hole.mp4").values()]
    bad = [index for index, status in enumerate(found) if status != "ok"]
    assert "damaged" in found
    assert bad[-1] - bad[0] <= 12 + 3  # one GOP, and the B-frames before it that wait in the decoder


def test_threads_agree_on_what_is_damaged(zoo, tmp_path):
    path = flip_bits(zoo("b_frames_ts"), tmp_path / "clip.ts", seed=1)
    alone, many = ([status for status, _ in statuses(path, threads=n).values()] for n in (1, 3))
    assert alone == many
    assert "damaged" in alone


def picture(pts, *, damaged=False, kind="P"):
    image = av.VideoFrame(16, 16, "yuv420p")
    image.pts, image.pict_type = pts, {"I": 1, "P": 2, "B": 3}[kind]
    return Picture(pts, image, damaged=damaged)


def marks(*pictures):
    return [p.pts for p in mark_backwards(pictures) if p.damaged]


def test_b_frames_before_a_damaged_picture_are_damaged_too():
    assert marks(picture(0, kind="I"), picture(1, kind="B"), picture(2, kind="B"), picture(3, damaged=True)) == [
        1,
        2,
        3,
    ]


def test_other_pictures_before_a_damaged_one_are_sound():
    assert marks(picture(0, kind="I"), picture(1), picture(2, damaged=True), picture(3)) == [2]


def test_pictures_come_in_order_and_whole():
    kinds = "IBBPBPBBBBBBBBBBBBPBB"
    assert [p.pts for p in mark_backwards(picture(n, kind=kind) for n, kind in enumerate(kinds))] == [*range(21)]


def test_damage_of_an_unknown_time_lasts_until_any_i_frame():
    trail = DamageTrail()
    trail.begin(None)
    found = [trail.take(picture(n, kind="P").image).damaged for n in range(3)]
    assert found == [True] * 3


def lost(pts):
    return Picture(pts, None)


def test_pictures_behind_a_lost_one_are_damaged_up_to_the_next_i_frame():
    pictures = [picture(0, kind="I"), lost(1), picture(2), picture(3, kind="B"), picture(4, kind="I"), picture(5)]
    pictures[0].image.key_frame = pictures[4].image.key_frame = True
    assert [p.pts for p in mark_after_losses(pictures) if p.damaged] == [2, 3]


def test_b_frames_before_a_lost_picture_are_damaged():
    assert marks(picture(0, kind="I"), picture(1, kind="B"), lost(2), picture(3)) == [1]


def test_b_frames_at_the_end_of_a_range_know_of_damage_behind_it(zoo, tmp_path):
    """Else a frame would be damaged or sound as its video is cut into shards."""
    path = flip_bits(zoo("b_frames_mp4"), tmp_path / "clip.mp4", seed=1)
    pts = index_video(str(path)).pts.tolist()
    whole = {pts: status for pts, (status, _) in statuses(path).items()}
    for stop in range(1, len(pts)):
        frames = read_frames(
            str(path), first_frame=0, start_pts=pts[0], end_pts=pts[stop], views=lambda i: (), threads=1
        )
        assert [frame.status for frame in frames][-1] == whole[pts[stop - 1]]
