import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gsvnet.classes import ClassSet
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.training.clips import Clip
from gsvnet.training.flow_colours import colour_flow, draw_flow_key
from gsvnet.training.pictures import (
    describe_score,
    draw_clips,
    draw_stills,
    label_stills,
    mark_differences,
    pick_clips,
    pick_stills,
    propagate_clip,
    share_wrong,
)
from gsvnet.training.stills import Stills

COLOURS = ClassSet(
    name="colours", names=("red", "green", "blue"), colours=((200, 40, 40), (40, 200, 40), (40, 40, 200))
)
RED, WHITE = [255, 0, 0], [255, 255, 255]


@pytest.fixture
def per_frame(normalise):
    """Labels a pixel by its strongest colour."""
    return PerFrame(nn.Identity(), classes=COLOURS, normalise=normalise, align_corners=False).eval()


@pytest.fixture
def gsvnet(normalise):
    torch.manual_seed(0)
    return GSVNet(
        nn.Identity(),
        Propagation(num_classes=3),
        classes=COLOURS,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(),
        align_corners=False,
    ).eval()


@pytest.fixture
def clip():
    """Three frames of 12 x 16 with logits; targets twice as large."""
    generator = torch.Generator().manual_seed(0)
    return Clip(
        keyframe_logits=torch.randn(3, 12, 16, generator=generator),
        frames=torch.rand(3, 3, 12, 16, generator=generator) * 255,
        targets=torch.randint(0, 3, (3, 24, 32), generator=generator, dtype=torch.uint8),
    )


class OneClip:
    def __init__(self, clip):
        self.clip, self.asked = clip, []

    def draw(self, num_frames, generator):
        self.asked.append((num_frames, float(generator.random())))
        return self.clip


def size_of(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def test_samples_are_spread_from_first_to_last():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 2, 2)
    stills = Stills(images=images, labels=images[:, 0])
    assert pick_stills(stills).images[:, 0, 0, 0].tolist() == [0, 3, 6, 9]
    assert pick_stills(pick_stills(stills, 2)).labels[:, 0, 0].tolist() == [0, 9]


def test_stills_are_labeled_as_labeling_would(per_frame, tiny_stills):
    labels = label_stills(per_frame.net, tiny_stills.images, model=per_frame)
    truth = tiny_stills.labels.numpy()
    assert labels.shape == truth.shape
    assert [share_wrong(t, y) for t, y in zip(truth, labels)] == [0, 0, 0, 0]


def test_stills_are_read_at_the_size_of_the_network(normalise):
    sizes = []
    net = nn.Conv2d(3, 3, 1)
    net.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape)))
    model = PerFrame(net, classes=COLOURS, normalise=normalise, size_rule=SizeRule(rows=12))
    assert label_stills(net, torch.zeros(2, 3, 24, 32, dtype=torch.uint8), model=model).shape == (2, 24, 32)
    assert sizes == [(1, 3, 12, 16), (1, 3, 12, 16)]


def test_differences_are_red_and_ignored_pixels_black():
    image = np.full((1, 3, 3), 255, np.uint8)
    marked = mark_differences(image, np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 0]], np.uint8))
    assert marked[0].tolist() == [[255, 255, 255], [220, 30, 30], [0, 0, 0]]


def test_only_pixels_with_truth_count():
    truth, labels = np.array([0, 1, 1, 255], np.uint8), np.array([0, 0, 1, 1], np.uint8)
    assert share_wrong(truth, labels) == pytest.approx(1 / 3)
    assert describe_score(truth, labels, 3) == "mIoU 50.0 %"
    nothing = np.full(4, 255, np.uint8)
    assert share_wrong(nothing, labels) == 0
    assert describe_score(nothing, labels, 3) == "no truth"


def test_flow_has_its_direction_as_hue_and_its_length_as_strength():
    flow = np.zeros((2, 1, 4))
    flow[0, 0] = [0, 2, 8, -2]
    assert colour_flow(flow, 2.0)[0].tolist() == [WHITE, RED, RED, [0, 255, 255]]


def test_the_key_of_flow_shows_at_each_place_the_colour_that_points_there():
    key = draw_flow_key((100, 200))
    assert key[0, 0].tolist() == key[50, 10].tolist() == WHITE
    right, down = key[50, 143], key[93, 100]
    assert np.abs(right - np.array(RED)).max() < 15
    assert np.abs(down - colour_flow(np.array([0.0, 1.0]).reshape(2, 1, 1), 1.0)[0, 0].astype(int)).max() < 15


@torch.no_grad()
def test_a_clip_is_propagated_step_by_step_from_the_given_logits(gsvnet, clip):
    labels, flow = propagate_clip(gsvnet.propagation, clip, model=gsvnet)
    assert labels.shape == (3, 24, 32)
    keyframe = nn.functional.interpolate(clip.keyframe_logits[None], (24, 32), mode="bilinear").argmax(1)[0]
    assert (labels[0] == keyframe.numpy()).all()
    frames = gsvnet.frame_normalise(clip.frames)
    expected = gsvnet.propagation.estimate_flow(frames[2:], frames[1:2])
    assert np.allclose(flow[1], expected[0].numpy(), atol=1e-5)


def test_clips_are_always_the_same_and_say_whose_labels_they_have(clip):
    sources = {name: OneClip(clip) for name in ("drawn street", "video")}
    first, again = pick_clips(sources, 3), pick_clips(sources, 3)
    assert [(s.name, s.targets_are) for s in first] == [("drawn street", "truth"), ("video", "keyframe network")]
    assert len(again) == 2
    assert all(len(set(source.asked)) == 1 for source in sources.values())


def test_each_still_is_a_row_and_each_clip_a_block(per_frame, gsvnet, tiny_stills, clip, tmp_path):
    path = tmp_path / "validation.png"
    draw_stills(per_frame.net, path, "k", stills=pick_stills(tiny_stills, 1), model=per_frame)
    one_row = size_of(path)
    samples = pick_clips({"video": OneClip(clip)}, 3)
    draw_clips(gsvnet.propagation, path, "p", samples=samples, model=gsvnet)
    four_rows = size_of(path)
    assert four_rows[0] < one_row[0]
    assert four_rows[1] > 2.5 * one_row[1]
    assert [p.name for p in tmp_path.iterdir()] == ["validation.png"]


def test_what_is_looked_at_stays_as_it_was(gsvnet, clip):
    before = {name: tensor.clone() for name, tensor in gsvnet.state_dict().items()}
    state = torch.get_rng_state()
    propagate_clip(gsvnet.propagation, clip, model=gsvnet)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in gsvnet.state_dict().items())
