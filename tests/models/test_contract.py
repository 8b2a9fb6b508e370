"""Networks that break their promises, each in one way; a sound one beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gsvnet.classes import ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_default
from gsvnet.models.contract import check_on_sample, check_outputs, draw_sample, runs_in_threads, says_the_same
from gsvnet.models.prepared import prepare_for_inference
from gsvnet.models.segmenter import Normalise, PerFrame


class Sound(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, num_classes, 1)

    def forward(self, x):
        return self.conv(x)


class Probable(Sound):
    def forward(self, x):
        return super().forward(x).softmax(dim=1)


class Hard(Sound):
    def forward(self, x):
        return super().forward(x) > 0


class Broken(Sound):
    def forward(self, x):
        return super().forward(x) / 0


class Random(Sound):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5)


class Remembering(Sound):
    last = 0.0

    def forward(self, x):
        now = super().forward(x)
        seen, self.last = now + self.last, now.mean()
        return seen


class Handing(Sound):
    """Hands features on in itself, as some U-Nets do; says the same of the same frame where it runs alone."""

    def forward(self, x):
        self.skip = x
        return super().forward(x) + self.skip.mean()


class Listing(Sound):
    def __init__(self):
        super().__init__()
        self.skips = [None]

    def forward(self, x):
        self.skips[0] = x
        return super().forward(x)


class Hooked(Sound):
    def __init__(self):
        super().__init__()
        self.conv.register_forward_hook(lambda *_: None)


class Doubling(Sound):
    def forward(self, x):
        return super().forward(torch.cat([x, x]))


@pytest.fixture
def per_frame():
    def make(net, num_classes=3):
        names = tuple("abcdefg"[:num_classes])
        classes = ClassSet(name="some", names=names, colours=((0, 0, 0),) * num_classes)
        normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
        return PerFrame(net, classes=classes, normalise=normalise).eval()

    return make


@pytest.mark.parametrize(
    ("net", "complaint"),
    [
        (Probable, "Probable gives probabilities"),
        (Hard, "Hard gives torch.bool; logits are floating-point numbers"),
        (Broken, "Broken gives NaN or infinity"),
        (Random, "Random says something else of the same frame when it is asked again"),
        (Remembering, "Remembering says something else"),
        (lambda: Sound(4), "Sound gives logits of 4 classes, and names 3"),
    ],
)
def test_what_labels_cannot_be_drawn_from_is_refused(per_frame, net, complaint):
    with pytest.raises(ModelError, match=complaint):
        prepare_for_inference(per_frame(net()), device="cpu", precision="fp32")


def test_one_class_alone_is_refused(per_frame):
    with pytest.raises(ModelError, match="2 classes or more"):
        check_on_sample(per_frame(Sound(1), num_classes=1))


@pytest.mark.parametrize("net", [Sound, Handing, Hooked])
def test_sound_networks_pass(per_frame, net):
    prepare_for_inference(per_frame(net()), device="cpu", precision="fp32")


def test_a_network_that_refuses_the_sample_is_not_judged(per_frame):
    check_on_sample(per_frame(nn.Sequential(Sound(), nn.Linear(7, 7))))


@pytest.mark.parametrize(
    ("net", "may"), [(Sound, True), (Handing, False), (Listing, False), (Remembering, False), (Hooked, False)]
)
def test_only_a_network_that_keeps_nothing_runs_in_threads(per_frame, net, may):
    assert runs_in_threads(per_frame(net())) is may


def test_the_projects_own_networks_run_in_threads():
    assert runs_in_threads(load_default())


def test_other_images_than_were_asked_for_are_refused(per_frame):
    model = per_frame(Doubling())
    with pytest.raises(ModelError, match="Doubling gave logits of 4 images for 2"):
        list(model.segment(draw_sample(model)))


def spoil(outputs, how):
    """Outputs of a sound network, spoiled."""
    output = outputs[0]
    match how:
        case "twice":
            return [*outputs, output]
        case "one less":
            return [replace(output, chunk=output.chunk[:1], position=output.position[:1], logits=output.logits[:1])]
        case "more logits":
            return [replace(output, logits=torch.cat([output.logits, output.logits]))]
        case "of a lost frame":
            return [replace(output, position=output.position + 1)]
        case _:
            return outputs


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("twice", "logits of a frame twice"),
        ("one less", "no logits of 1 of 2 frames"),
        ("more logits", "logits of 4 frames for 2 places"),
        ("of a lost frame", "labels of a frame that is lost, or not there"),
    ],
)
def test_outputs_of_other_frames_than_the_valid_ones_are_refused(per_frame, how, complaint):
    model = per_frame(Sound())
    sample = draw_sample(model)
    outputs = list(model.segment(sample))
    assert len(list(check_outputs(sample, iter(outputs)))) == len(outputs)
    with pytest.raises(ModelError, match=complaint):
        list(check_outputs(sample, iter(spoil(outputs, how))))


def test_a_class_that_is_ruled_out_does_not_hide_what_differs():
    logits = torch.zeros(1, 3, 1, 2)
    logits[:, 2] = -1e9
    assert says_the_same(logits + 1e-6, logits + 1e-6)
    assert not says_the_same(logits + 1, logits)
