from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gsvnet.reading.pictures import stream_pictures
from gsvnet.store.read import open_labels
from gsvnet.viewing.frames import FrameReader, NoPicture

DRIVE = "drive-0123456789ab"


@pytest.fixture(scope="module")
def reader(labeled):
    return FrameReader(open_labels(labeled))


@pytest.fixture(scope="module")
def video(labeled):
    return open_labels(labeled).videos[0]


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_labels_are_a_gray_png_of_ids(reader, video, labeled):
    labels = opened(reader.read_labels(video, 7))
    np.testing.assert_array_equal(labels, open_labels(labeled).labels_at(video, [7])[0], strict=True)


def test_pictures_are_right_wherever_one_jumps(reader, video, media):
    for frame in (0, 1, 2, 30, 29, 31, 5, 39, 6, 7, 9):
        assert media.read_number(opened(reader.read_picture(video, frame))) == frame


def test_going_on_decodes_on(labeled, video, monkeypatch):
    opens = []

    def spy(labels, name, indices, **options):
        opens.append(indices[0])
        return stream_pictures(labels, name, indices, **options)

    monkeypatch.setattr("gsvnet.viewing.frames.stream_pictures", spy)
    reader = FrameReader(open_labels(labeled))
    for frame in (3, 4, 5, 10, 4, 2):
        reader.read_picture(video, frame)
    assert opens == [3, 2]  # 4 was kept


def test_kept_bytes_are_bounded(labeled, video):
    reader = FrameReader(open_labels(labeled), kept_bytes=20_000)
    for frame in range(20):
        reader.read_picture(video, frame)
    assert reader._kept._num_bytes <= 20_000
    assert reader._kept._num_bytes == sum(map(len, reader._kept._entries.values()))


def test_a_frame_is_there_where_it_has_a_row(output):
    output.write(shard=1, first_frame=10, num_frames=10)
    reader = FrameReader(open_labels(output.out))
    assert [frame for frame in (-1, 0, 9, 10, 19, 20) if reader.has_frame(DRIVE, frame)] == [10, 19]


def test_a_video_out_of_reach_has_no_pictures_but_labels(output):
    output.write(lost=[4])
    reader = FrameReader(open_labels(output.out))
    with pytest.raises(NoPicture, match="nothing there") as caught:
        reader.read_picture(DRIVE, 0)
    assert caught.value.whole_video
    assert (opened(reader.read_labels(DRIVE, 4)) == 255).all()


def test_a_lost_frame_has_no_picture(labeled, video, monkeypatch):
    reader = FrameReader(open_labels(labeled))
    monkeypatch.setattr("gsvnet.viewing.frames.stream_pictures", lambda *given, **options: iter(()))
    with pytest.raises(NoPicture, match="frame 3 was lost") as caught:
        reader.read_picture(video, 3)
    assert not caught.value.whole_video


def test_a_moved_video_is_read_from_the_source_folder(labeled, video, clip, media, tmp_path):
    (tmp_path / "street.mp4").write_bytes(clip.read_bytes())
    reader = FrameReader(open_labels(labeled), source=str(tmp_path))
    assert media.read_number(opened(reader.read_picture(video, 12))) == 12
