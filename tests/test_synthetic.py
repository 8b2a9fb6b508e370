"""The drawn street: determinism, labels, flow, and the video made of it."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.synthetic import SceneConfig, SceneFrame, StreetScene, read_labels, read_number, stamp_number, write_video

SMALL = SceneConfig(height=90, width=120, seed=4)
STEADY = SceneConfig(height=181, width=243, seed=2, noise=0, light="overcast")


def sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values (N, C) of an image (h, w, C) at points (N,), clamped at the border."""
    h, w = image.shape[:2]
    x, y = x.clip(0, w - 1), y.clip(0, h - 1)
    x0, y0 = np.minimum(x.astype(int), w - 2), np.minimum(y.astype(int), h - 2)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    upper = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    lower = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return upper * (1 - fy) + lower * fy


def targets(frame: SceneFrame, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the mask's pixels, and the points (x, y) where they were one frame ago."""
    rows, columns = np.nonzero(mask)
    return rows, columns, columns + frame.flow[0, rows, columns], rows + frame.flow[1, rows, columns]


def photometric_error(frame: SceneFrame, previous: SceneFrame, mask: np.ndarray) -> float:
    """Mean absolute difference in grey levels between the image and the previous one warped by the flow."""
    rows, columns, x, y = targets(frame, mask)
    return float(np.abs(sample(previous.image.astype(float), x, y) - frame.image[rows, columns]).mean())


def label_agreement(frame: SceneFrame, previous: SceneFrame, mask: np.ndarray) -> float:
    """Share of the mask whose label equals the nearest one at the flow's target."""
    rows, columns, x, y = targets(frame, mask)
    return float(
        (previous.labels[np.rint(y).astype(int), np.rint(x).astype(int)] == frame.labels[rows, columns]).mean()
    )


def assert_same(a: SceneFrame, b: SceneFrame) -> None:
    for name in ("image", "labels", "flow", "flow_valid", "moving"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_equal_seeds_draw_equal_frames_and_others_do_not() -> None:
    a, b = StreetScene(SMALL).frame(7), StreetScene(SMALL).frame(7)
    assert_same(a, b)
    other = StreetScene(SceneConfig(height=90, width=120, seed=5)).frame(7)
    assert (other.labels != a.labels).mean() > 0.05


def test_a_frame_alone_equals_the_frame_in_sequence() -> None:
    walker = StreetScene(SMALL)
    for index in range(4, 9):
        frame = walker.frame(index)
    jumper = StreetScene(SMALL)
    jumper.frame(300)
    assert_same(jumper.frame(8), frame)


def test_shapes_and_types_follow_the_config_for_odd_sizes() -> None:
    frame = StreetScene(SceneConfig(height=61, width=97)).frame(3)
    assert (frame.image.shape, frame.image.dtype) == ((61, 97, 3), np.uint8)
    assert (frame.labels.shape, frame.labels.dtype) == ((61, 97), np.uint8)
    assert (frame.flow.shape, frame.flow.dtype) == ((2, 61, 97), np.float32)
    assert frame.flow_valid.shape == frame.moving.shape == (61, 97)
    assert np.isfinite(frame.flow).all()


def test_all_classes_occur_over_a_drive_and_no_others() -> None:
    scene = StreetScene(SceneConfig(height=90, width=120, seed=1))
    counts = sum(np.bincount(scene.labels(i).ravel(), minlength=256) for i in range(0, 1500, 60))
    assert set(np.flatnonzero(counts)) == set(range(len(CAMVID)))


def test_the_first_frame_has_no_valid_flow() -> None:
    frame = StreetScene(SMALL).frame(0)
    assert not frame.flow_valid.any()
    assert not frame.flow.any()


@pytest.mark.parametrize("index", [41, 260])
def test_warping_by_the_flow_gives_image_and_labels(index: int) -> None:
    scene = StreetScene(STEADY)
    previous, frame = scene.frame(index - 1), scene.frame(index)
    assert frame.flow_valid.mean() > 0.75
    assert label_agreement(frame, previous, frame.flow_valid) >= 0.99
    warped, held = (
        photometric_error(frame, previous, frame.flow_valid),
        np.abs(frame.image.astype(float) - previous.image)[frame.flow_valid].mean(),
    )
    assert warped < 4.5
    assert warped < 0.6 * held


def test_things_that_move_have_flow_of_their_own() -> None:
    scene = StreetScene(STEADY)
    without = StreetScene(SceneConfig(**{**vars(STEADY), "cars": 0.0, "people": 0.0}))
    seen = 0
    for index in (120, 200, 333):
        previous, frame, empty = scene.frame(index - 1), scene.frame(index), without.frame(index)
        assert not empty.moving.any()
        mask = frame.moving & frame.flow_valid
        seen += mask.sum()
        assert label_agreement(frame, previous, mask) >= 0.99
        still = frame.flow_valid & ~frame.moving
        assert photometric_error(frame, previous, mask) < 2 * photometric_error(frame, previous, still) + 6
    assert seen > 500


def test_a_point_of_the_road_moves_by_the_flow_of_pure_geometry() -> None:
    config = SceneConfig(height=120, width=160, shake=0, noise=0, people=0, cars=0)
    scene = StreetScene(config)
    frame = scene.frame(50)
    now, before = (scene._drive.camera(i / config.fps, 120, 160) for i in (50, 49))
    row, column = 100, 80
    assert frame.labels[row, column] == CAMVID.names.index("road")
    ray = np.linalg.inv(now.see_directions()) @ (column, row, 1)
    point = now.position - ray * now.position[2] / ray[2]
    pixel = before.see_directions() @ (point - before.position)
    expected = pixel[:2] / pixel[2] - (column, row)
    np.testing.assert_allclose(frame.flow[:, row, column], expected, atol=2e-3)


def test_hours_into_the_drive_the_flow_is_still_exact() -> None:
    scene = StreetScene(STEADY)
    index = 10 * 3600 * STEADY.fps
    previous, frame = scene.frame(index - 1), scene.frame(index)
    assert label_agreement(frame, previous, frame.flow_valid) >= 0.99
    assert photometric_error(frame, previous, frame.flow_valid) < 4.5


def test_noise_changes_the_image_only() -> None:
    quiet, loud = (StreetScene(SceneConfig(height=90, width=120, noise=n)).frame(5) for n in (0, 6))
    np.testing.assert_array_equal(quiet.labels, loud.labels)
    difference = (loud.image.astype(float) - quiet.image)[(quiet.image > 30) & (quiet.image < 220)]
    assert 5.5 < difference.std() < 6.5


def test_truth_can_be_read_without_drawing_the_sequence() -> None:
    np.testing.assert_array_equal(read_labels(SMALL, 33), StreetScene(SMALL).frame(33).labels)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_video_has_every_frame_at_its_time(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"drive{suffix}", config=SMALL, num_frames=23, gop=8, numbered=True)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [Fraction(f.pts) * stream.time_base for f in frames]
    assert [read_number(f.to_ndarray(format="gray")) for f in frames] == list(range(23))
    assert max(abs(t - Fraction(i, SMALL.fps)) for i, t in enumerate(times)) <= Fraction(1, 1000)
    assert [i for i, f in enumerate(frames) if f.pict_type == av.video.frame.PictureType.I][:2] == [0, 8]


def test_a_video_shows_what_the_scene_draws(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", config=SMALL, num_frames=3, first_frame=40)
    with av.open(str(path)) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    drawn = StreetScene(SMALL).frame(42).image
    assert np.abs(decoded[2].astype(float) - drawn).mean() < 6


def test_equal_configs_write_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_video(tmp_path / f"{n}.mp4", config=SMALL, num_frames=5) for n in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("number", [0, 1, 0b1010_1010_1010_1010_1010, 2**20 - 1])
def test_a_stamped_number_can_be_read_at_another_size(number: int) -> None:
    image = np.full((90, 120, 3), 90, np.uint8)
    stamp_number(image, number)
    assert read_number(image) == number
    assert read_number(image.repeat(3, 0).repeat(3, 1)[..., 0]) == number


@pytest.mark.parametrize(
    "wrong", [{"height": 8}, {"seed": -1}, {"fps": 0}, {"speed_m_s": 0.0}, {"cars": -1.0}, {"light": "neon"}]
)
def test_a_bad_config_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        SceneConfig(**wrong)


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="numbered from 0"):
        StreetScene(SMALL).frame(-1)
    with pytest.raises(ConfigError, match="even"):
        write_video(tmp_path / "a.mp4", config=SceneConfig(height=91, width=120), num_frames=1)
    with pytest.raises(ConfigError, match="num_frames"):
        write_video(tmp_path / "a.mp4", config=SMALL, num_frames=0)


@pytest.mark.slow
def test_drawing_keeps_pace() -> None:
    scene = StreetScene(SceneConfig())
    for index in (99, 400, 700):
        scene.frame(index)
    start = time.process_time()
    for index in range(100, 130):
        scene.frame(index)
    assert 30 / (time.process_time() - start) > 4
