from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID, CITYSCAPES, ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.bisenet import BiSeNet
from gsvnet.models.noise import draw_chunks
from gsvnet.models.segmenter import Normalise, PerFrame, SizeRule
from gsvnet.models.spec import KEYFRAME_NETWORKS, ModelSpec, NormaliseSpec, build_model, describe_model
from gsvnet.models.transfer import image_network_of, replace_classes, with_keyframe_scale, with_references

NORMALISE = NormaliseSpec(mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
SPEC = ModelSpec(family="espnetv2", classes=CITYSCAPES, normalise=NORMALISE, size_rule=SizeRule(rows=96))
NEW = ClassSet(name="new", names=("road", "tram", "pavement"), colours=((0, 0, 0),) * 3)


def model_of(family: str) -> PerFrame:
    torch.manual_seed(0)
    model = build_model(replace(SPEC, family=family)).eval()
    assert isinstance(model, PerFrame)
    return model


@pytest.mark.parametrize("family", KEYFRAME_NETWORKS)
@torch.no_grad()
def test_classes_with_a_counterpart_keep_their_logits(family):
    model, image = model_of(family), torch.rand(1, 3, 64, 96)
    before = model.net(image)
    changed = replace_classes(model, CAMVID)
    after = changed.net(image)
    for old, new in (("vegetation", "tree"), ("sky", "sky"), ("bicycle", "bicyclist")):
        kept = before[:, CITYSCAPES.names.index(old)]
        torch.testing.assert_close(after[:, CAMVID.names.index(new)], kept)
    assert torch.equal(model.net(image), before)
    assert describe_model(changed) == replace(
        SPEC, family=family, classes=CAMVID, network=describe_model(model).network
    )


@torch.no_grad()
def test_a_new_class_starts_near_the_mean_of_the_old():
    model, image = model_of("swiftnet"), torch.rand(1, 3, 64, 96)
    tram = replace_classes(model, NEW).net(image)[:, 1]
    old = model.net(image)
    assert (tram - old.mean(1)).abs().mean() < 0.3 * old.std(1).mean()


def test_auxiliary_heads_change_too():
    model = model_of("bisenet")
    model.net = BiSeNet(num_classes=19, auxiliary_heads=True)
    changed = replace_classes(model, NEW).net.eval()
    assert [logits.shape[1] for logits in changed.segment_with_auxiliary(torch.rand(1, 3, 32, 32))] == [3, 3, 3]


def test_the_same_change_gives_the_same_weights():
    model = model_of("swiftnet")
    first, second = (replace_classes(model, NEW).net.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_changed_network_is_trainable():
    changed = replace_classes(model_of("swiftnet"), NEW).train()
    changed.net(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert changed.net.logits.conv.weight.grad is not None


def test_a_network_that_names_no_last_layer_is_refused():
    model = PerFrame(nn.Conv2d(3, 19, 1), classes=CITYSCAPES, normalise=Normalise(mean=(0, 0, 0), std=(1, 1, 1)))
    with pytest.raises(ModelError, match="Conv2d names no last layer"):
        replace_classes(model, CAMVID)


def test_a_scale_changes_what_an_image_network_reads_and_shares_its_weights():
    model = model_of("swiftnet")
    half = with_keyframe_scale(model, 0.5)
    assert half.needs(192, 384).keyframe_size == (48, 96)
    assert model.needs(192, 384).keyframe_size == (96, 192)
    assert half.net is model.net


@pytest.mark.parametrize("own_rule", [None, SizeRule(rows=48, keyframe_scale=0.5)])
def test_a_scale_leaves_the_propagation_grid(own_rule):
    spec = replace(SPEC, family="gsvnet-swiftnet", frame_normalise=NORMALISE, keyframe_size_rule=own_rule)
    model = build_model(spec)
    scaled = with_keyframe_scale(model, 0.75)
    rows = 72 if own_rule is None else 36
    assert scaled.needs(192, 384).keyframe_size == (rows, 2 * rows)
    assert scaled.needs(192, 384).frame_size == model.needs(192, 384).frame_size == (12, 24)


def test_a_scale_moves_both_resolutions_of_altered_resolution():
    scaled = with_keyframe_scale(build_model(replace(SPEC, family="arseg-bisenetv1")), 0.5)
    assert (scaled.needs(192, 384).keyframe_size, scaled.needs(192, 384).frame_size) == ((48, 96), (24, 48))


def test_references_are_another_choice_of_the_same_weights():
    model = build_model(replace(SPEC, family="arseg-bisenetv1"))
    other = with_references(model, "nearest")
    assert (model.references, other.references) == ("before", "nearest")
    assert other.keyframe_network is model.keyframe_network
    with pytest.raises(ModelError, match="references 'after'; allowed"):
        with_references(model, "after")
    with pytest.raises(ModelError, match="PerFrame has none"):
        with_references(model_of("bisenetv1"), "both")


@pytest.mark.parametrize("family", ["bisenetv1", "gsvnet-bisenetv1", "arseg-bisenetv1"])
@torch.no_grad()
def test_the_image_network_labels_keyframes_as_the_model_does(family):
    rule = SizeRule(rows=64)
    own = NORMALISE if family.startswith("gsvnet-") else None
    spec = replace(SPEC, family=family, frame_normalise=own, size_rule=rule, align_corners=False)
    model = build_model(spec).eval()
    image = image_network_of(model)
    chunk = draw_chunks(model, height=64, width=96, num_chunks=1, interval=1, device="cpu")
    assert image.needs(64, 96).keyframe_size == model.needs(64, 96).keyframe_size
    (expected,), (got,) = model.segment(chunk), image.segment(replace(chunk, frames=None))
    assert torch.equal(got.logits, expected.logits)
    assert (got.align_corners, image.classes) == (expected.align_corners, model.classes)


def test_describing_a_model_leaves_its_frozen_parts_frozen():
    model = build_model(replace(SPEC, family="arseg-bisenetv1")).train()
    model.keyframe_network.eval()
    describe_model(model)
    assert not model.keyframe_network.training
    assert image_network_of(model).training


@pytest.mark.parametrize("scale", [0, -1.0, 2.5, float("nan")])
def test_scales_that_make_no_sense_are_refused(scale):
    with pytest.raises(ConfigError, match=f"keyframe scale {scale}"):
        with_keyframe_scale(model_of("swiftnet"), scale)
