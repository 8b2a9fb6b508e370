"""TDNet against its authors' own code: every file, picked by its networks and inputs.

A check yields (output's name, our whole tensor). Error: largest difference over the output's largest absolute value.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from gsvnet.classes import IGNORE
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.published import convert_published
from gsvnet.models.segmenter import ChunkBatch, Normalise, SizeRule
from gsvnet.nn.blocks import resize
from gsvnet.training.losses import distillation_loss, ohem_loss

SURE = 1e-4  # of the output's absmax: how far the authors' code in float32 may be from itself in float64, to be exact
CHUNK = 3  # frames
PUBLISHED_IGNORE = 250
THRESHOLDS = {"ohem_thresh": 0.7, "ohem_topk": 1e-6}


@torch.no_grad()
def test_numbers_are_those_of_the_authors_code(tdnet, tmp_path):
    compare(tdnet, dict(find_check(tdnet)(tdnet, tmp_path)))


@torch.no_grad()
def test_a_video_cut_into_batches_keeps_the_numbers(tdnet_cut, tmp_path):
    """Batches start anywhere and are told the frames before them, as in shards; networks see one image at a time."""
    compare(tdnet_cut, dict(check_video(tdnet_cut, tmp_path, cuts=(0, 2, 5), micro_batch=1)))


def compare(golden, ours):
    assert ours.keys() >= golden.outputs.keys()
    errors = {name: errors_of(golden, name, golden.thin(name, ours[name])) for name in golden.outputs}
    print(golden.meta["case"], {name: tuple(float(f"{x:.1e}") for x in error) for name, error in errors.items()})
    largest, mean = tolerances_of(golden)
    assert {name: e for name, e in errors.items() if not (e[0] <= largest and e[1] <= mean)} == {}


def errors_of(golden, name: str, got: Tensor) -> tuple[float, float]:
    """Largest and mean difference in units of the golden's absmax."""
    wanted = torch.from_numpy(golden.members[f"out.{name}"])
    assert got.shape == wanted.shape, name
    difference = (got.double() - wanted.double()).abs() / golden.outputs[name]["absmax"]
    return difference.max().item(), difference.mean().item()


def tolerances_of(golden) -> tuple[float, float]:
    """Of the largest and the mean difference. A file whose attention saturates says so by its own uncertainty."""
    uncertain = max(about.get("f32_vs_f64_max_rel_to_absmax", 0) for about in golden.outputs.values()) > SURE
    return (2e-2, SURE) if uncertain else (SURE, SURE)


def find_check(golden):
    """The check that fits the file's networks and inputs."""
    if not golden.networks:
        return check_losses
    if golden.inputs == {"x"}:
        return check_teacher
    return check_pair if "logits" in golden.outputs else check_video


def check_losses(golden, tmp_path):
    student, teacher, label = golden.input("student"), golden.input("teacher"), golden.input("label").long()
    label[label == PUBLISHED_IGNORE] = IGNORE
    least = golden.details["n_min"]
    for name, threshold in THRESHOLDS.items():
        yield name, ohem_loss(student, label, threshold=threshold, min_kept=least)
    # theirs adds 1e-8 to every probability, so that no logarithm is infinite; ours takes logarithms of softmaxes as one
    yield "kldive", distillation_loss(student, teacher)


def check_teacher(golden, tmp_path):
    image = golden.input("x")
    model = convert_and_load(golden, tmp_path)
    yield "logits", resize(model.net(image), image.shape[-2:], align_corners=model.align_corners)


def check_video(golden, tmp_path, cuts=(0,), micro_batch=8):
    """A published file -> our checkpoint -> TDNet.segment on all frames in chunks, a batch from each cut on."""
    model, videos = convert_and_load(golden, tmp_path), golden.video()
    model.micro_batch = micro_batch
    logits = [segment(model, frames, cuts, first=0) for frames in videos]
    for i, of_videos in enumerate(zip(*logits, strict=True)):
        yield f"frame{i}", torch.stack(of_videos)


def check_pair(golden, tmp_path):
    """Two frames, of which the second is labeled by a certain sub-network."""
    model, videos = convert_and_load(golden, tmp_path), golden.video()
    position = golden.meta["case"].rsplit("pos", 1)[1]
    first = (int(position) - 1) % model.num_sub_networks
    yield "logits", torch.stack([segment(model, frames, (0,), first=first)[1] for frames in videos])


def segment(model, frames: Tensor, cuts, *, first: int) -> list[Tensor]:
    """Logits (C, H, W) of every frame at the size of the images (F, 3, H, W), frame `first` of a video and so on."""
    found = {}
    full = partial(resize, size=frames.shape[-2:], align_corners=model.align_corners)
    for start, stop in zip(cuts, [*cuts[1:], len(frames)]):
        for output in model.segment(chunks_of(model, frames, start, stop, first=first)):
            places = (start + CHUNK * output.chunk + output.position).tolist()
            found |= dict(zip(places, full(output.logits)))
    return [found[i] for i in range(len(frames))]


def chunks_of(model, frames: Tensor, start: int, stop: int, *, first: int) -> ChunkBatch:
    """Frames [start, stop) in chunks of a few, and those before them."""
    num_frames = torch.tensor([min(CHUNK, stop - at) for at in range(start, stop, CHUNK)])
    padding = [frames[-1:]] * (len(num_frames) * CHUNK - (stop - start))
    before = model.needs(*frames.shape[-2:]).before
    batch = torch.cat([frames[start:stop], *padding]).unflatten(0, (-1, CHUNK))
    return ChunkBatch(
        first_frame=first + start,
        num_frames=num_frames,
        keyframes=batch[:, 0],
        frames=batch,
        valid=torch.arange(CHUNK) < num_frames[:, None],
        before=frames[max(0, start - before) : start],
    )


def convert_and_load(golden, tmp_path):
    out = tmp_path / "model.safetensors"
    convert_published(golden.family("net"), golden.publish("net", tmp_path / "published.pkl"), None, out)
    model = load_checkpoint(out)
    model.size_rule = SizeRule()
    model.normalise = Normalise(mean=(0, 0, 0), std=(1, 1, 1), scale=1.0)  # the file holds normalised images
    return model
