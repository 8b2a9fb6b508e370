"""What a network has to keep to, checked: one's own on a sample before it labels, any on every batch that it labels.

A network that breaks it would give labels that look right and are another frame's, or none, or not worth their
confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from gsvnet.errors import ModelError
from gsvnet.models.noise import draw_chunks
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch, VideoSegmenter
from gsvnet.models.spec import describe_model

SAMPLE_SIZE = 256, 512  # also at 0.75 and 0.5 a multiple of 32, which many networks ask for
_TOLERANCE = 1e-3  # of the largest |logit|; what is done in another order changes some 1e-6
_MASKED = -1e4  # lower logits rule a class out, and say nothing of the scale of the others


@torch.inference_mode()
def runs_in_threads(model: VideoSegmenter) -> bool:
    """Whether several threads may run a network on the CPU at once: the project's own, or one that keeps nothing.

    The latter has no hooks, and no part of it holds anything else after a sample than before. A network that hands
    features on in itself would give one frame those of another. False where it refuses the sample.
    """
    assert isinstance(model, nn.Module)
    if _is_known(model):
        return True
    before = _contents(model)
    try:
        list(model.segment(draw_sample(model)))
    except Exception:
        return False
    after = _contents(model)
    return before.keys() == after.keys() and all(_are_same(before[key], after[key]) for key in before)


def draw_sample(model: VideoSegmenter) -> ChunkBatch:
    """A chunk of two frames of noise. Raises what the network's `needs` may raise of a size that does not suit it."""
    height, width = SAMPLE_SIZE
    return draw_chunks(model, height=height, width=width, num_chunks=1, interval=2, device="cpu")


def says_the_same(logits: Tensor, others: Tensor) -> bool:
    """Whether two logits of one frame are equal, but for rounding."""
    if logits.shape != others.shape:
        return False
    one, other = logits.float().clamp(min=_MASKED), others.float().clamp(min=_MASKED)
    scale = torch.where(one > _MASKED, one.abs(), 0.0).amax()
    return bool((one - other).abs().max() <= _TOLERANCE * scale)


@torch.inference_mode()
def check_on_sample(model: VideoSegmenter) -> None:
    """Ask a network of one's own, on the CPU and in evaluation mode, about noise, about other noise, and again.

    Raises ModelError for one that answers differently, or with what are no logits. One that refuses the sample's size
    is not checked.
    """
    assert isinstance(model, nn.Module)
    if _is_known(model):
        return
    name = _name(model)
    try:
        sample = draw_sample(model)
        first = list(model.segment(sample))
    except Exception:  # each network refuses a size in its own way, and what is truly broken fails on the first batch
        return
    for output in first:
        _check_logits(output.logits, name, num_classes=len(model.classes))
    list(model.segment(_turn_negative(sample)))
    again = list(model.segment(sample))
    if len(again) != len(first) or not all(says_the_same(a.logits, b.logits) for a, b in zip(first, again)):
        raise ModelError(
            f"{name} says something else of the same frame when it is asked again, as with dropout that stays on in "
            "evaluation, or a memory of other frames: its labels would depend on what ran before"
        )


def check_outputs(chunks: ChunkBatch, outputs: Iterator[LogitsBatch]) -> Iterator[LogitsBatch]:
    """The same outputs. Raises ModelError unless they are of every valid frame of the chunks, each exactly once."""
    missing: set[tuple[int, int]] = {(c, p) for c, p in chunks.valid.nonzero().tolist()}
    seen: set[tuple[int, int, str]] = set()
    for output in outputs:
        places = list(zip(output.chunk.tolist(), output.position.tolist()))
        if not len(output.chunk) == len(output.position) == len(output.logits):
            raise ModelError(f"the network gave logits of {len(output.logits)} frames for {len(output.chunk)} places")
        keys = {(*place, output.role) for place in places}
        if len(keys) < len(places) or not keys.isdisjoint(seen):
            raise ModelError("the network gave logits of a frame twice; which of them are its labels?")
        seen |= keys
        if output.role == "labels":
            if not missing.issuperset(places):
                raise ModelError("the network gave labels of a frame that is lost, or not there")
            missing.difference_update(places)
        yield output
    if missing:
        raise ModelError(f"the network gave no logits of {len(missing)} of {int(chunks.valid.sum())} frames of a batch")


def _is_known(model: nn.Module) -> bool:
    """Whether all of a network is the project's own."""
    try:
        describe_model(model)
    except ModelError:
        return False
    return True


def _check_logits(logits: Tensor, name: str, *, num_classes: int) -> None:
    """Raises ModelError for what is no (N, num_classes, h, w) of logits."""
    if not logits.is_floating_point():
        raise ModelError(f"{name} gives {logits.dtype}; logits are floating-point numbers")
    if logits.dim() != 4 or logits.shape[1] < 2:
        raise ModelError(
            f"{name} gives {tuple(logits.shape)}; (frames, classes, height, width) are needed, and 2 classes or more: "
            "of one class alone, add what is not it as another"
        )
    if logits.shape[1] != num_classes:
        raise ModelError(f"{name} gives logits of {logits.shape[1]} classes, and names {num_classes}")
    if bool(logits.isnan().any()) or bool((logits == torch.inf).any()):
        raise ModelError(f"{name} gives NaN or infinity of noise; are its weights sound?")
    if bool((logits >= 0).all()) and bool(((logits.float().sum(dim=1) - 1).abs() < _TOLERANCE).all()):
        raise ModelError(
            f"{name} gives probabilities, of which confidence comes out wrong: leave out its softmax, or give logs"
        )


def _contents(model: nn.Module) -> dict[tuple[str, str], list]:
    """What each attribute of each part holds, by names; collections opened. A part with hooks holds something new."""
    found: dict[tuple[str, str], list] = {}
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            values = value.values() if isinstance(value, dict) else value
            found[name, key] = list(values) if isinstance(value, dict | list | tuple | set) else [value]
        if part._forward_hooks or part._forward_pre_hooks:
            found[name, "hooks"] = [object()]
    return found


def _are_same(before: list, after: list) -> bool:
    return len(before) == len(after) and all(a is b for a, b in zip(before, after))


def _turn_negative(sample: ChunkBatch) -> ChunkBatch:
    frames = None if sample.frames is None else 255 - sample.frames
    return replace(sample, keyframes=255 - sample.keyframes, frames=frames)


def _name(model: VideoSegmenter) -> str:
    return type(getattr(model, "net", model)).__name__
