"""AR-Seg against its authors' own code: every file, picked by its networks and inputs.

A check yields (output's name, our whole tensor). Error: largest difference over the output's largest absolute value.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.classes import ClassSet
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.models.arseg import CrossResolutionFusion
from gsvnet.models.checkpoints import load_checkpoint, load_strictly
from gsvnet.models.published import convert_published
from gsvnet.models.published_arseg import PUBLISHED_ARSEG, load_published_keyframe_network, published_arseg_name
from gsvnet.models.segmenter import ChunkBatch, Normalise, SizeRule
from gsvnet.nn.blocks import resize
from gsvnet.nn.warp import warp_as_published
from gsvnet.training.losses import ohem_loss
from tests.parity.published_motion import merge_motion

SURE = 1e-4  # of the output's absmax: how far the authors' code in float32 may be from itself in float64, to be exact


@torch.no_grad()
def test_numbers_are_those_of_the_authors_code(other, tmp_path):
    ours = dict(find_check(other)(other, tmp_path))
    assert ours.keys() == other.outputs.keys()
    errors = {name: errors_of(other, name, other.thin(name, whole)) for name, whole in ours.items()}
    print(other.meta["case"], {name: tuple(float(f"{x:.1e}") for x in error) for name, error in errors.items()})
    allowed = {name: tolerances_of(other, name) for name in ours}
    assert {name: e for name, e in errors.items() if not (e[0] <= allowed[name][0] and e[1] <= allowed[name][1])} == {}


def errors_of(other, name: str, got: Tensor) -> tuple[float, float]:
    """Largest and mean difference in units of the golden's absmax; for labels both the share of pixels that differ."""
    wanted = torch.from_numpy(other.members[f"out.{name}"])
    assert got.shape == wanted.shape, name
    if name == "pred":
        share = (got != wanted).double().mean().item()
        return share, share
    difference = (got.double() - wanted.double()).abs() / (other.outputs[name].get("absmax") or 1)
    return difference.max().item(), difference.mean().item()


def tolerances_of(other, name: str) -> tuple[float, float]:
    """Of the largest and the mean difference. A file whose attention saturates says so by its own uncertainty."""
    if name == "pred":
        return 1e-3, 1e-3
    if other.members[f"out.{name}"].dtype.kind == "i":
        return 0.0, 0.0
    uncertain = max(about.get("f32_vs_f64_max_rel_to_absmax", 0) for about in other.outputs.values()) > SURE
    return (2e-2, SURE) if uncertain else (SURE, SURE)


def find_check(other):
    """The check that fits the file's networks and inputs."""
    return {
        (("net",), frozenset({"x"})): check_keyframe_network,
        (("highres_net", "lowres_net"), frozenset({"imgs", "ref_imgs", "mv_quarter_pel_blocks", "label"})): check_frame,
        (("net",), frozenset({"hr_feat", "lr_feat"})): check_fusion,
        ((), frozenset({"feature", "flow"})): check_warp,
        ((), frozenset({"blocks"})): check_motion,
        ((), frozenset({"logits", "label"})): check_hard_pixels,
    }[tuple(other.networks), other.inputs]


def check_keyframe_network(other, tmp_path):
    family, image = other.family("net"), other.input("x")
    network = load_published_keyframe_network(
        other.publish("net", tmp_path / "hr.pth"), family, classes_of(other, "net"), auxiliary_heads=True
    )
    yield "p", network.extract(image)
    full = partial(resize, size=image.shape[-2:], align_corners=PUBLISHED_ARSEG[family].align_corners)
    if family == "pspnet18up":
        logits, presence = network.segment_with_presence(image)
        yield "logprob", full(logits).log_softmax(dim=1)
        yield "cls", presence
        return
    names = {"bisenetv1": ("logits", "logits16", "logits32"), "pspnet18": ("logits", "aux")}[family]
    for name, logits in zip(names, network.segment_with_auxiliary(image), strict=True):
        yield name, full(logits)
    assert torch.equal(network(image), network.segment_with_auxiliary(image)[0])


def check_frame(other, tmp_path):
    """Published files -> our checkpoint -> ARSeg.segment on a keyframe and one frame, motion pixel by pixel."""
    model = convert_and_load(other, tmp_path)
    keyframe, image = other.input("ref_imgs"), other.input("imgs")
    needs, label = model.needs(*image.shape[-2:]), other.input("label")
    motion, parts = motion_of(other, image.shape[-2:]), {}
    model.fusion.register_forward_hook(lambda module, given, fused: parts.update(given=given, fused=fused))
    chunk = ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([2] * len(image)),
        keyframes=keyframe,
        frames=resize(torch.stack([keyframe, image], dim=1).flatten(0, 1), needs.frame_size).unflatten(0, (-1, 2)),
        valid=torch.ones(len(image), 2, dtype=torch.bool),
        motion=motion,
        motion_valid=torch.ones_like(motion[:, :, 0], dtype=torch.bool),
    )
    found = [out for out in model.segment(chunk) if (out.position == 1).all()]
    logits = torch.cat([out.logits for out in found])
    assert torch.cat([out.chunk for out in found]).tolist() == list(range(len(image)))
    yield "warped_ref_p", parts["given"][0]
    yield "lr_p", parts["given"][1]
    yield "fused_p", parts["fused"]
    if other.family("lowres_net") == "pspnet18up":
        logits = logits.log_softmax(dim=1)  # its authors' class ends so; not enlarged afterwards
        assert list(logits.shape) == other.shape("out")
    yield "out", resize(logits, other.shape("out")[-2:], align_corners=model.align_corners)
    full = resize(logits, label.shape[-2:], align_corners=model.align_corners)
    yield "logits_at_label_size", full
    yield "pred", full.argmax(dim=1).to(torch.uint8)
    counts = ConfusionMatrix(len(model.classes))
    counts.update(label.numpy(), full.argmax(dim=1).to(torch.uint8).numpy())
    yield "miou", torch.tensor(counts.miou())


def classes_of(other, network: str) -> ClassSet:
    count = other.num_classes(network)
    return ClassSet(name="golden", names=tuple(f"class {i}" for i in range(count)), colours=((0, 0, 0),) * count)


def convert_and_load(other, tmp_path):
    out = tmp_path / "model.safetensors"
    convert_published(
        f"arseg-{other.family('highres_net')}",
        other.publish("highres_net", tmp_path / "hr.pth"),
        other.publish("lowres_net", tmp_path / "ar.pth"),
        out,
        classes=classes_of(other, "highres_net"),
    )
    model = load_checkpoint(out)
    assert model.sampling == "published"
    model.scale, model.size_rule = other.details["scale"], SizeRule()
    model.normalise = Normalise(mean=(0, 0, 0), std=(1, 1, 1), scale=1.0)  # the file holds normalised images
    return model


def motion_of(other, size) -> Tensor:
    """(B, 2 frames, 2, H, W) float32 in pixels, from the blocks of the second frame."""
    block = other.details["mv_block"]
    blocks = other.input("mv_quarter_pel_blocks").repeat_interleave(block, 1).repeat_interleave(block, 2)
    motion = blocks[:, : size[0], : size[1]].movedim(-1, 1).float() / 4
    return torch.stack([torch.zeros_like(motion), motion], dim=1)


def check_fusion(other, tmp_path):
    high, low = other.input("hr_feat"), other.input("lr_feat")
    fusion = CrossResolutionFusion(channels=high.shape[1])
    weights = {f"fuse_attention.{name}": tensor for name, tensor in other.weights("net").items()}
    load_strictly(fusion, weights, source="golden", file_name=partial(published_arseg_name, "fusion"))
    yield "fused", fusion(high, low)
    side = round(other.shape("similar_hr_hr")[-1] ** 0.5)
    windows = F.unfold(high, side, padding=side // 2).unflatten(1, (high.shape[1], -1)).unflatten(-1, high.shape[-2:])
    yield "similar_hr_hr", (high[:, :, None] * windows).sum(1).movedim(1, -1)[:, ::3, ::3]


def check_warp(other, tmp_path):
    feature, flow = other.input("feature"), other.input("flow").movedim(-1, 1)
    yield "warped", warp_as_published(feature, flow)
    yield "warped_zero_flow", warp_as_published(feature, torch.zeros_like(flow))


def check_motion(other, tmp_path):
    height, width = other.details["frame_hw"]
    down, right = other.details["sample"]
    blocks = other.input("blocks").numpy().repeat(other.details["block"], 1).repeat(other.details["block"], 2)
    yield "merged_quarter_pel", torch.from_numpy(merge_motion(blocks[:, :height, :width])[:, ::down, ::right].copy())


def check_hard_pixels(other, tmp_path):
    logits, targets = other.input("logits"), other.input("label").long()
    for name in other.outputs:
        yield name, ohem_loss(logits, targets, threshold=float(name.removeprefix("ohem_")))
