"""Codec motion against motion that is known: a picture that is moved, and the drawn street."""

from __future__ import annotations

import gc

import av
import numpy as np
import pytest

from gsvnet.errors import ConfigError
from gsvnet.synthetic import SceneConfig, write_video
from gsvnet.synthetic.scene import StreetScene
from gsvnet.video.decode import read_frames, read_pictures
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.motion import read_frames_and_motion, read_motion, trace_to_keyframe
from gsvnet.video.motion_field import see_picture
from tests.video.moving import draw_texture, field

HEIGHT, WIDTH = 140, 232  # no multiples of 16: blocks reach out of the picture
MOTION = (3, 2)  # the camera goes right and down, so what is here now was farther right and down before


@pytest.fixture(scope="session")
def pan(tmp_path_factory):
    """pan(codec, num_pictures, **options): 12 frames of that many textures by turns, each moved by MOTION per frame."""
    folder = tmp_path_factory.mktemp("pan")

    def write(codec: str = "libx264", num_pictures: int = 1, **options: str) -> str:
        path = folder / f"{codec}-{num_pictures}-{'-'.join(options.values())}.mkv"
        if path.exists():
            return str(path)
        textures = [draw_texture(seed) for seed in range(num_pictures)]
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 12
            stream.codec_context.thread_count = 1
            for i in range(12):
                x, y = 100 + MOTION[0] * i, 100 + MOTION[1] * i
                image = textures[i % num_pictures][y : y + HEIGHT, x : x + WIDTH, None]
                frame = av.VideoFrame.from_ndarray(np.repeat(image, 3, 2), format="rgb24")
                frame.pts = i
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        return str(path)

    return write


def share_within(motion: np.ndarray, wanted: tuple[float, float], where: np.ndarray, *, px: float) -> float:
    error = np.hypot(motion[0] - wanted[0], motion[1] - wanted[1])
    return float((error[where] < px).mean())


ONE_REFERENCE = {"bf": "0", "refs": "1"}


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", ONE_REFERENCE),
        ("libx264", {"bf": "0", "refs": "3"}),
        ("libx264", {"bf": "3", "refs": "3"}),
        ("mpeg4", {"qscale": "3"}),
    ],
)
def test_a_moved_picture_gives_its_motion_in_pixels_to_the_previous_frame(pan, codec, options):
    first, *others = read_motion(pan(codec, **options), max_distance=4)
    assert not first.distance.any()
    assert [frame.index for frame in others] == list(range(1, 12))
    for frame in others:
        motion, valid = frame.to_previous(HEIGHT, WIDTH)
        assert valid.mean() > 0.8
        assert share_within(motion, MOTION, valid, px=0.5) > 0.9


def test_motion_counts_in_pixels_of_the_grid_it_is_brought_to(pan):
    *_, last = read_motion(pan(**ONE_REFERENCE), max_distance=1)
    motion, valid = last.to_previous(HEIGHT // 4, WIDTH // 2)
    assert share_within(motion, (MOTION[0] / 2, MOTION[1] / 4), valid, px=0.1) > 0.9


def test_a_reference_two_frames_back_is_found(pan):
    frames = list(read_motion(pan(num_pictures=2, bf="0", refs="3", sc_threshold="0"), max_distance=4))
    for frame in frames[4:]:
        assert (frame.distance == 2).mean() > 0.7
        motion, _ = frame.to_previous(HEIGHT, WIDTH)
        assert share_within(motion, MOTION, frame.on_grid(HEIGHT, WIDTH)[1] == 2, px=0.5) > 0.9


def test_without_looking_every_reference_is_the_previous_frame(pan):
    frames = list(read_motion(pan(num_pictures=2, bf="0", refs="3", sc_threshold="0"), max_distance=1))
    motion, valid = frames[6].to_previous(HEIGHT, WIDTH)
    assert set(np.unique(frames[6].distance)) <= {0, 1}
    assert share_within(motion, (2 * MOTION[0], 2 * MOTION[1]), valid, px=0.5) > 0.7


def test_b_frames_use_frames_ahead_turned_round(pan):
    frames = list(read_motion(pan(bf="3", refs="3"), max_distance=4))
    ahead = [frame for frame in frames if (frame.distance < 0).any()]
    assert ahead
    for frame in ahead:
        motion, _ = frame.to_previous(HEIGHT, WIDTH)
        assert share_within(motion, MOTION, frame.on_grid(HEIGHT, WIDTH)[1] < 0, px=0.5) > 0.7


def test_hevc_has_frames_without_motion(pan):
    frames = list(read_motion(pan("libx265"), max_distance=4))
    assert len(frames) == 12
    assert not any(frame.distance.any() for frame in frames)


def test_motion_is_the_same_with_several_threads(data_dir):
    path = str(data_dir / "clips_derived" / "camvid_val_0016E5_15fps_x264default.mp4")
    one, two = (list(read_motion(path, max_distance=4, threads=threads)) for threads in (1, 2))
    assert all(np.array_equal(a.vector, b.vector) and np.array_equal(a.distance, b.distance) for a, b in zip(one, two))


def test_frames_are_those_of_the_range(pan):
    path = pan(**ONE_REFERENCE)
    pts = [frame.pts for frame in read_motion(path, max_distance=1)]
    part = list(read_motion(path, first_frame=5, start_pts=pts[5], end_pts=pts[9], max_distance=1))
    assert [(frame.index, frame.pts) for frame in part] == list(zip(range(5, 9), pts[5:9]))


def test_a_distance_below_one_is_refused():
    with pytest.raises(ConfigError, match="max_distance 0"):
        list(read_motion("never-opened.mp4", max_distance=0))


def test_motion_of_a_drawn_street_is_near_its_true_flow(tmp_path):
    config = SceneConfig(height=240, width=320, seed=3, noise=0)
    path = write_video(tmp_path / "street.mp4", config=config, num_frames=4, options={"crf": "12", "bf": "0"})
    errors, lengths = [], []
    for motion, truth in zip(read_motion(str(path), max_distance=4), map(StreetScene(config).frame, range(4))):
        found, valid = motion.to_previous(240, 320)
        valid &= truth.flow_valid
        errors.append(np.hypot(*(found - truth.flow))[valid])
        lengths.append(np.hypot(*truth.flow)[valid])
    assert np.median(np.concatenate(lengths)) > 4
    assert np.median(np.concatenate(errors)) < 0.9


@pytest.mark.parametrize(("rotation", "wanted"), [(0, (1, 0)), (90, (0, -1)), (180, (-1, 0)), (270, (0, 1))])
def test_rotated_videos_have_upright_motion(rotation, wanted):
    turned = rotation in (90, 270)
    motion, valid = field(1, 0, 1, rotation=rotation).to_previous(*((24, 16) if turned else (16, 24)))
    assert motion.shape == (2, 24, 16) if turned else (2, 16, 24)
    assert valid.all()
    assert (motion[0] == wanted[0]).all()
    assert (motion[1] == wanted[1]).all()


def test_cells_turn_with_the_picture():
    frame = field(0, 0, 1, rotation=90)
    frame.distance[0, 2] = 2  # upper right as stored is upper left upright
    assert frame.on_grid(3, 2)[1].tolist() == [[2, 1], [1, 1], [1, 1]]


def test_paths_over_a_moved_picture_lead_to_the_keyframe(pan):
    motion, known = trace_to_keyframe(list(read_motion(pan(bf="0", refs="3"), max_distance=4)), HEIGHT // 4, WIDTH // 4)
    assert known[11].mean() > 0.6
    assert share_within(motion[11], (11 * MOTION[0] / 4, 11 * MOTION[1] / 4), known[11], px=0.25) > 0.9


def read_both_ways(path, rotation: int = 0, max_distance: int = 1, threads: int = 1):
    """What read_frames gives of frames 7 to 29, what read_frames_and_motion does, and what read_motion does."""
    index = index_video(str(path))
    place = {"first_frame": 7, "start_pts": int(index.pts[7]), "end_pts": int(index.pts[30])}
    place |= {"rotation": rotation, "threads": threads}
    views = {"views": lambda number: [View(20, 30), View(9, 12)] if number % 4 else []}
    alone = list(read_frames(str(path), **place, **views))
    together = list(read_frames_and_motion(str(path), **place, **views, max_distance=max_distance))
    return alone, together, list(read_motion(str(path), **place, max_distance=max_distance))


def assert_equal_ways(alone, together, motion) -> None:
    assert [(f.index, f.pts, f.status) for f in alone] == [(f.index, f.pts, f.status) for f, _ in together]
    for frame, (same, own) in zip(alone, together):
        assert (own.index, own.pts) == (frame.index, frame.pts)
        assert all(np.array_equal(a, b) for a, b in zip(frame.images, same.images, strict=True))
    for (_, own), other in zip(together, motion, strict=True):
        assert np.array_equal(own.vector, other.vector)
        assert np.array_equal(own.distance, other.distance)


@pytest.mark.parametrize("max_distance", [1, 3])
@pytest.mark.parametrize("name", ["b_frames_mp4", "mpeg4_avi", "open_gop_ts", "hevc_mp4"])
def test_frames_with_motion_are_the_frames_without(zoo, name, max_distance):
    assert_equal_ways(*read_both_ways(zoo(name), max_distance=max_distance))


def test_lost_frames_keep_their_place_and_have_no_motion(zoo, tmp_path):
    content = bytearray(zoo("b_frames_ts").read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    path = tmp_path / "damaged.ts"
    path.write_bytes(content)
    alone, together, motion = read_both_ways(path, threads=2)
    assert_equal_ways(alone, together, motion)
    lost = [own for frame, own in together if frame.status == "decode_error"]
    assert lost
    assert not any(own.distance.size for own in lost)


def test_frames_with_motion_turn_with_the_picture(zoo):
    _, together, _ = read_both_ways(zoo("mpeg4_avi"), rotation=90)
    assert all(own.rotation == 90 for _, own in together)
    assert {image.shape for frame, _ in together for image in frame.images} == {(20, 30, 3), (9, 12, 3)}


def test_vectors_between_cells_are_interpolated():
    frame = field(0, 0, 1, columns=2)
    frame.vector[0, :, 1] = 8
    assert frame.on_grid(1, 4)[0][0].tolist() == [[0, 0.5, 1.5, 2]]


def test_cells_of_other_references_are_not_mixed_in():
    frame = field(0, 0, 1, columns=2)
    frame.vector[0, :, 1], frame.distance[:, 1] = 8, 2
    assert frame.on_grid(1, 4)[0][0].tolist() == [[0, 0, 2, 2]]


def test_a_vector_that_fits_nowhere_leads_to_no_frame(pan):
    frames = list(read_motion(pan(num_pictures=3, bf="0", refs="3", sc_threshold="0"), max_distance=2))
    assert (frames[8].distance == 0).mean() > 0.8


def count_frames() -> int:
    return sum(type(found) is av.VideoFrame for found in gc.get_objects())


def test_frames_are_let_go_when_their_vectors_were_read(zoo):
    """PyAV's side data refers back to its frame: hundreds of pictures would wait for Python to look for cycles."""
    gc.collect()
    gc.disable()
    try:
        before = count_frames()
        pictures = read_pictures(str(zoo("b_frames_mp4")), start_pts=0, end_pts=None, motion=True)
        seen = [see_picture(picture.pts, picture.image, with_luma=False) for picture in pictures]
        assert any(len(picture.vectors) for picture in seen)
        assert count_frames() <= before + 1
    finally:
        gc.enable()
