"""The overlaid video: its frames, their times, its size."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

import gsvnet
from gsvnet.classes import CAMVID
from gsvnet.export.format import ExportedFrame
from gsvnet.export.legend import Legend
from gsvnet.export.mp4 import Pace, describe_frame, draw_frame
from gsvnet.reading.pictures import read_picture, stream_pictures
from tests.video.media import write_clip


def read_video(path) -> tuple[list[float], list[np.ndarray], float]:
    """Times in seconds and pictures of the frames, and the video's duration in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        return [t for t, _ in frames], [image for _, image in frames], float(stream.duration * stream.time_base)


@pytest.fixture
def label_clip(label_config, tmp_path):
    """label_clip(**options of write_clip): a numbered clip and its labels' output."""

    def label(**options):
        clip = write_clip(tmp_path / "clip.mp4", **options)
        assert gsvnet.label(label_config(videos=(str(clip),))).exit_code == 0
        return str(tmp_path / "out")

    return label


def exported(**changes) -> ExportedFrame:
    usual = {
        "video": "v",
        "frame_index": 308,
        "pts": 0,
        "time_s": 3723.4567,
        "keyframe_distance": 3,
        "confidence": None,
        "labels": np.full((41, 61), 8, np.uint8),
        "image": np.full((41, 61, 3), 100, np.uint8),
        "image_file": "images/v.jpg",
    }
    return ExportedFrame(**usual | changes)


def find_frames(out: str, images: list[np.ndarray]) -> list[int]:
    """Index of the frame of the output's video that, drawn anew, each picture is nearest to."""
    labels = gsvnet.open_labels(out)
    (video,) = labels.videos
    legend = Legend(CAMVID, *images[0].shape[:2])
    drawn = []
    for picture in stream_pictures(labels, video):
        frame = exported(image=picture.image, labels=picture.labels)
        drawn.append(draw_frame(frame, CAMVID, legend)[: picture.image.shape[0]].astype(int))
    return [int(np.argmin([np.abs(image[:72] - each).mean() for each in drawn])) for image in images]


def test_every_frame_is_there_at_its_time(street, run_export):
    folder, said = run_export("mp4", street.out)
    times, images, duration_s = read_video(folder / f"{street.id}.mp4")
    expected = [street.labels.row(street.id, i).time_s for i in range(60)]
    assert times == pytest.approx(np.subtract(expected, expected[0]))
    assert duration_s == pytest.approx(60 / 15)
    assert {image.shape for image in images} == {images[0].shape}
    assert images[0].shape[0] % 2 == images[0].shape[1] % 2 == 0
    assert "1 mp4, 4.0 s" in said


def test_frames_are_the_right_ones_under_their_labels(label_clip, run_export):
    out = label_clip(num_frames=24)
    folder, _ = run_export("mp4", out, every=5)
    times, images, _ = read_video(next(folder.glob("*.mp4")))
    assert find_frames(out, images) == [0, 5, 10, 15, 20]
    assert times == pytest.approx([i * 5 / 30 for i in range(5)], abs=1e-4)


def test_a_variable_frame_rate_keeps_its_times(label_clip, run_export):
    pts = [0, 10, 15, 40, 44, 90, 91, 100]
    out = label_clip(num_frames=8, pts=pts, time_base=Fraction(1, 100))
    folder, _ = run_export("mp4", out)
    times, images, _ = read_video(next(folder.glob("*.mp4")))
    assert times == pytest.approx([t / 100 for t in pts])
    assert find_frames(out, images) == list(range(8))


def test_gaps_are_cut_to_a_second_and_that_is_said(street, run_export):
    folder, said = run_export("mp4", street.out, where="frame_index in (0, 1, 40)")
    times, _, duration_s = read_video(folder / f"{street.id}.mp4")
    assert times == pytest.approx([0, 1 / 15, 1 / 15 + 1], abs=1e-4)
    assert duration_s == pytest.approx(1 / 15 + 1 + 1 / 15, abs=1e-3)
    assert f"{39 / 15 - 1:.1f} s between chosen frames left out" in said


def test_one_frame_is_a_video(street, run_export):
    folder, _ = run_export("mp4", street.out, limit=1)
    times, _, duration_s = read_video(folder / f"{street.id}.mp4")
    assert (times, duration_s) == ([0.0], pytest.approx(1 / 15, abs=1e-3))


def test_pace_goes_on_from_any_start():
    pace = Pace(Fraction(1, 10), 2)
    assert [pace.place(pts) for pts in (1000, 1002, 1003, 1500, 1510)] == [0, 2, 3, 13, 23]
    assert pace.cut == 487


def test_odd_sizes_become_even():
    picture = draw_frame(exported(), CAMVID, Legend(CAMVID, 41, 61))
    assert [side % 2 for side in picture.shape[:2]] == [0, 0]
    assert picture.shape[1] == 62


@pytest.mark.parametrize(("distance", "text"), [(3, "   3 from keyframe"), (0, "   keyframe"), (None, "")])
def test_the_text_says_time_frame_and_distance(distance, text):
    assert describe_frame(exported(keyframe_distance=distance)) == "1:02:03.457   frame 308" + text


def test_colours_survive_the_encoding(street, run_export):
    folder, _ = run_export("mp4", street.out, limit=1)
    _, (image,), _ = read_video(folder / f"{street.id}.mp4")
    picture = read_picture(street.labels, street.id, 0)
    frame = exported(image=picture.image, labels=picture.labels, frame_index=0, time_s=0.0, keyframe_distance=0)
    drawn = draw_frame(frame, CAMVID, Legend(CAMVID, 72, 96))
    assert np.abs(image.mean(axis=(0, 1)) - drawn.mean(axis=(0, 1))).max() < 2
    assert np.abs(image.astype(int) - drawn).mean() < 8
