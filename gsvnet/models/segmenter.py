"""The one deep interface: a VideoSegmenter turns whole chunks into logits.

It works on chunks and not on frames, so that each network decides what runs as one batch. `PerFrame` makes any
image network a VideoSegmenter; `gsvnet.models.gsvnet.GSVNet` is the first that propagates.

Shapes: B chunks, L frames per chunk, C classes, H W the size that the network reads, h w a network grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gsvnet.classes import ClassSet
from gsvnet.errors import ModelError
from gsvnet.nn.blocks import equal_batches

Resize = Literal["area", "exact"]
Basis = Literal["keyframe", "itself", "neighbours"]
Role = Literal["labels", "arrival"]


@dataclass(frozen=True, kw_only=True)
class FrameNeeds:
    """What a network wants to see of a video. Sizes are (height, width) in pixels.

    keyframe_size: of keyframes. frame_size: of every frame, the keyframe included, at the propagation grid;
    None: the network reads all frames at keyframe_size. resize: "area" averages straight from the decoder's planes
    to uint8; "exact" is the published way, corner-aligned bilinear on the full-size float frame, not antialiased.
    motion_grid: (rows, columns) on which motion to the keyframe is wanted, of every frame; None: not wanted.
    before, after: how many frames next to a batch are wanted on either side, at keyframe_size, to look at.
    next_keyframe: the keyframe that follows each chunk, and with a motion_grid motion to it too. next_frame: that
    keyframe at frame_size. every_keyframe: all frames at keyframe_size too, since the network chooses keyframes. basis:
    what a frame's labels are drawn from besides the frame: its keyframe, nothing, or the frames around it, whichever
    they are.
    """

    keyframe_size: tuple[int, int]
    frame_size: tuple[int, int] | None = None
    resize: Resize = "area"
    motion_grid: tuple[int, int] | None = None
    before: int = 0
    after: int = 0
    next_keyframe: bool = False
    next_frame: bool = False
    every_keyframe: bool = False
    basis: Basis = "keyframe"


@dataclass(frozen=True, kw_only=True)
class ChunkBatch:
    """B consecutive chunks of one shard. Pixels are RGB in 0..255, uint8 or float32.

    first_frame: index in the video of the batch's first frame. num_frames: (B,) int64, frames per chunk.
    keyframes: (B, 3, H, W), and one more at the end with FrameNeeds.next_keyframe. frames: (B, L, 3, h, w) at
    FrameNeeds.frame_size (keyframe at position 0), or None. Where frame_size is None and L > 1, frames has
    keyframe_size.
    valid: (B, L) bool, False past the end of a short chunk and for lost frames; position 0 may be False only in
    a chunk that is padding (num_frames 0). index: (B, L) int64, where in the video each frame is; of what is not valid
    it means nothing. None: all frames are there, in chunks of num_frames (`frame_index` counts them).
    before, after: (n, 3, H, W), of the FrameNeeds.before frames directly before the first frame of the batch, and of
    those after its last one, all that the video has and the decoder gave, in display order. before_index, after_index:
    (n,) int64, where in the video they are; None: without a gap up to the batch, and from there on.
    next_valid: (B,) bool with FrameNeeds.next_keyframe: keyframes[c + 1] is the one that follows chunk c. False at the
    end of a video, for padding, and where that keyframe was lost.
    motion: (B, L, 2, gh, gw) float32 on FrameNeeds.motion_grid: a frame shows at x what its keyframe shows at
    x + (dx, dy), in pixels of the motion's own grid. motion_valid: (B, L, gh, gw) bool, where that is known.
    next_motion, next_motion_valid: the same to keyframes[c + 1]. Motion is finite also where it is not known.
    next_index: (B,) int64, where in the video keyframes[c + 1] is; None: directly behind the chunk.
    next_frames: (B, 3, h, w) with FrameNeeds.next_frame: the keyframe after each chunk at frame_size; next_valid says
    which are there, as of keyframes. candidates: (B, L, 3, H, W) with FrameNeeds.every_keyframe: all frames at
    keyframe_size.
    """

    first_frame: int
    num_frames: Tensor
    keyframes: Tensor
    valid: Tensor
    frames: Tensor | None = None
    next_valid: Tensor | None = None
    motion: Tensor | None = None
    motion_valid: Tensor | None = None
    next_motion: Tensor | None = None
    next_motion_valid: Tensor | None = None
    index: Tensor | None = None
    next_index: Tensor | None = None
    before: Tensor | None = None
    before_index: Tensor | None = None
    after: Tensor | None = None
    after_index: Tensor | None = None
    next_frames: Tensor | None = None
    candidates: Tensor | None = None


def frame_index(chunks: ChunkBatch) -> Tensor:
    """(B, L) int64 on the CPU: where in the video each frame of a batch is; of what is not valid it means nothing."""
    if chunks.index is not None:
        return chunks.index.cpu()
    starts = chunks.first_frame + chunks.num_frames.cumsum(0) - chunks.num_frames
    return starts.cpu()[:, None] + torch.arange(chunks.valid.shape[1])


def next_keyframe_index(chunks: ChunkBatch) -> Tensor:
    """(B,) int64 on the CPU: where in the video each chunk's next keyframe is; where it has none it means nothing."""
    if chunks.next_index is not None:
        return chunks.next_index.cpu()
    return frame_index(chunks)[:, 0] + chunks.num_frames.cpu()


def context_index(chunks: ChunkBatch) -> tuple[Tensor, Tensor]:
    """(n,) int64 each on the CPU: where in the video the frames before a batch are, and those after it."""
    counts = [0 if frames is None else len(frames) for frames in (chunks.before, chunks.after)]
    if chunks.index is None:
        stop = chunks.first_frame + int(chunks.num_frames.sum())
    else:  # as far as the batch tells: its last frame may be lost
        own = chunks.index.cpu()[chunks.valid.cpu()]
        stop = int(own.max()) + 1 if len(own) else chunks.first_frame
    before = torch.arange(chunks.first_frame - counts[0], chunks.first_frame)
    after = torch.arange(stop, stop + counts[1])
    return (
        before if chunks.before_index is None else chunks.before_index.cpu(),
        after if chunks.after_index is None else chunks.after_index.cpu(),
    )


@dataclass(frozen=True, kw_only=True)
class LogitsBatch:
    """Logits of N frames on one grid. Not written to after they were yielded: others read them in other threads.

    chunk, position: (N,) int64, which frame of the ChunkBatch each is. logits: (N, C, h, w) float, finite, or -inf for
    a class that is ruled out; a job refuses labels of NaN and infinity (NotNumbers).
    gain: (N, 1, h, w) or None; the factor by which propagation has scaled the logits (confidence divides it out).
    keyframe: (N,) int64 or None; where in the video the nearest keyframe is that the logits draw on. None: the one that
    the chunk begins with. start: (N,) int64 or None; position of the keyframe that the frame follows, where a network
    chooses keyframes inside a chunk; interval: (N,) int64 or None, how far apart it put them. None: 0, and as asked.
    sides: (N, 2, h, w) uint8 or None; two labels of each place, from before and from behind, where there are both; 255:
    a side says nothing of a place.
    role: "labels", or "arrival": where a chunk's labels have come to at the keyframe after it, for comparison with
    that keyframe's own; chunk and position are then of the keyframe that they come from.
    align_corners: corner convention in which the logits are to be upsampled.
    """

    chunk: Tensor
    position: Tensor
    logits: Tensor
    gain: Tensor | None = None
    keyframe: Tensor | None = None
    start: Tensor | None = None
    interval: Tensor | None = None
    sides: Tensor | None = None
    role: Role = "labels"
    align_corners: bool = True


@runtime_checkable
class VideoSegmenter(Protocol):
    """A network that labels chunks. Implementations are nn.Modules without state between calls."""

    classes: ClassSet

    def needs(self, height: int, width: int) -> FrameNeeds:
        """What the network reads of a video of this size (display orientation, pixels)."""
        ...

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Logits of every valid frame, each exactly once with role "labels", in micro-batches of any order."""
        ...


@dataclass(frozen=True, kw_only=True)
class SizeRule:
    """From a video's size to the sizes that a network reads; belongs to the checkpoint.

    rows: height in pixels of the working frame that the video is brought to, aspect kept;
    None: the video's own size. keyframe_scale: keyframe size over working size; at 0.75 rounded as published
    (H // 4 * 3). strides: propagation strides over the working frame that the weights were trained for,
    descending; the largest that keeps at least `min_grid_rows` rows is used, else the smallest.
    """

    rows: int | None = None
    keyframe_scale: float = 1.0
    strides: tuple[int, ...] = (8,)
    min_grid_rows: int = 90

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the frame that keyframe and grid sizes are derived from."""
        if self.rows is None:
            return height, width
        return self.rows, max(1, round(width * self.rows / height))

    def keyframe_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of the keyframe network's input."""
        h, w = self.working_size(height, width)
        if self.keyframe_scale == 1.0:
            return h, w
        if self.keyframe_scale == 0.75:
            return max(1, h // 4 * 3), max(1, w // 4 * 3)
        return max(1, round(h * self.keyframe_scale)), max(1, round(w * self.keyframe_scale))

    def stride(self, height: int, width: int) -> int:
        """Propagation stride over the working frame."""
        rows = self.working_size(height, width)[0]
        fine_enough = [s for s in self.strides if rows // s >= self.min_grid_rows]
        return max(fine_enough, default=min(self.strides))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the propagation grid."""
        h, w = self.working_size(height, width)
        s = self.stride(height, width)
        return max(1, h // s), max(1, w // s)


class Normalise(nn.Module):
    """RGB pixels in 0..255 to a network's input: (x / scale - mean) / std, then channel order.

    mean, std: in RGB order, in the units of x / scale. channels: "rgb" or "bgr".
    """

    def __init__(
        self, *, mean: tuple[float, ...], std: tuple[float, ...], scale: float = 255.0, channels: str = "rgb"
    ) -> None:
        super().__init__()
        if channels not in ("rgb", "bgr"):
            raise ModelError(f"channel order {channels!r}; allowed: rgb, bgr")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.scale, self.channels = scale, channels

    def forward(self, x: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 or float RGB in 0..255 -> float32, normalised, in the network's channel order."""
        mean, std, pixels = self.mean, self.std, x.movedim(-3, -1)
        if not pixels.is_contiguous():
            x = (x.float() / self.scale - mean) / std
        else:  # channels-last: whole rows at once are several times as fast as pixel by pixel, to the same numbers
            width = pixels.shape[-2]
            mean, std = mean.flatten().repeat(width), std.flatten().repeat(width)
            rows = (pixels.flatten(-2).float() / self.scale).sub_(mean).div_(std)
            x = rows.unflatten(-1, (width, 3)).movedim(-1, -3)
        return x.flip(-3) if self.channels == "bgr" else x


def run_images(net: nn.Module, images: Tensor) -> Tensor:
    """What an image network says of images (N, 3, H, W). Raises ModelError unless that is of N images."""
    logits = net(images)
    if len(logits) != len(images):
        raise ModelError(f"{type(net).__name__} gave logits of {len(logits)} images for {len(images)}")
    return logits


class PerFrame(nn.Module):
    """Any image network as a VideoSegmenter: every frame is segmented by itself.

    net: module from (N, 3, H, W) normalised images to (N, C, h, w) logits on any grid.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: ClassSet,
        normalise: Normalise,
        size_rule: SizeRule | None = None,
        align_corners: bool = True,
        resize: Resize = "area",
        micro_batch: int = 8,
    ) -> None:
        super().__init__()
        self.net, self.classes, self.normalise = net, classes, normalise
        self.size_rule = size_rule or SizeRule()
        self.align_corners, self.resize, self.micro_batch = align_corners, resize, micro_batch

    def needs(self, height: int, width: int) -> FrameNeeds:
        """All frames at the size rule's keyframe size."""
        size = self.size_rule.keyframe_size(height, width)
        return FrameNeeds(keyframe_size=size, resize=self.resize, basis="itself")

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Every frame by itself, in micro-batches of one size; padding runs too and is thrown away.

        So a frame's logits do not depend on how many of its neighbours are valid.
        """
        valid = chunks.valid.cpu()
        chunk, position = torch.ones_like(valid).nonzero(as_tuple=True)
        for rows, new in equal_batches(len(chunk), self.micro_batch):
            c, p = chunk[rows], position[rows]
            images = chunks.keyframes[c] if chunks.frames is None else chunks.frames[c, p]
            logits = run_images(self.net, self.normalise(images))[new]
            kept = valid[c, p][new].nonzero()[:, 0]
            if len(kept):
                c, p, logits = c[new][kept], p[new][kept], logits[kept]
                yield LogitsBatch(chunk=c, position=p, logits=logits, align_corners=self.align_corners)
