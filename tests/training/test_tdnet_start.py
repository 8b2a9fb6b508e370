"""Where TDNet's training starts: as good as the network that it starts from, and gathering a little."""

import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models import spec
from gsvnet.models.bisenet import BiSeNet, Head
from gsvnet.models.bisenetv1 import BiSeNetV1
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.segmenter import PerFrame
from gsvnet.models.split import SplitNetwork
from gsvnet.training import tdnet_start
from gsvnet.training.tdnet_loss import label_both, look
from gsvnet.training.tdnet_start import start_gathering, start_tdnet
from tests.tiny_tdnet import CHANNELS, TinyTrunk

SIZE = (24, 32)


class Trunk(TinyTrunk):
    def build_head(self, num_classes):
        return Head(CHANNELS, CHANNELS, num_classes=num_classes)


class Network(SplitNetwork):
    """The image network of that trunk and that head."""

    feature_channels, bytes_per_pixel, classifiers = CHANNELS, 36, ("head.conv_1x1",)

    def __init__(self, *, num_classes):
        super().__init__()
        self.features, self.head = Trunk().features, Trunk().build_head(num_classes)

    feature_size = staticmethod(Trunk.feature_size)

    def extract(self, image):
        return self.head.conv_3x3(self.features(image))

    def classify(self, features):
        return self.head.conv_1x1(features)

    def drop_auxiliary_heads(self):
        pass


@pytest.fixture
def image(monkeypatch, normalise) -> PerFrame:
    """What checkpoints of this test call bisenetv1."""
    for networks in (spec.SPLIT_NETWORKS, spec.KEYFRAME_NETWORKS, spec._KINDS):
        monkeypatch.setitem(networks, "bisenetv1", Network)
    monkeypatch.setitem(spec.TRUNKS, "bisenetv1", Trunk)
    torch.manual_seed(3)
    return PerFrame(Network(num_classes=11), classes=CAMVID, normalise=normalise, align_corners=False).eval()


@pytest.fixture
def images():
    """Runs (4, 4, 3, 24, 32) of slowly changing blobs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 6, 8, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3) * 200
    return (coarse[:, None] + 5 * torch.rand(4, 4, 3, 24, 32, generator=generator)).to(torch.uint8)


@pytest.fixture
def started(image, images):
    model = start_tdnet(image, num_sub_networks=4, size=SIZE)
    start_gathering(model, images.flatten(0, 1))
    return model


@torch.no_grad()
def test_at_first_labels_are_those_of_the_network_mostly(image, images, started):
    own = image.net(image.normalise(images[0, -1:])).argmax(1)
    full, alone = (logits.argmax(1) for logits in label_both(started, look(started, images), 0, slice(0, 1)))
    assert (alone == own).float().mean() > 0.9
    assert (full == own).float().mean() > 0.9
    assert (full == alone).float().mean() > 0.9


@torch.no_grad()
def test_a_place_scores_with_itself_far_above_others(started, images):
    feature = started.sub(2).trunk.extract(started.normalise(images.flatten(0, 1)))
    asked, kept = (started.sub(turn).remember(feature, stride=started.memory_stride) for turn in (2, 0))
    query, key = (x.movedim(1, -1).flatten(0, -2) for x in (asked.query, kept.key))
    scores = query @ key.T / 8
    assert scores.diagonal().mean().item() == pytest.approx(tdnet_start._SELF_SCORE, rel=0.1)
    assert abs(scores.mean().item()) < 1


def test_features_that_are_alike_are_carried_as_they_are(started):
    identity = torch.eye(CHANNELS)
    for hop, factor in zip(started.sub(1).hops, (0.5, 0.5, 0.1)):
        assert torch.equal(hop.weight[..., 0, 0], factor * identity)
    assert torch.equal(started.sub(1).value.weight[..., 0, 0], identity)


@torch.no_grad()
def test_features_that_differ_are_carried_by_what_one_tells_of_the_other(image, images):
    model = start_tdnet(image, num_sub_networks=4, size=SIZE)
    first = model.sub(1).trunk.features[0]
    assert isinstance(first, nn.Conv2d)
    for x in (first.weight, first.bias):
        x.copy_(x.roll(1, 0))  # the same feature in another order of channels
    start_gathering(model, images.flatten(0, 1))
    shifted = 0.1 * torch.eye(CHANNELS).roll(1, 0)  # the last hop of sub-network 1 carries what 0 has to 1
    feature = model.sub(0).trunk.extract(model.normalise(images[:, 0]))
    got = model.sub(1).hops[-1](feature)
    torch.testing.assert_close(got, torch.einsum("kc,nchw->nkhw", shifted, feature), rtol=0.05, atol=0.005)


def test_the_maps_of_the_norms_have_the_features_size(started):
    assert tuple(started.sub(0).norm.weight.shape) == (6, 8)


def test_a_bisenetv1_starts_with_its_own_weights(normalise):
    net = BiSeNetV1(num_classes=11)
    model = start_tdnet(PerFrame(net, classes=CAMVID, normalise=normalise), num_sub_networks=4, size=(64, 96))
    state = net.state_dict()
    for turn in (0, 3):
        sub = model.sub(turn)
        assert all(torch.equal(x, state[name]) for name, x in sub.trunk.state_dict().items())
        assert all(torch.equal(x, state[f"head.{name}"]) for name, x in sub.head.state_dict().items())


def test_of_a_pspnet_each_sub_network_has_half_of_the_pyramid(normalise):
    net = PSPNet18(num_classes=11)
    model = start_tdnet(PerFrame(net, classes=CAMVID, normalise=normalise), num_sub_networks=4, size=(64, 96))
    whole = net.pyramid.stages[1][1].conv.weight
    assert torch.equal(model.sub(2).trunk.pyramid.stages[1][1].conv.weight, whole[:64])
    assert torch.equal(model.sub(3).trunk.pyramid.stages[1][1].conv.weight, whole[64:])
    assert torch.equal(model.sub(3).trunk.backbone.conv1.weight, net.backbone.conv1.weight)


@pytest.mark.parametrize(("kind", "count", "name"), [(BiSeNet, 4, "bisenet"), (BiSeNetV1, 3, "bisenetv1")])
def test_what_no_family_has_is_refused(normalise, kind, count, name):
    image = PerFrame(kind(num_classes=11), classes=CAMVID, normalise=normalise)
    with pytest.raises(ModelError, match=f"does not start with {count} sub-networks from {name}"):
        start_tdnet(image, num_sub_networks=count, size=SIZE)
