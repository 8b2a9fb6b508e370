"""Other ways to carry a keyframe's logits on, for ablations: one keyframe network, scored in one way.

full     flow, intra features and the guided filter: GSVNet as it is; two resolutions and their fusion: AR-Seg as it is
hold     nothing moves: the keyframe's logits stay
motion   the keyframe's logits, moved by codec motion in one hop, as AR-Seg moves its features
flow     GSVNet's flow from frame to frame and nothing else: plain warping
filter   GSVNet's guided filter (and intra features) on logits that nothing moves
fusion   AR-Seg's fusion with a keyframe's features that nothing moves
alone    AR-Seg's network for the frames between keyframes, which see no keyframe

Weights are those of the full model and shared with it; nothing is trained anew for a variant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from gsvnet.choices import References
from gsvnet.errors import ModelError
from gsvnet.evaluation.config import Variant
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, LogitsBatch, VideoSegmenter
from gsvnet.models.split import SplitNetwork
from gsvnet.nn.blocks import resize
from gsvnet.nn.warp import warp

_OF_GSVNET: tuple[Variant, ...] = ("hold", "motion", "flow", "filter")
_OF_ARSEG: tuple[Variant, ...] = ("hold", "motion", "fusion", "alone")


def vary_propagation(model: VideoSegmenter, variant: Variant) -> VideoSegmenter:
    """`model` with another propagation; itself if `variant` is "full". Raises ModelError where there is no such one."""
    if variant == "full":
        return model
    if not isinstance(model, GSVNet | ARSeg):
        name = type(model).__name__
        raise ModelError(f"propagation {variant!r} takes a GSVNet or an AR-Seg apart; {name} does not propagate")
    allowed = _OF_ARSEG if isinstance(model, ARSeg) else _OF_GSVNET
    if variant not in allowed:
        raise ModelError(f"propagation {variant!r}: {type(model).__name__} has full, {', '.join(allowed)}")
    if variant == "hold":
        return Hold(model).eval()
    if variant == "motion":
        return MotionWarp(model).eval()
    if isinstance(model, ARSeg):
        if variant == "fusion":
            return _with_parts(Unmoved, model, model.frame_network, model.fusion, model.references).eval()
        return _with_parts(Unmoved, model, model.frame_network, NoFusion(), "before").eval()
    part = PlainWarp(model.propagation) if variant == "flow" else StillFilter(model.propagation)
    return _with_propagation(model, part).eval()


class Hold(nn.Module):
    """A keyframe network whose logits stay until the next keyframe."""

    def __init__(self, model: GSVNet | ARSeg) -> None:
        super().__init__()
        self.model, self.classes = _keyframes_of(model), model.classes

    def needs(self, height: int, width: int) -> FrameNeeds:
        """Keyframes as the model does; the other frames are not looked at."""
        return replace(self.model.needs(height, width), motion_grid=None)

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Keyframes, each followed by itself once for every position with a valid frame."""
        for keyframes in _segment_keyframes(self.model, chunks):
            yield keyframes
            for position, rows in _later_positions(chunks, keyframes):
                yield _at_position(keyframes, rows, position, keyframes.logits[rows])


class MotionWarp(nn.Module):
    """A keyframe network whose logits are moved by codec motion, from the keyframe to each frame in one hop."""

    def __init__(self, model: GSVNet | ARSeg) -> None:
        super().__init__()
        self.model, self.classes = _keyframes_of(model), model.classes

    def needs(self, height: int, width: int) -> FrameNeeds:
        """Keyframes as the model does, and motion on the grid of its own; the other frames are not looked at."""
        needs = self.model.needs(height, width)
        return replace(needs, motion_grid=needs.motion_grid or needs.frame_size)

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Keyframes, then the other positions on the motion's grid. Where motion is not valid it is used as it is."""
        for keyframes in _segment_keyframes(self.model, chunks):
            yield keyframes
            for position, rows in _later_positions(chunks, keyframes):
                assert chunks.motion is not None, "needs ChunkBatch.motion"
                motion = chunks.motion[keyframes.chunk[rows], position]
                logits = resize(keyframes.logits[rows], motion.shape[-2:], align_corners=keyframes.align_corners)
                yield _at_position(keyframes, rows, position, warp(logits, _stay_inside(motion)))


class Unmoved(ARSeg):
    """AR-Seg with a keyframe's features where they are: no motion is asked for, and none is assumed."""

    def needs(self, height: int, width: int) -> FrameNeeds:
        """What AR-Seg needs, without motion."""
        return replace(super().needs(height, width), motion_grid=None)

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """All frames as AR-Seg labels them where nothing moves."""
        shape, device = (*chunks.valid.shape, 1, 1), chunks.keyframes.device
        still = torch.zeros(*shape[:2], 2, 1, 1, device=device)
        known = torch.ones(shape, dtype=torch.bool, device=device)
        yield from super().segment(
            replace(chunks, motion=still, motion_valid=known, next_motion=still, next_motion_valid=known)
        )


class NoFusion(nn.Module):
    """In place of `CrossResolutionFusion`: a frame's own feature, on its own grid. No parameters."""

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """The second."""
        return low


class NoPropagation(nn.Module):
    """In place of `Propagation`, where only keyframes are run: no parameters."""

    def __init__(self, propagation: Propagation) -> None:
        super().__init__()
        self.num_classes = propagation.num_classes


class PlainWarp(nn.Module):
    """In place of `Propagation`: the state moves along its flow, and nothing corrects it."""

    def __init__(self, propagation: Propagation) -> None:
        super().__init__()
        self.num_classes, self.flow = propagation.num_classes, propagation.flow

    estimate_flow = Propagation.estimate_flow

    def glance(self, current: Tensor) -> None:
        """Nothing: the frame is seen through its flow alone."""

    def step(self, state: Tensor, flow: Tensor, intra: None) -> Tensor:
        """The state (B, C + 1, h, w) where the current frame sees it."""
        return warp(state, _stay_inside(flow))


class StillFilter(nn.Module):
    """In place of `Propagation`: the guided filter corrects a state that nothing moves."""

    def __init__(self, propagation: Propagation) -> None:
        super().__init__()
        self.num_classes, self.intra = propagation.num_classes, propagation.intra
        self.guided_filter = propagation.guided_filter

    glance = Propagation.glance

    def estimate_flow(self, current: Tensor, previous: Tensor) -> Tensor:
        """No motion: zeros (N, 2, h, w)."""
        return torch.zeros_like(current[:, :2])

    def step(self, state: Tensor, flow: Tensor, intra: Tensor | None) -> Tensor:
        """The filtered state (B, C + 1, h, w)."""
        return self.guided_filter(state, intra)


def _keyframes_of(model: GSVNet | ARSeg) -> GSVNet | ARSeg:
    """The model with nothing but what runs on keyframes."""
    if isinstance(model, ARSeg):
        return _with_parts(ARSeg, model, nn.Module(), nn.Module(), "before")
    return _with_propagation(model, NoPropagation(model.propagation))


def _with_parts(
    kind: type[ARSeg], model: ARSeg, frame_network: nn.Module, fusion: nn.Module, references: References
) -> ARSeg:
    return kind(
        model.keyframe_network,
        cast(SplitNetwork, frame_network),  # where it is none, it is not called
        cast(CrossResolutionFusion, fusion),
        classes=model.classes,
        normalise=model.normalise,
        size_rule=model.size_rule,
        scale=model.scale,
        sampling=model.sampling,
        references=references,
        resize=model.resize,
        align_corners=model.align_corners,
        memory_bytes=model.memory_bytes,
    )


def _with_propagation(model: GSVNet, part: PlainWarp | StillFilter | NoPropagation) -> GSVNet:
    return GSVNet(
        model.keyframe_network,
        cast(Propagation, part),  # it has what GSVNet calls
        classes=model.classes,
        keyframe_normalise=model.keyframe_normalise,
        frame_normalise=model.frame_normalise,
        size_rule=model.size_rule,
        keyframe_size_rule=model.keyframe_size_rule,
        resize=model.resize,
        align_corners=model.align_corners,
        keyframe_batch=model.keyframe_batch,
        frame_batch=model.frame_batch,
    )


def _segment_keyframes(model: GSVNet | ARSeg, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
    """What the model makes of position 0 of all chunks."""
    return model.segment(replace(chunks, valid=chunks.valid[:, :1], frames=None, motion=None, motion_valid=None))


def _later_positions(chunks: ChunkBatch, keyframes: LogitsBatch) -> Iterator[tuple[int, Tensor]]:
    """Every position behind the keyframe, and the rows of `keyframes` that have a valid frame there, if any has."""
    valid = chunks.valid.cpu()[keyframes.chunk]
    for position in range(1, valid.shape[1]):
        rows = valid[:, position].nonzero()[:, 0]
        if len(rows):
            yield position, rows


def _at_position(keyframes: LogitsBatch, rows: Tensor, position: int, logits: Tensor) -> LogitsBatch:
    return replace(keyframes, chunk=keyframes.chunk[rows], position=keyframes.position[rows] + position, logits=logits)


def _stay_inside(flow: Tensor) -> Tensor:
    """Flow (N, 2, h, w) that leads no farther than the border, whose logits go on outside.

    In GSVNet nothing is there, and the intra features take over; plain warping has nothing else to fall back on.
    """
    h, w = flow.shape[-2:]
    x, y = torch.arange(w, device=flow.device), torch.arange(h, device=flow.device)[:, None]
    dx, dy = flow.unbind(1)
    return torch.stack([(x + dx).clamp(0, w - 1) - x, (y + dy).clamp(0, h - 1) - y], dim=1)
