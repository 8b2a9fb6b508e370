"""The part of the training material that is kept back, so that recipes are chosen on it and not on what they are
judged by. Neighbouring frames are alike, so whole blocks of time are kept back: the end of every sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gsvnet.errors import ConfigError
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.propagation import Propagation, with_gain
from gsvnet.models.segmenter import Normalise
from gsvnet.nn.upsample import upsample_labels
from gsvnet.training.clip_loss import advance
from gsvnet.training.clips import Clip, VideoClips
from gsvnet.training.stills import Stills

_BATCH_IMAGES = 8


def split_stills(stills: Stills, share: float) -> tuple[Stills, Stills]:
    """What is trained on, and the last `share` (0..1) of every sequence, in whole stills, which is kept back.

    Raises ConfigError where one of both is empty.
    """
    kept: list[int] = []
    held: list[int] = []
    for name in dict.fromkeys(stills.sequences):
        places = [i for i, sequence in enumerate(stills.sequences) if sequence == name]
        num_kept = len(places) - round(share * len(places))
        kept += places[:num_kept]
        held += places[num_kept:]
    if not kept or not held:
        raise ConfigError(
            f"hold-out {share} of {len(stills)} stills leaves {len(kept)} to train on, {len(held)} to score"
        )
    return stills.pick(kept), stills.pick(held)


def describe_leak(notes: dict, share: float) -> str | None:
    """What a keyframe network, by the notes of its checkpoint, has seen of the last `share` of CamVid's drives; None
    where it was not trained on that part."""
    while "keyframe" in notes:  # of a video network: its keyframe network was trained before, by itself
        notes = notes["keyframe"].get("notes") or {}
    recipe = notes.get("recipe")
    if recipe is None:
        return "does not say what it was trained on; if that was CamVid, the score of the held-out part is too good"
    kept_back = recipe.get("hold_out") or 0.0
    if recipe.get("camvid") is None or kept_back >= share:
        return None
    return f"was trained with --hold-out {kept_back:g}, on what is held out here: the score of that part is too good"


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Inside the block `model` is in evaluation mode; after it each of its parts is as it was."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@torch.no_grad()
def score_stills(
    net: nn.Module, stills: Stills, *, num_classes: int, normalise: Normalise, scale: float = 1.0
) -> float:
    """mIoU in 0..1 of a network on whole stills, which it reads at `scale` times their size.

    Classes that occur in neither truth nor labels are left out.
    """
    device = normalise.mean.device
    was_training = net.training
    net.eval()
    confusion = ConfusionMatrix(num_classes)
    for images, truth in zip(stills.images.split(_BATCH_IMAGES), stills.labels.split(_BATCH_IMAGES)):
        images = resize_image(images, (round(images.shape[-2] * scale), round(images.shape[-1] * scale)), "area")
        pixels = normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
        confusion.update(truth.numpy(), _label(net, pixels, truth).numpy())
    net.train(was_training)
    return confusion.miou()


def split_video(clips: VideoClips, share: float) -> tuple[VideoClips, VideoClips]:
    """The start of a video, which is trained on, and its last `share` (0..1), in whole frames, which is kept back."""
    num_held = round(share * len(clips.frames))
    border = len(clips.frames) - num_held
    return _cut_video(clips, slice(border)), _cut_video(clips, slice(border, None))


def _cut_video(clips: VideoClips, part: slice) -> VideoClips:
    flow = None if clips.flow is None else clips.flow[part]
    return VideoClips(clips.frames[part], clips.logits[part], clips.targets[part], flow=flow, strides=clips.strides)


@torch.no_grad()
def score_clips(propagation: Propagation, clips: Sequence[Clip], *, normalise: Normalise, align_corners: bool) -> float:
    """mIoU in 0..1 of all propagated frames of all clips together, at the size of their targets."""
    device = normalise.mean.device
    was_training = propagation.training
    propagation.eval()
    confusion = ConfusionMatrix(propagation.num_classes)
    for clip in clips:
        state = with_gain(clip.keyframe_logits[None].to(device))
        states, _ = advance(propagation, state, normalise(clip.frames.to(device))[None])
        size = (clip.targets.shape[-2], clip.targets.shape[-1])
        labels = upsample_labels(torch.cat(states)[:, :-1], size, align_corners=align_corners)
        confusion.update(clip.targets[1:].numpy(), labels.cpu().numpy())
    propagation.train(was_training)
    return confusion.miou()


def _label(net: nn.Module, pixels: Tensor, truth: Tensor) -> Tensor:
    """Labels of the truth's shape, in the half-pixel convention of training."""
    return upsample_labels(net(pixels).float(), (truth.shape[-2], truth.shape[-1]), align_corners=False).cpu()
