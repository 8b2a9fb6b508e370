import sys

import numpy as np
import pytest
import torch

from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.training import stills as stills_module
from gsvnet.training.stills import (
    Stills,
    batches_of_views,
    class_weights,
    draw_view,
    jitter_colours,
    load_camvid_stills,
)


def test_camvid_train_is_read_with_void_as_ignore(camvid_folder):
    stills = load_camvid_stills(camvid_folder)
    assert stills.images.shape == (2, 3, 64, 96)
    assert stills.images.dtype == stills.labels.dtype == torch.uint8
    assert stills.images[:, 0, 0, 0].tolist() == [30, 60]
    assert stills.labels[:, 0, 0].tolist() == [255, 255]
    assert stills.labels[:, 10, 10].tolist() == [1, 2]


@pytest.mark.parametrize("split", ["val", "test", "trainval", ""])
def test_only_the_train_split_may_be_trained_on(camvid_folder, split):
    with pytest.raises(ConfigError, match="only 'train'"):
        load_camvid_stills(camvid_folder, split=split)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        load_camvid_stills(tmp_path / "nowhere")


def test_without_pillow_the_extra_is_named(camvid_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[(train|evaluate)\]"):
        load_camvid_stills(camvid_folder)


@pytest.mark.parametrize("scales", [(0.5, 0.7), (1.0, 1.0), (1.5, 3.0)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_view_shows_what_its_targets_say(monkeypatch, scales, axis):
    monkeypatch.setattr(stills_module, "jitter_colours", lambda view, generator: view)
    place = torch.arange(64, dtype=torch.uint8).expand(64, 64)  # each pixel's colour and label are its column, or row
    place = place.T.contiguous() if axis == 0 else place.contiguous()
    image = place.expand(3, 64, 64)
    generator = np.random.default_rng(1)
    for _ in range(10):
        view, target = draw_view(image, place, crop=(32, 32), scales=scales, generator=generator)
        apart = (view[0] - target)[2:-2, 2:-2]
        assert apart.abs().max() <= 0.5 / scales[0] + 0.51
        assert abs(float(apart.mean())) < 0.05 + 0.25 * (scales[0] < 1)


def test_windows_stay_inside_a_still_that_is_hardly_larger():
    image, label = torch.zeros(3, 33, 40, dtype=torch.uint8), torch.zeros(33, 40, dtype=torch.uint8)
    view, target = draw_view(image, label, crop=(32, 32), scales=(0.1, 0.2), generator=np.random.default_rng(0))
    assert view.shape == (3, 32, 32)
    assert target.shape == (32, 32)


def test_colours_change_alike_in_all_frames():
    frame = torch.rand(3, 4, 4) * 255
    first, second = jitter_colours(torch.stack([frame, frame]), np.random.default_rng(0))
    assert torch.equal(first, second)
    assert not torch.equal(first, frame)
    assert first.min() >= 0
    assert first.max() <= 255


def test_an_epoch_shows_every_still_once_and_drops_the_rest():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 8, 8)
    stills = Stills(images=images, labels=images[:, 0])
    batches = list(batches_of_views([stills], batch_size=2, crop=(8, 8), scales=(1, 1), seed=(0, 0)))
    seen = torch.cat([targets[:, 0, 0] for _, targets in batches]).tolist()
    assert len(seen) == len(set(seen)) == 4


def test_class_weights_follow_the_shares_of_labelled_pixels():
    labels = torch.tensor([0, 0, 0, 1, 255, 255, 255, 255], dtype=torch.uint8)
    weights = class_weights(labels, 2).double()
    raw = 1 / np.log([1.1 + 0.75, 1.1 + 0.25])
    assert weights.tolist() == pytest.approx((raw / raw.mean()).tolist())


def test_stills_of_two_sizes_do_not_mix(tiny_stills):
    other = Stills(images=torch.zeros(1, 3, 8, 8, dtype=torch.uint8), labels=torch.zeros(1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="do not mix"):
        tiny_stills.joined(other)
    assert len(tiny_stills.joined(tiny_stills)) == 8


@pytest.mark.parametrize("shape", [(4, 24, 31), (3, 24, 32)])
def test_labels_that_do_not_fit_their_images_are_refused(tiny_stills, shape):
    with pytest.raises(ConfigError, match=r"stills of \(4, 3, 24, 32\) with labels of"):
        Stills(images=tiny_stills.images, labels=torch.zeros(shape, dtype=torch.uint8))


def test_joined_stills_keep_their_drives(tiny_stills):
    other = Stills(images=tiny_stills.images, labels=tiny_stills.labels, sequences=("b",) * 4)
    assert tiny_stills.joined(other).sequences == ("",) * 4 + ("b",) * 4
    assert other.pick([1, 3]).sequences == ("b", "b")
