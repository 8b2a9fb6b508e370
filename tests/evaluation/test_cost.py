from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.errors import ConfigError
from gsvnet.evaluation.cost import Cost, measure_cost
from gsvnet.evaluation.variants import vary_propagation
from gsvnet.models.arseg import ARSeg
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch, Normalise, PerFrame, SizeRule
from gsvnet.models.spec import build_model
from gsvnet.models.transfer import with_references
from tests.tiny_tdnet import CHANNELS, build_tdnet

H, W = 16, 24


def per_frame(net: nn.Module) -> PerFrame:
    return PerFrame(net, classes=CAMVID, normalise=Normalise(mean=(0.5,) * 3, std=(0.2,) * 3))


def macs_of(net: nn.Module) -> int:
    return measure_cost(per_frame(net), height=H, width=W, keyframe_interval=1).keyframe_macs


@pytest.fixture(scope="module")
def published() -> Cost:
    return measure_cost(build_model(PUBLISHED["gsvnet-swiftnet"]), height=1024, width=2048, keyframe_interval=4)


def test_bytes_of_the_published_networks_are_the_papers(published):
    assert published.keyframe_parameters_bytes == 4 * 11_797_071
    assert published.keyframe_parameters_bytes / 1e6 == pytest.approx(47.19, rel=0.01)
    assert published.propagation_parameters_bytes / 1e6 == pytest.approx(1.59, rel=0.01)


def test_macs_of_the_published_networks_are_the_papers(published):
    assert (published.keyframe_size, published.grid) == ((768, 1536), (128, 256))
    assert published.keyframe_macs / 1e9 == pytest.approx(58.26, rel=0.01)
    assert published.frame_macs / 1e9 == pytest.approx(2.70, rel=0.01)
    assert published.published_frame_macs / 1e9 == pytest.approx(2.75, rel=0.01)
    assert published.average_macs / 1e9 == pytest.approx(16.6, rel=0.01)
    assert published.published_average_macs / 1e9 == pytest.approx(16.6, rel=0.01)


def test_the_shift_convolution_counts_as_torch_counts_it(published):
    from torch.utils.flop_counter import FlopCounterMode

    shift = nn.Conv3d(1, 9, 3, padding=1, bias=False)
    shift.weight = nn.Parameter(shift.weight[:, :, :1])
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.conv3d(torch.empty(1, 1, 19, 128, 256), shift.weight, padding=(0, 1, 1))
    assert published.published_extra_macs == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("variant", "gmacs", "published_gmacs"), [("full", 2.70, 2.75), ("flow", 0.390, 0.390), ("filter", 2.312, 2.362)]
)
def test_parts_of_the_propagation_cost_what_the_authors_code_does(variant, gmacs, published_gmacs):
    model = build_model(PUBLISHED["gsvnet-swiftnet"])
    model.keyframe_network = nn.Conv2d(3, 19, 1)
    cost = measure_cost(vary_propagation(model, variant), height=1024, width=2048, keyframe_interval=4)
    assert cost.frame_macs / 1e9 == pytest.approx(gmacs, rel=0.002)
    assert cost.published_frame_macs / 1e9 == pytest.approx(published_gmacs, rel=0.002)


@pytest.mark.parametrize(
    ("net", "macs"),
    [
        (nn.Conv2d(3, 12, 3, padding=1), 3 * 12 * 9 * H * W),
        (nn.Conv2d(3, 12, 3, padding=1, groups=3), 12 * 9 * H * W),
        (nn.Conv2d(3, 12, 3, padding=2, dilation=2), 3 * 12 * 9 * H * W),
        (nn.Conv2d(3, 12, 3, padding=1, stride=2), 3 * 12 * 9 * H * W // 4),
        (nn.ConvTranspose2d(3, 12, 2, stride=2), 3 * 12 * 4 * H * W),
        (nn.ConvTranspose2d(3, 12, 2, stride=2, groups=3), 12 * 4 * H * W),
        (nn.Linear(W, 7), 3 * W * 7 * H),
    ],
    ids=["plain", "grouped", "dilated", "strided", "transposed", "transposed and grouped", "linear"],
)
def test_every_kind_of_layer_counts_what_it_multiplies(net, macs):
    assert macs_of(net) == macs


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_counts_both_of_its_products():
    assert macs_of(Attention()) == 2 * 3 * H * H * W


def camvid_arseg(family: str) -> ARSeg:
    """Of AR-Seg's authors for CamVid: 12 classes, void among them, read at the size of the video."""
    classes = ClassSet(name="camvid with void", names=(*CAMVID.names, "void"), colours=(*CAMVID.colours, (0, 0, 0)))
    model = build_model(replace(PUBLISHED[family], classes=classes, size_rule=SizeRule()))
    assert isinstance(model, ARSeg)
    return model


@pytest.fixture(scope="module")
def bisenet() -> Cost:
    return measure_cost(camvid_arseg("arseg-bisenetv1"), height=720, width=960, keyframe_interval=12)


def test_macs_of_arseg_over_bisenet_are_the_authors_without_heads_for_training(bisenet):
    conv_3x3, conv_1x1 = 128 * 64 * 9, 64 * 12
    heads = (conv_3x3 + conv_1x1) * (90 * 120 + 45 * 60)
    assert (bisenet.keyframe_macs + heads) / 1e9 == pytest.approx(40.12, rel=0.002)
    heads = (conv_3x3 + conv_1x1) * (46 * 60 + 23 * 30)
    assert (bisenet.frame_macs + heads) / 1e9 == pytest.approx(10.56, rel=0.002)
    assert 100 * bisenet.per_frame_share == pytest.approx(32.5, abs=0.1)


def test_local_attention_counts_its_windows_and_our_tiles_beside_them(bisenet):
    pixels, channels = 90 * 120, 256
    tiles = 23 * 30 * 4 * 4 * 10 * 10  # each of 4 x 4 queries that ask 10 x 10 keys
    assert bisenet.tile_macs == 2 * channels * (tiles - 49 * pixels)
    assert bisenet.computed_frame_macs == bisenet.frame_macs + bisenet.tile_macs
    fusion = 3 * 9 * channels * pixels + 2 * 49 * channels * pixels
    alone = vary_propagation(camvid_arseg("arseg-bisenetv1"), "alone")
    without = measure_cost(alone, height=720, width=960, keyframe_interval=12).frame_macs
    classifier = 256 * 12 * (90 * 120 - 46 * 60)  # on the finer grid
    assert bisenet.frame_macs == without + fusion + classifier


def test_macs_of_arseg_over_pspnet_are_the_authors():
    height, width = 384, 512
    cost = measure_cost(camvid_arseg("arseg-pspnet18up"), height=height, width=width, keyframe_interval=12)
    enlarged = 720 * 960 / (height * width) / 1e9
    assert cost.keyframe_macs * enlarged == pytest.approx(308.64, rel=0.002)
    assert cost.frame_macs * enlarged == pytest.approx(83.10, rel=0.002)
    assert cost.average_macs * enlarged == pytest.approx(101.89, rel=0.002)
    assert 100 * cost.per_frame_share == pytest.approx(33.0, abs=0.1)


def test_parameters_of_arseg_are_of_two_networks_and_the_fusion(bisenet):
    network, read = bisenet.keyframe_parameters_bytes, json.loads(json.dumps(bisenet.to_dict()))
    assert read["parameters_bytes"] == {"keyframe_network": network, "propagation": network + 4 * 7680, "fusion": 30720}


def test_the_keyframe_after_a_chunk_is_not_counted_in_it(bisenet):
    costs = {
        wanted: measure_cost(
            with_references(camvid_arseg("arseg-bisenetv1"), wanted), height=720, width=960, keyframe_interval=12
        )
        for wanted in ("nearest", "both")
    }
    assert {cost.keyframe_macs for cost in costs.values()} == {bisenet.keyframe_macs}
    assert {cost.per_frame_share for cost in costs.values()} == {bisenet.per_frame_share}


def test_without_propagation_every_frame_costs_a_keyframe():
    cost = measure_cost(per_frame(nn.Conv2d(3, 11, 1)), height=H, width=W, keyframe_interval=3)
    assert cost.frame_macs == cost.average_macs == cost.published_frame_macs == cost.keyframe_macs == 33 * H * W
    assert (cost.grid, cost.propagation_parameters_bytes) == (None, 0)


@pytest.mark.parametrize("family", ["gsvnet-swiftnet", "gsvnet-bisenet"])
def test_counting_leaves_the_model_as_it_was(family):
    model = build_model(PUBLISHED[family]).train()  # batch norms would move, and refuse single values
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_cost(model, height=64, width=96, keyframe_interval=2)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_cost_is_readable_as_json(published):
    read = json.loads(json.dumps(published.to_dict()))
    assert read["parameters_bytes"] == {"keyframe_network": 47_188_284, "propagation": 1_585_624}
    assert (read["size"], read["keyframe_size"]) == ([1024, 2048], [768, 1536])
    assert read["average_macs"] == (read["keyframe_macs"] + 3 * read["frame_macs"]) / 4


@pytest.mark.parametrize("wrong", ["height", "width", "keyframe_interval"])
def test_sizes_and_intervals_below_one_are_refused(wrong):
    arguments = {"height": H, "width": W, "keyframe_interval": 1, wrong: 0}
    with pytest.raises(ConfigError, match=f"{wrong.replace('_', ' ')} 0"):
        measure_cost(per_frame(nn.Conv2d(3, 11, 1)), **arguments)


class LooksBack(nn.Module):
    """A frame and the three before it, each through the network once."""

    classes = CITYSCAPES

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 19, 1)

    def needs(self, height: int, width: int) -> FrameNeeds:
        return FrameNeeds(keyframe_size=(height, width), before=3)

    def segment(self, chunks):
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        images = chunks.keyframes if chunks.frames is None else chunks.frames[chunk, position]
        self.net(chunks.before.float())
        yield LogitsBatch(chunk=chunk, position=position, logits=self.net(images.float()))


@pytest.mark.parametrize("interval", [1, 3])
def test_frames_around_a_batch_are_not_counted(interval):
    cost = measure_cost(LooksBack(), height=H, width=W, keyframe_interval=interval)
    assert cost.keyframe_macs == cost.frame_macs == cost.average_macs == 3 * 19 * H * W


# --- TDNet ---


@pytest.mark.slow
@pytest.mark.parametrize(("family", "gmacs"), [("td4-pspnet18", 257.45), ("td2-pspnet50", 551.48)])
def test_macs_of_tdnet_are_the_authors(family, gmacs):
    """Theirs of TD2 contain the half of each pyramid level that they compute and throw away, 0.03."""
    cost = measure_cost(build_model(PUBLISHED[family]), height=769, width=1537, keyframe_interval=1)
    assert cost.published_frame_macs / 1e9 == pytest.approx(gmacs, abs=0.04)
    assert cost.published_average_macs == cost.published_frame_macs
    assert cost.average_macs == cost.frame_macs == cost.keyframe_macs


def tiny_cost(references="before", ensemble="none", **options) -> Cost:
    return measure_cost(build_tdnet(references, ensemble), height=48, width=64, keyframe_interval=2, **options)


PLACES, REMEMBERED = 12 * 16, 4 * 6  # of a tiny TDNet's feature and of its memories
HOP = CHANNELS * CHANNELS


def test_a_frame_of_tdnet_costs_its_sub_network_its_memory_and_the_hops_to_it():
    trunk = 3 * 25 * CHANNELS * PLACES
    key, value, head = CHANNELS * 64 + 64 * 64, CHANNELS * CHANNELS, CHANNELS * len(CAMVID)
    alone = trunk + (value + head + key) * PLACES
    memory = (2 * key + value) * REMEMBERED
    attention = (64 + CHANNELS) * REMEMBERED * (REMEMBERED + PLACES)
    assert tiny_cost("none").frame_macs == alone
    assert tiny_cost().frame_macs == alone + memory + attention + 2 * HOP * REMEMBERED
    assert tiny_cost("both").frame_macs == alone + memory + 2 * (attention + 2 * HOP * REMEMBERED)


def test_the_authors_hop_is_over_all_places_of_the_frame():
    cost = tiny_cost()
    assert cost.published_frame_macs - cost.frame_macs == HOP * (PLACES - REMEMBERED)
    assert cost.published_average_macs - cost.average_macs == HOP * (PLACES - REMEMBERED)
    assert tiny_cost("none").published_average_macs == tiny_cost("none").average_macs


def test_all_sub_networks_cost_as_many_times_as_much_on_the_frames_that_they_label():
    none, some, every = (tiny_cost("none", ensemble) for ensemble in ("none", "keyframes", "all"))
    assert some.frame_macs == none.frame_macs
    assert some.keyframe_macs == every.keyframe_macs == every.frame_macs == 3 * none.frame_macs
    assert some.average_macs == 2 * none.average_macs


def test_all_parameters_of_tdnet_are_for_every_frame():
    cost = tiny_cost()
    assert cost.keyframe_parameters_bytes == 4 * sum(p.numel() for p in build_tdnet().parameters())
    assert cost.propagation_parameters_bytes == 0


def test_counting_leaves_tdnet_as_it_was():
    model = build_tdnet().train()
    measure_cost(model, height=24, width=32, keyframe_interval=1)
    assert model.training
    assert model.micro_batch == 2
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_two_sides_step_onto_each_frame_once_but_for_the_middle_one():
    model = build_model(PUBLISHED["gsvnet-swiftnet"])
    one, two = (
        measure_cost(with_references(model, references), height=96, width=128, keyframe_interval=12).frame_macs
        for references in ("before", "both")
    )
    assert 1.0 < two / one < 1.15
