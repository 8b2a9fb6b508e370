from __future__ import annotations

import sys

import numpy as np
import pytest

import gsvnet
from gsvnet.errors import ConfigError, MissingExtra, StoreError
from gsvnet.reading.pictures import blend, fit_labels, read_picture, write_png


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


def test_a_lost_frame_has_no_picture(label_config, media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mp4", options={"x264-params": "keyint=12"})
    data = bytearray(clip.read_bytes())
    data[len(data) * 4 // 10 : len(data) * 5 // 10] = bytes(len(data) * 5 // 10 - len(data) * 4 // 10)
    clip.write_bytes(data)
    labels = gsvnet.open_labels(gsvnet.label(label_config(videos=(str(clip),))).out)
    rows = labels.frames.to_table(columns=["frame_index", "status"]).to_pylist()
    lost = [row["frame_index"] for row in rows if row["status"] != "ok"]
    assert lost
    with pytest.raises(StoreError, match="was lost in decoding"):
        read_picture(labels, "clip", lost[0])


def test_a_png_that_cannot_be_written_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot write .*none/a\.png: No such file or directory"):
        write_png(tmp_path / "none" / "a.png", np.zeros((2, 2, 3), np.uint8))


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[view\]"):
        write_png(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
