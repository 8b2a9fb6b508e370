"""What TDNet's sub-networks begin with, and PSPNet-101, from which they learn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gsvnet.classes import CITYSCAPES
from gsvnet.errors import ModelError
from gsvnet.models.bisenetv1 import BiSeNetV1
from gsvnet.models.pspnet101 import PSPNet101, order_of_groups
from gsvnet.models.pspnet_trunk import PSPTrunk18
from gsvnet.models.segmenter import SizeRule
from gsvnet.models.spec import NUM_SUB_NETWORKS, TRUNKS, ModelSpec, NormaliseSpec, build_model
from gsvnet.models.sub_network import SubNetwork
from gsvnet.models.trunk import Trunk
from gsvnet.nn.resnet import initialise_for_training
from gsvnet.nn.resnet_bottleneck import RESNET50, RESNET101, Bottleneck, BottleneckBackbone
from tests.models.live_bytes import LiveBytes

PUBLISHED_SIZE = 769, 1537


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def gmacs(run) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2e9


@pytest.fixture(scope="module", params=TRUNKS)
def trunk(request) -> Trunk:
    torch.manual_seed(0)
    return TRUNKS[request.param](turn=1).eval()


@torch.no_grad()
def test_features_have_the_stated_size(trunk):
    for size in ((32, 48), (33, 65)):
        feature, middle = trunk.extract_with_middle(torch.rand(2, 3, *size))
        assert feature.shape == (2, trunk.feature_channels, *trunk.feature_size(*size))
        assert middle.shape[:2] == (2, trunk.middle_channels)


def test_a_head_labels_each_place(trunk):
    head = trunk.build_head(5).eval()
    assert head(torch.rand(1, trunk.value_channels, 3, 4)).shape == (1, 5, 3, 4)


def test_no_weight_is_idle(trunk):
    with torch.device("meta"):
        trunk = type(trunk)(turn=0).train()
        trunk.extract(torch.rand(2, 3, 96, 96)).mean().backward()
    assert [name for name, p in trunk.named_parameters() if p.grad is None] == []


def test_turns_alternate_between_the_halves_of_the_pyramid():
    first, last = (PSPTrunk18(turn=turn).eval() for turn in (0, 3))
    last.load_state_dict(first.state_dict())
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        halves = [trunk.extract(image)[:, :256] for trunk in (first, last)]
        assert torch.equal(torch.cat(halves, dim=1), first.backbone(image)[3])
    with torch.device("meta"):
        assert [PSPTrunk18(turn=turn).own_half for turn in range(4)] == [0, 1, 0, 1]


def test_the_trunk_of_bisenet_is_bisenet_up_to_its_head():
    trunk, network = TRUNKS["bisenetv1"](turn=0).eval(), BiSeNetV1(num_classes=3).eval()
    trunk.load_state_dict({name: x for name, x in network.state_dict().items() if not name.startswith("head.")})
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(network.head(trunk.extract(image)), network(image))


def test_sizes():
    with torch.device("meta"):
        trunks = {name: parameters(kind(turn=0)) for name, kind in TRUNKS.items()}
        heads = {name: parameters(kind(turn=0).build_head(19)) for name, kind in TRUNKS.items()}
        teacher = parameters(PSPNet101(num_classes=19))
    assert trunks == {"pspnet18": 11_308_096, "pspnet50": 25_731_008, "fanet18": 12_484_928, "bisenetv1": 12_680_320}
    assert heads == {"pspnet18": 592_531, "pspnet50": 1_185_043, "fanet18": 595_200, "bisenetv1": 595_219}
    assert teacher == 65_707_475  # published: 67.756 million with an ImageNet classifier of 2,049,000


def test_sizes_of_whole_networks():
    """Without and with maps of the norms: of each sub-network a weight and a bias for each place."""
    plain = NormaliseSpec(mean=(0, 0, 0), std=(1, 1, 1))
    spec = ModelSpec(family="td4-bisenetv1", classes=CITYSCAPES, normalise=plain, size_rule=SizeRule())
    sizes = {}
    with torch.device("meta"):
        for family, count in NUM_SUB_NETWORKS.items():
            maps = {"map_rows": 46, "map_columns": 60}
            model = build_model(replace(spec, family=family, propagation=maps))
            sizes[family] = parameters(model) - 2 * count * 46 * 60
    assert sizes == {
        "td4-pspnet18": 52_101_964,
        "td2-pspnet50": 56_997_286,
        "td2-fanet18": 26_506_368,
        "td4-bisenetv1": 54_320_716,
    }
    assert parameters(model) == 54_342_796


def test_dilations_of_the_last_stages_are_those_of_the_paper():
    with torch.device("meta"):
        backbone = BottleneckBackbone(blocks=RESNET50)
    dilations = [[block.conv2.dilation[0] for block in getattr(backbone, f"layer{i}")] for i in (1, 2, 3, 4)]
    assert dilations == [[1, 1, 1], [1, 1, 1, 1], [1, 2, 2, 2, 2, 2], [4, 8, 16]]


def test_residual_branches_of_three_convolutions_start_silent():
    block = Bottleneck(8, 4)
    initialise_for_training(block)
    assert block.bn3.weight.count_nonzero() == 0
    assert block.bn2.weight.min() == 1


@pytest.mark.parametrize(
    ("name", "backbone", "current", "memory", "head", "steady"),
    [("pspnet18", 219.86, 5.60, 0.41, 11.09, 257.45), ("pspnet50", 487.36, 22.16, 1.62, 22.18, 551.48)],
)
def test_a_frame_costs_what_the_authors_networks_cost(name, backbone, current, memory, head, steady):
    """At 769x1537, in the parts that were counted of theirs, and in all with what they do and we spare."""
    with torch.device("meta"):
        kind = TRUNKS[name]
        count = {"pspnet18": 4, "pspnet50": 2}[name]
        sub = SubNetwork(kind(turn=0), num_classes=len(CITYSCAPES), num_sub_networks=count, map_size=(97, 193)).eval()
        image = torch.empty(1, 3, *PUBLISHED_SIZE)
        feature = sub.trunk.extract(image)
        value = sub.value(feature)
        parts = (
            gmacs(lambda: sub.trunk.backbone(image)),
            gmacs(lambda: (sub.query(feature), sub.value(feature))),
            gmacs(lambda: sub.remember(feature, stride=4)),
            gmacs(lambda: sub.head(value)),
        )
        pyramid = 2 * gmacs(lambda: sub.trunk.extract(image)) - 2 * parts[0]  # theirs computes both halves
    assert parts == pytest.approx((backbone, current, memory, head), abs=0.006)
    asking, keys, hops = 97 * 193, 25 * 49, count - 2  # places; hops among memories, before the last one
    attention = (asking + hops * keys) * keys * (64 + 512) / 1e9
    theirs_after_it = (asking + hops * keys) * 512 * 512 / 1e9
    assert sum(parts) + pyramid + attention + theirs_after_it == pytest.approx(steady, abs=0.006)


def test_the_teacher_costs_what_the_authors_teacher_costs():
    with torch.device("meta"):
        network, image = PSPNet101(num_classes=19).eval(), torch.empty(1, 3, *PUBLISHED_SIZE)
    assert gmacs(lambda: network(image)) == pytest.approx(1195.5, abs=0.06)


@pytest.fixture(scope="module")
def teacher() -> PSPNet101:
    torch.manual_seed(0)
    return PSPNet101(num_classes=3).eval()


@torch.no_grad()
def activations(network: PSPNet101, run) -> list[torch.Tensor]:
    """What the head's norm is given while `run` runs."""
    given = []
    hook = network.head[0].bn.register_forward_pre_hook(lambda module, x: given.append(x[0]))
    run()
    hook.remove()
    return given


def test_a_teachers_groups_sum_to_the_whole(teacher):
    image = torch.rand(1, 3, 17, 25)
    (whole,) = activations(teacher, lambda: teacher(image))
    sums = {}
    for count, weight in ((2, 1), (4, 4)):
        first, *groups = activations(teacher, partial(teacher.segment_groups, image, count))
        sums[count] = [group / weight for group in groups]
        torch.testing.assert_close(first, whole)
        torch.testing.assert_close(torch.stack(sums[count]).sum(0), whole)
    for half in (0, 1):  # of two sub-networks the one sees what the first and the third of four see together
        torch.testing.assert_close(sums[4][half] + sums[4][half + 2], sums[2][half])


def test_groups_are_ordered_by_turn():
    assert order_of_groups(2) == [0, 1]
    assert order_of_groups(4) == [0, 2, 1, 3]
    with pytest.raises(ModelError, match="3 groups of channels; allowed: 2, 4"):
        order_of_groups(3)


@pytest.mark.slow
@torch.inference_mode()
def test_memory_is_as_stated(trunk):
    """What is stated holds the convolutions' own scratch too, which cannot be seen here."""
    height, width = 256, 320
    with LiveBytes() as live:
        trunk.extract(torch.rand(1, 3, height, width))
    assert live.peak <= trunk.bytes_per_pixel * height * width <= 2 * live.peak


def test_a_deeper_backbone_has_the_published_blocks():
    with torch.device("meta"):
        backbone = BottleneckBackbone(blocks=RESNET101)
    assert [len(getattr(backbone, f"layer{i}")) for i in (1, 2, 3, 4)] == [3, 4, 23, 3]
