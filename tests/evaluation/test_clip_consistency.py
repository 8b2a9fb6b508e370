from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip_consistency import compare_consistency
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch

pytest.importorskip("cv2")


class Alternates(torch.nn.Module):
    """Keeps its keyframe's labels: sky everywhere where the keyframe's number is even, building where it is odd."""

    classes = CAMVID

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(height, width))

    def segment(self, chunks):
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        ids = chunks.keyframes[chunk, 2, 0, 0].long() % 2
        logits = torch.nn.functional.one_hot(ids, len(CAMVID)).float()[..., None, None].expand(-1, -1, 2, 2)
        yield LogitsBatch(chunk=chunk, position=position, logits=logits)


@pytest.fixture
def data(tmp_path, write_camvid):
    """Five still images with constant truth, whose blue channel is their number."""
    return open_camvid(write_camvid(tmp_path / "clip", np.zeros((5, 24, 32), int)), "val", keyframe_interval=2)


def test_each_kind_of_labels_has_its_own_consistency(data):
    compared = compare_consistency(Alternates(), data, interval=2)
    assert compared.per_frame.miou == 0  # sky, building, sky, ...
    assert compared.model.miou == 100  # keyframes 0, 2, 4: always sky
    assert compared.truth is not None
    assert compared.truth.miou == 100
    assert [row.num_pairs for row in compared.rows.values()] == [4, 4, 4]


def test_labels_that_change_at_every_second_frame_agree_in_half_of_the_pairs(data):
    data.clips[0].frames[2].image.write_bytes(data.clips[0].frames[1].image.read_bytes())
    result = compare_consistency(Alternates(), data, interval=2).model  # labels 0 0 1 1 0
    assert result.per_class[:2].tolist() == pytest.approx([100 / 3, 100 / 3])
    assert result.per_pair == [[100, 0, 100, 0]]  # lost where a keyframe begins


def test_at_interval_one_the_model_is_its_per_frame_labels(data):
    figures = compare_consistency(Alternates(), data, interval=1, mode="etc").to_dict()
    assert figures["model"] == figures["per_frame"]
    assert (figures["mode"], figures["keyframe_interval"]) == ("etc", 1)
    assert {"miou", "per_class", "per_pair", "num_pairs"} <= set(figures["truth"])
    assert figures["clips"] == [data.clips[0].name]
    assert "flow" not in figures["truth"]


def test_truth_of_another_size_is_named(data):
    path = data.clips[0].frames[0].labels
    Image.fromarray(np.zeros((20, 32), np.uint8)).save(path)
    with pytest.raises(ConfigError, match=rf"{path.name}: labels have shape \(20, 32\), their image has \(24, 32\)"):
        compare_consistency(Alternates(), data, interval=1)


def test_smoothed_labels_are_scored_beside_those_they_come_from(data):
    """A frame that differs from both its neighbours is outvoted, where nothing moves."""
    compared = compare_consistency(Alternates(), data, interval=1, smooth=1)
    assert compared.smoothed.miou > compared.model.miou
    assert list(compared.rows) == ["model", "smoothed", "per_frame", "truth"]
    assert set(compared.to_dict()["miou"]) == {"model", "smoothed"}
