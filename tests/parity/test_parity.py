"""Our networks against the authors' own code: every file in the parity folder, picked by what it says of itself.

A new file with other sizes, classes or frame counts needs no new code here. A check yields (member's name, our tensor);
intermediate results (aux.*) that a file does not hold are not compared.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from gsvnet.classes import ClassSet
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.prepared import prepare_for_inference
from gsvnet.models.propagation import FLOW_UNIT_PX, NUM_TAPS, GuidedFilter, find_edges, with_gain
from gsvnet.models.published import (
    convert_published,
    load_published_bisenet,
    load_published_propagation,
    load_published_swiftnet,
)
from gsvnet.models.segmenter import ChunkBatch
from gsvnet.nn.blocks import resize
from gsvnet.nn.resnet import ResNet18Backbone
from gsvnet.nn.warp import warp


def test_the_named_folder_holds_parity_files(parity_dir):
    assert any(parity_dir.glob("*.npz")), f"no .npz in {parity_dir}"


@torch.no_grad()
def test_numbers_are_those_of_the_authors_code(golden, tmp_path):
    compare(golden, dict(find_check(golden)(golden, tmp_path)))


@torch.no_grad()
def test_networks_prepared_for_speed_keep_the_numbers(pipeline, tmp_path):
    prepare = partial(prepare_for_inference, device="cpu", precision="fp32")
    compare(pipeline, dict(check_pipeline(pipeline, tmp_path, arrange=prepare)))


def compare(golden, ours):
    errors = {name: error_of(name, got, golden[name]) for name, got in ours.items() if name in golden.members}
    print(golden.meta["case"], {name: float(f"{error:.1e}") for name, error in errors.items()})
    assert set(golden.names("out.")) <= errors.keys()
    assert {name: error for name, error in errors.items() if not error <= tolerance_of(name)} == {}


def error_of(name: str, got: Tensor, wanted: Tensor) -> float:
    """Largest difference in units of the golden's std; for labels the share of pixels that differ."""
    assert got.shape == wanted.shape, name
    if name.startswith("out.labels"):
        return (got != wanted).double().mean().item()
    return ((got.double() - wanted.double()).abs().max() / wanted.double().std()).item()


def tolerance_of(name: str) -> float:
    if name.startswith("out.labels"):
        return 1e-4
    return 0.0 if name == "aux.edge" else 1e-3 if name.startswith("aux.") else 5e-4


def find_check(golden):
    """The check that fits the file's networks and inputs."""
    inputs = frozenset(golden.names("in."))
    if "seg" in golden.roles:
        return check_pipeline
    if golden.roles == ("net",):
        return {"swiftnet": check_swiftnet, "bisenet": check_bisenet}[golden.keyframe_family("net")]
    return {
        ((), frozenset({"in.feat", "in.flow"})): check_warp,
        (("gsv",), frozenset({"in.x"})): check_shifts,
        (("flow",), frozenset({"in.cur", "in.prev"})): check_flow,
        (("gsv",), frozenset({"in.warped", "in.cur"})): check_guided_filter,
        (("flow", "gsv"), frozenset({"in.prev_logits", "in.prev", "in.cur"})): check_step,
    }[golden.roles, inputs]


def check_warp(golden, tmp_path):
    yield "out.output", warp(golden["in.feat"], golden["in.flow"] * FLOW_UNIT_PX)


def check_shifts(golden, tmp_path):
    x = golden["in.x"]
    only = torch.eye(NUM_TAPS)[:, :, None, None].expand(-1, -1, *x.shape[-2:])  # tap t alone, for every t
    guided_filter = GuidedFilter(num_classes=x.shape[1])
    taps = [guided_filter.filter(x, torch.ones_like(x), only[t, None]) for t in range(10)]
    yield "out.output", torch.stack(taps, dim=1)


def check_swiftnet(golden, tmp_path):
    path = golden.publish_keyframe("net", tmp_path / "net.pt")
    network = load_published_swiftnet(path, num_classes=golden.num_classes)
    image = golden["in.image"]
    yield "out.output", network(image)
    stages = ResNet18Backbone.forward(network.backbone, image)
    found = dict(zip(("skip4", "skip8", "skip16", "spp32"), (*stages[:3], network.backbone.spp(stages[3]))))
    for name in golden.names("aux."):
        what, stride = name.removeprefix("aux.").split("_stride")
        yield name, found[what][..., :: int(stride), :: int(stride)]


def check_bisenet(golden, tmp_path):
    path = golden.publish_keyframe("net", tmp_path / "net.pth")
    network = load_published_bisenet(path, num_classes=golden.num_classes)
    yield "out.output", network(golden["in.image"])


def check_flow(golden, tmp_path):
    propagation = load_propagation(golden, tmp_path)
    yield "out.output", propagation.flow(golden["in.cur"], golden["in.prev"])


def check_guided_filter(golden, tmp_path):
    propagation, warped = load_propagation(golden, tmp_path), golden["in.warped"]
    intra = propagation.intra(golden["in.cur"])
    output = propagation.guided_filter(with_gain(warped), intra)
    yield "out.output", output[:, :-1]
    yield "aux.intra", intra[:, None]
    yield from filter_parts(propagation, warped, intra)


def check_step(golden, tmp_path):
    propagation = load_propagation(golden, tmp_path)
    state, previous, current = with_gain(golden["in.prev_logits"]), golden["in.prev"], golden["in.cur"]
    yield "out.output", propagation(state, previous, current)[:, :-1]
    yield from step_parts(propagation, state, previous, current)


def check_pipeline(golden, tmp_path, arrange=lambda model: model):
    """Published files -> our checkpoint -> GSVNet.segment on a chunk of all frames, resized the published way."""
    model = arrange(convert_and_load(golden, tmp_path))
    num_frames = len(golden.names("in.frame"))
    frames = torch.stack([golden[f"in.frame{i}"] for i in range(num_frames)]).movedim(-1, 1).float()  # (L, 3, H, W)
    needs = model.needs(*frames.shape[-2:])
    small = resize(frames, needs.frame_size)
    chunk = ChunkBatch(
        first_frame=0,
        num_frames=torch.tensor([len(frames)]),
        keyframes=resize(frames[:1], needs.keyframe_size),
        frames=small[None],
        valid=torch.ones(1, len(frames), dtype=torch.bool),
    )
    logits = [resize(batch.logits, needs.frame_size) for batch in model.segment(chunk)]  # the keyframe's too
    assert len(logits) == len(frames)
    for i, on_grid in enumerate(logits):
        yield f"out.frame{i}", on_grid
        labels = resize(on_grid, frames.shape[-2:]).argmax(dim=1)[0]
        yield f"out.labels{i}", labels
    yield "out.output", logits[-1]
    normalised = model.frame_normalise(frames[:1])[..., ::8, ::8]
    yield "aux.normalised0_stride8", normalised
    if num_frames > 1:
        first, second = model.frame_normalise(small)[:2].split(1)
        yield from step_parts(model.propagation, with_gain(logits[0]), first, second)


def step_parts(propagation, state, previous, current):
    flow = propagation.estimate_flow(current, previous)
    yield "aux.flow", flow / FLOW_UNIT_PX
    warped = warp(state, flow)[:, :-1]
    yield "aux.warped", warped
    yield from filter_parts(propagation, warped, propagation.intra(current))


def filter_parts(propagation, warped, intra):
    edges = find_edges(warped)
    yield "aux.edge", edges
    yield "aux.filter", propagation.guided_filter.weigh(intra, edges)[:, :, None]


def load_propagation(golden, tmp_path):
    path = golden.publish_propagation(tmp_path / "propagation.tar")
    return load_published_propagation(path, num_classes=golden.num_classes)


def convert_and_load(golden, tmp_path):
    count = golden.num_classes
    classes = ClassSet(name="golden", names=tuple(f"class {i}" for i in range(count)), colours=((0, 0, 0),) * count)
    out = tmp_path / "model.safetensors"
    convert_published(
        f"gsvnet-{golden.keyframe_family('seg')}",
        golden.publish_keyframe("seg", tmp_path / "keyframe.pt"),
        golden.publish_propagation(tmp_path / "propagation.tar"),
        out,
        classes=classes,
    )
    return load_checkpoint(out)
