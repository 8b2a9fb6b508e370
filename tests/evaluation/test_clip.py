from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gsvnet.chunks import Chunk
from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip import ClipLabeler, find_relabeling, label_frames
from gsvnet.evaluation.dataset import Clip
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch


class Says(torch.nn.Module):
    """Every frame is of one class: the number of its chunk's keyframe plus its position, of `classes`."""

    def __init__(self, classes: ClassSet = CAMVID) -> None:
        super().__init__()
        self.classes = classes
        self.lengths: list[tuple[int, ...]] = []

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(height, width))

    def segment(self, chunks):
        self.lengths.append(tuple(chunks.frames.shape[:2]))
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        ids = chunks.keyframes[chunk, 2, 0, 0].long() + position
        logits = torch.nn.functional.one_hot(ids, len(self.classes)).float()[..., None, None]
        yield LogitsBatch(chunk=chunk, position=position, logits=logits.expand(-1, -1, 2, 2))


@pytest.fixture
def clip(tmp_path, write_camvid) -> Clip:
    """Seven images whose blue channel is their number."""
    root = write_camvid(tmp_path / "clip", np.zeros((7, 6, 8), int))
    return open_camvid(root, "val", keyframe_interval=1).clips[0]


def test_chunks_of_any_start_and_length_are_labeled_together(clip):
    chunks = [Chunk(first_frame=4, num_frames=1), Chunk(first_frame=1, num_frames=3)]
    labels = ClipLabeler(clip, Says(), interval=7).label(chunks)
    assert {place: int(frame[0, 0]) for place, frame in labels.items()} == {(0, 0): 4, (1, 0): 1, (1, 1): 2, (1, 2): 3}
    assert all(frame.shape == (6, 8) and frame.dtype == np.uint8 for frame in labels.values())


def test_only_wanted_frames_are_brought_to_full_size(clip, monkeypatch):
    sizes = []
    from gsvnet.evaluation import clip as module

    upsample = module.upsample_labels
    monkeypatch.setattr(
        module, "upsample_labels", lambda logits, *a, **k: sizes.append(len(logits)) or upsample(logits, *a, **k)
    )
    labels = ClipLabeler(clip, Says(), interval=7).label([Chunk(first_frame=0, num_frames=5)], {(0, 0), (0, 4)})
    assert (set(labels), sizes) == ({(0, 0), (0, 4)}, [2])


def test_batches_are_no_longer_than_their_longest_chunk(clip):
    network = Says()
    list(label_frames(clip, network, interval=4, batch_chunks=1))
    assert network.lengths == [(1, 4), (1, 3)]


def test_labels_come_in_the_classes_of_the_truth(clip):
    table = find_relabeling(CITYSCAPES, CAMVID)
    labels = [int(frame[0, 0]) for frame in label_frames(clip, Says(CITYSCAPES), interval=7, relabel=table)]
    merged = ("road", "pavement", "building", "building", "fence", "pole", "sign symbol")
    assert [CAMVID.names[i] for i in labels] == list(merged)


def test_equal_classes_need_no_relabeling():
    assert find_relabeling(CAMVID, CAMVID) is None


@pytest.mark.parametrize(
    "classes", [CAMVID, ClassSet(name="two", names=("road", "car"), colours=((0, 0, 0), (1, 1, 1)))]
)
def test_classes_that_do_not_cover_the_truth_are_refused(classes):
    with pytest.raises(
        ModelError, match=rf"the model has the classes {classes.identifiers[0]}, .* truth has road, side"
    ):
        find_relabeling(classes, CITYSCAPES)


def test_labels_of_another_size_than_their_image_are_named(clip):
    labels = clip.frames[3].labels
    assert isinstance(labels, Path)
    Image.fromarray(np.zeros((5, 8), np.uint8)).save(labels)
    with pytest.raises(ConfigError, match=rf"{labels.name}: labels have shape \(5, 8\), their image has \(6, 8\)"):
        ClipLabeler(clip, Says(), interval=7).truth(3)
