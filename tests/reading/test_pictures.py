from __future__ import annotations

import sys

import numpy as np
import pytest

import gsvnet
from gsvnet.errors import ConfigError, MissingExtra, SourceChanged, StoreError
from gsvnet.reading.pictures import blend, find_source, fit_labels, read_picture, stream_pictures, write_png


def test_labels_are_brought_to_another_size_without_new_values():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    assert fit_labels(labels, (4, 4)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255], [2, 2, 255, 255]]
    assert fit_labels(fit_labels(labels, (5, 7)), (2, 2)).tolist() == labels.tolist()
    assert fit_labels(labels, (2, 2)).tolist() == labels.tolist()


def test_blending_mixes_picture_and_colours():
    image, colours = np.full((1, 1, 3), 200, np.uint8), np.full((1, 1, 3), 100, np.uint8)
    assert blend(image, colours, opacity=0.0).tolist() == [[[200] * 3]]
    assert blend(image, colours, opacity=1.0).tolist() == [[[100] * 3]]
    assert blend(image, colours, opacity=0.55).tolist() == [[[145] * 3]]


@pytest.fixture
def numbered(media, tmp_path):
    """A clip whose pictures hold their own number; turned by a quarter, as phones do."""
    return media.write_clip(tmp_path / "clip.mp4", num_frames=30, rotation=90)


@pytest.fixture
def damaged(label_config, media, tmp_path):
    """(labels, indices of the lost frames) of a clip with a hole in the middle."""
    clip = media.write_clip(tmp_path / "clip.mp4", options={"x264-params": "keyint=12"})
    data = bytearray(clip.read_bytes())
    data[len(data) * 4 // 10 : len(data) * 5 // 10] = bytes(len(data) * 5 // 10 - len(data) * 4 // 10)
    clip.write_bytes(data)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    rows = labels.frames.to_table(columns=["frame_index", "status"]).to_pylist()
    lost = [row["frame_index"] for row in rows if row["status"] == "decode_error"]
    assert lost
    return labels, lost


def test_a_picture_is_the_frame_that_its_labels_were_made_from(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mp4", num_frames=30)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    for index in (0, 7, 29):
        picture = read_picture(labels, "clip", index)
        assert media.read_number(picture.image) == picture.frame_index == index
        assert picture.time_s == pytest.approx(index / 30)
        assert picture.keyframe_distance == index % 5
        np.testing.assert_array_equal(picture.labels, labels.labels_at("clip", [index])[0])


def test_pictures_and_labels_stand_upright_alike(label_config, numbered):
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(numbered),))).out)
    picture = read_picture(labels, "clip", 3)
    assert picture.image.shape == (96, 72, 3)
    assert picture.labels.shape == (96, 72)


def test_small_masks_are_enlarged_to_the_picture(label_config):
    labels = gsvnet.open_labels(gsvnet.label(label_config(mask_size="18x24")).out)
    picture = read_picture(labels, "drive", 3)
    assert picture.labels.shape == picture.image.shape[:2] == (72, 96)


def test_a_video_that_was_moved_is_read_where_it_is_now(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mkv", num_frames=10)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    moved = clip.rename(tmp_path / "moved.mkv")
    with pytest.raises(gsvnet.VideoError, match=r"clip\.mkv: nothing there"):
        read_picture(labels, "clip", 4)
    assert media.read_number(read_picture(labels, "clip", 4, source=str(moved)).image) == 4


@pytest.mark.parametrize("step", [1, 7, 65], ids=["neighbours", "near", "far"])
def test_pictures_in_a_stream_are_the_frames_asked_for(label_config, media, tmp_path, step):
    clip = media.write_clip(tmp_path / "clip.mp4", num_frames=150)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    indices = list(range(3, 150, step))
    pictures = list(stream_pictures(labels, "clip", indices))
    assert [media.read_number(picture.image) for picture in pictures] == indices
    assert [picture.frame_index for picture in pictures] == indices
    np.testing.assert_array_equal(pictures[1].labels, labels.labels_at("clip", [indices[1]])[0])


def test_a_folder_stands_for_the_videos_in_it(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mkv", num_frames=10)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    archive = tmp_path / "archive"
    archive.mkdir()
    clip.rename(archive / "clip.mkv")
    assert media.read_number(read_picture(labels, "clip", 4, source=str(archive)).image) == 4
    assert find_source("s3://a/b/clip.mkv", "s3://c/d/") == "s3://c/d/clip.mkv"
    assert find_source("s3://a/b/clip.mkv", "other.mkv") == "other.mkv"


def test_another_video_of_the_same_name_in_the_folder_is_refused(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mkv", num_frames=10)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    archive = tmp_path / "archive"
    archive.mkdir()
    other = media.write_clip(archive / "clip.mkv", num_frames=12)
    with pytest.raises(SourceChanged, match=r"archive/clip\.mkv: has \d+ bytes, the labeled video"):
        read_picture(labels, "clip", 4, source=str(archive))
    assert read_picture(labels, "clip", 4, source=str(other)).frame_index == 4


def test_another_file_of_the_same_name_is_refused_unless_it_is_named(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mkv", num_frames=10)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    media.write_clip(clip, num_frames=12)
    with pytest.raises(SourceChanged, match=r"clip\.mkv: is not the file that was labeled; .* --source"):
        read_picture(labels, "clip", 4)
    assert read_picture(labels, "clip", 4, source=str(clip)).frame_index == 4


def test_lost_frames_are_left_out_of_a_stream(damaged):
    labels, lost = damaged
    found = [picture.frame_index for picture in stream_pictures(labels, "clip")]
    assert found == [index for index in labels.indices("clip").tolist() if index not in lost]


def test_damaged_frames_are_in_a_stream_and_say_so(damaged):
    labels, _ = damaged
    found = [p.frame_index for p in stream_pictures(labels, "clip") if p.row.status == "damaged"]
    assert found
    assert found == [frame.row.frame_index for frame in labels.stream("clip") if frame.row.status == "damaged"]


def test_a_lost_frame_has_no_picture(damaged):
    labels, lost = damaged
    with pytest.raises(StoreError, match="was lost in decoding"):
        read_picture(labels, "clip", lost[0])


def test_a_png_that_cannot_be_written_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot write .*none/a\.png: No such file or directory"):
        write_png(tmp_path / "none" / "a.png", np.zeros((2, 2, 3), np.uint8))


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[view\]"):
        write_png(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))


def test_without_a_decoder_the_extra_is_named(label_config, monkeypatch):
    labels = gsvnet.open_labels(gsvnet.label(label_config()).out)
    monkeypatch.setitem(sys.modules, "gsvnet.video.decode", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[view\]"):
        read_picture(labels, "drive", 0)
