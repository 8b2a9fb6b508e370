"""AR-Seg: keyframes in full resolution, the frames between in low resolution, helped by the keyframe's features.

Y. Hu, Y. He, Y. Li, J. Li, Y. Han, J. Wen, S. Liu, "Efficient Semantic Segmentation by Altering Resolutions for
Compressed Videos", CVPR 2023. Read top to bottom like the paper's figure:

    keyframe, full size --keyframe network--> feature --classifier--> logits
    other frame, half size --frame network--> feature of half the size
    keyframe's feature --warp along motion--> where the frame sees it
    both --cross-resolution fusion (CReFF)--> feature of full size --the same classifier--> logits

Motion comes from the video's codec, or from one that is run for it, and leads from each frame to its keyframe in one
hop. So nothing is recursive: all frames of all chunks are independent, and each can use the keyframe before it, the one
after it (the paper has the first only), or both.

Two ways to sample. "published" is the authors' arithmetic, whose weights need it. "exact" samples where motion says,
and takes what lies outside or is not known as nothing: features of 0, as beyond the border.

Shapes: B chunks, L frames per chunk, K feature channels, H W the keyframe feature's grid, h w the frame feature's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.choices import References
from gsvnet.classes import ClassSet
from gsvnet.errors import ModelError
from gsvnet.models.next_share import share_of_next
from gsvnet.models.segmenter import (
    ChunkBatch,
    FrameNeeds,
    LogitsBatch,
    Normalise,
    Resize,
    SizeRule,
    frame_index,
    next_keyframe_index,
)
from gsvnet.models.split import SplitNetwork
from gsvnet.nn.blocks import equal_batches, resize
from gsvnet.nn.local_attention import MOST_TILE_BYTES, local_attention
from gsvnet.nn.warp import warp, warp_as_published

CELL_PX = 8  # of the keyframe: motion is wanted in cells of this size, the smallest that codecs tell of
WINDOW = 7
Sampling = Literal["exact", "published"]
_FUSION_MAPS = 9  # float32 maps of the feature's size that live at the peak of one frame's fusion


class CrossResolutionFusion(nn.Module):
    """CReFF: each place of the low-resolution feature asks a 7x7 window of the high-resolution one (section 3.3)."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels) for _ in range(3)
        )

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """Warped keyframe feature (N, K, H, W), frame feature (N, K, h, w) -> fused feature (N, K, H, W)."""
        low = resize(low, high.shape[-2:])
        return low + local_attention(self.query(low), self.key(high), self.value(high), window=WINDOW)


def check_settings(*, scale: float = 0.5, sampling: str = "exact", references: str = "before") -> None:
    """Raises ModelError for settings that ARSeg does not know; a checkpoint may hold any value."""
    if isinstance(scale, bool | str) or not 0 < scale <= 1:
        raise ModelError(f"scale {scale!r} of the frames between keyframes: above 0 and at most 1 is allowed")
    for name, value, allowed in (
        ("sampling", sampling, get_args(Sampling)),
        ("references", references, [name for name in get_args(References) if name != "none"]),
    ):
        if value not in allowed:
            raise ModelError(f"{name} {value!r}; allowed: {', '.join(allowed)}")


class ARSeg(nn.Module):
    """Two networks of one kind, at two resolutions, and their fusion, as a VideoSegmenter.

    keyframe_network, frame_network: SplitNetworks of one class. normalise: of both networks' input. size_rule: of
    keyframes; the other frames are read at `scale` times that size. references: which keyframes a frame draws on;
    "nearest" and "both" (features mixed by nearness) need the next keyframe, leave out a keyframe to which little
    motion leads (`share_of_next`), and take the other one where none does. memory_bytes: about what `segment` may take
    for one micro-batch; one image is taken even beyond it.
    """

    def __init__(
        self,
        keyframe_network: SplitNetwork,
        frame_network: SplitNetwork,
        fusion: CrossResolutionFusion,
        *,
        classes: ClassSet,
        normalise: Normalise,
        size_rule: SizeRule | None = None,
        scale: float = 0.5,
        sampling: Sampling = "exact",
        references: References = "before",
        resize: Resize = "area",
        align_corners: bool = False,
        memory_bytes: int = 4 << 30,
    ) -> None:
        super().__init__()
        check_settings(scale=scale, sampling=sampling, references=references)
        kinds = {type(part).__name__ for part in (keyframe_network, frame_network) if isinstance(part, SplitNetwork)}
        if len(kinds) > 1:  # what stands in for the frame network, to measure without it, is none
            raise ModelError(f"AR-Seg is built of two networks of one class, not of {' and '.join(sorted(kinds))}")
        self.keyframe_network, self.frame_network, self.fusion = keyframe_network, frame_network, fusion
        self.classes, self.normalise = classes, normalise
        self.size_rule, self.scale = size_rule or SizeRule(), scale
        self.sampling: Sampling = sampling
        self.references: References = references
        self.resize, self.align_corners, self.memory_bytes = resize, align_corners, memory_bytes

    @property
    def options(self) -> dict[str, float | str]:
        """JSON-ready constructor arguments that are AR-Seg's own; all of them, defaults too."""
        return {"scale": self.scale, "sampling": self.sampling, "references": self.references}

    def needs(self, height: int, width: int) -> FrameNeeds:
        """Keyframes in full size, all frames at `scale` times that, motion in cells of 8 pixels of the keyframe."""
        h, w = self.size_rule.keyframe_size(height, width)
        return FrameNeeds(
            keyframe_size=(h, w),
            frame_size=(max(1, int(h * self.scale)), max(1, int(w * self.scale))),
            resize=self.resize,
            motion_grid=(-(-h // CELL_PX), -(-w // CELL_PX)),
            next_keyframe=self.references != "before",
        )

    def peak_bytes(self, height: int, width: int, interval: int, *, num_chunks: int = 1) -> int:
        """About what chunks of a video of this size take at most, one image at a time: kept features and work."""
        needs = self.needs(height, width)
        assert needs.frame_size is not None
        kept = self._feature_bytes(needs.keyframe_size) * (num_chunks + needs.next_keyframe)
        keyframe = self._keyframe_bytes(needs.keyframe_size)
        frame = self._frame_bytes(needs.frame_size, needs.keyframe_size) if interval > 1 else 0
        return kept + max(keyframe, frame)

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        """Keyframes, then all other frames of all chunks, in micro-batches of one size that fit into `memory_bytes`.

        Padding runs too and is thrown away: with shapes that never change, a frame's logits do not depend on how
        many of its neighbours are valid.
        """
        valid = chunks.valid.cpu()
        features: list[Tensor] = []  # (1, K, H, W) each
        keeps = chunks.frames is not None and valid.shape[1] > 1
        every_keyframe = torch.arange(len(chunks.keyframes))
        most = self.memory_bytes // self._keyframe_bytes(chunks.keyframes.shape[-2:])
        for rows, new in equal_batches(len(every_keyframe), max(1, most)):
            feature = self.keyframe_network.extract(self.normalise(chunks.keyframes[rows]))
            logits = self.keyframe_network.classify(feature)[new]
            features += feature[new].split(1) if keeps else []
            own = every_keyframe[rows][new]
            own = own[own < len(valid)]
            yield from self._yield_valid(valid, own, torch.zeros_like(own), logits[: len(own)])
        if keeps:
            yield from self._segment_frames(chunks, features, valid)

    def _segment_frames(self, chunks: ChunkBatch, features: list[Tensor], valid: Tensor) -> Iterator[LogitsBatch]:
        """All positions but the first. features: (1, K, H, W), of each keyframe."""
        assert chunks.frames is not None
        chunk, position = (i.flatten() for i in torch.meshgrid(*map(torch.arange, valid.shape), indexing="ij"))
        chunk, position = chunk[position > 0], position[position > 0]
        shares = torch.zeros(valid.shape) if self.references == "before" else share_of_next(chunks)
        keyframes = None if self.references == "before" else _find_nearest(chunks, shares)
        share = shares[chunk, position]
        size, keyframe_size = chunks.frames.shape[-2:], chunks.keyframes.shape[-2:]
        most = self.memory_bytes // self._frame_bytes(size, keyframe_size)
        for rows, new in equal_batches(len(chunk), max(1, most)):
            c, p = chunk[rows], position[rows]
            low = self.frame_network.extract(self.normalise(chunks.frames[c, p]))
            fused = self._fuse(chunks, features, low, c, p, share[rows])
            logits = self.frame_network.classify(fused)[new]
            nearest = None if keyframes is None else keyframes[c[new], p[new]]
            yield from self._yield_valid(valid, c[new], p[new], logits, keyframe=nearest)

    def _fuse(
        self, chunks: ChunkBatch, features: list[Tensor], low: Tensor, chunk: Tensor, position: Tensor, share: Tensor
    ) -> Tensor:
        """Fused features (N, K, H, W) of frames. low: their own. share: (N,), how much the next keyframe counts."""
        motion, known = _take(chunks.motion, chunks.motion_valid, chunk, position)
        brought = self.bring(_gather(features, chunk), motion, known)
        if self.references != "before":
            next_motion, next_known = _take(chunks.next_motion, chunks.next_motion_valid, chunk, position)
            following = self.bring(_gather(features, chunk + 1), next_motion, next_known)
            weights = self._weigh(known, next_known, share, brought.shape[-2:])
            brought = _mix(brought, following, *weights)
        return self.fusion(brought, low)

    def _weigh(self, known: Tensor, next_known: Tensor, share: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """How much the own and the next keyframe count at each place of the feature, (N, 1, H, W) each; sum 1 or 0.

        By nearness, but only where motion leads to them: where it does to one of both alone, that one counts, also if
        it is the farther one. Driving on, what stands at the border of a frame is gone from the next keyframe.
        """
        share = share.to(known.device).view(-1, 1, 1, 1)
        counts = share if self.references == "both" else (share > 0.5).float()
        seen, next_seen = (_on_feature(mask, size).float() for mask in (known, next_known))
        own, following = (1 - counts) * seen, counts * next_seen
        takes_over = (own + following == 0) & (share > 0) & (share < 1)
        own, following = torch.where(takes_over, seen, own), torch.where(takes_over, next_seen, following)
        total = (own + following).clamp(min=torch.finfo(own.dtype).tiny)
        return own / total, following / total

    def bring(self, feature: Tensor, motion: Tensor, known: Tensor) -> Tensor:
        """A keyframe's feature (N, K, H, W) where a frame sees it: float32.

        motion: (N, 2, gh, gw), frame -> keyframe in pixels of its own grid. known: (N, gh, gw) bool.
        """
        h, w = feature.shape[-2:]
        unit = motion.new_tensor([w / motion.shape[-1], h / motion.shape[-2]]).view(2, 1, 1)
        if self.sampling == "published":
            return warp_as_published(feature, resize(motion, (h, w)) * unit)
        seen = _on_feature(known, (h, w))
        flow = resize(motion, (h, w), align_corners=False) * unit
        brought = warp(feature, flow.masked_fill(~seen, 2.0 * max(h, w)))  # from beyond the border: nothing
        if feature.is_contiguous(memory_format=torch.channels_last):  # sampling leaves that order
            brought = brought.contiguous(memory_format=torch.channels_last)
        return brought

    def _yield_valid(
        self, valid: Tensor, chunk: Tensor, position: Tensor, logits: Tensor, keyframe: Tensor | None = None
    ) -> Iterator[LogitsBatch]:
        """One LogitsBatch of the frames that are valid, if any is."""
        kept = valid[chunk, position].nonzero()[:, 0]
        if len(kept):
            yield LogitsBatch(
                chunk=chunk[kept],
                position=position[kept],
                logits=logits[kept.to(logits.device)],
                keyframe=None if keyframe is None else keyframe[kept],
                align_corners=self.align_corners,
            )

    def _feature_bytes(self, size: tuple[int, int] | torch.Size) -> int:
        rows, columns = self.keyframe_network.feature_size(size[0], size[1])
        return 4 * self.keyframe_network.feature_channels * rows * columns

    def _keyframe_bytes(self, size: tuple[int, int] | torch.Size) -> int:
        """Of one keyframe on its way through its network."""
        return self.keyframe_network.bytes_per_pixel * size[0] * size[1] + self._feature_bytes(size)

    def _frame_bytes(self, size: tuple[int, int] | torch.Size, keyframe_size: tuple[int, int] | torch.Size) -> int:
        """Of one other frame on its way through its network and the fusion."""
        network = self.frame_network.bytes_per_pixel * size[0] * size[1]
        maps = _FUSION_MAPS + 2 * (self.references != "before")
        return max(network, maps * self._feature_bytes(keyframe_size) + MOST_TILE_BYTES)


def _find_nearest(chunks: ChunkBatch, share: Tensor) -> Tensor:
    """(B, L) int64: where in the video the keyframe is that each frame draws on most. share: (B, L), the next one's."""
    return torch.where(share > 0.5, next_keyframe_index(chunks)[:, None], frame_index(chunks)[:, :1])


def _on_feature(known: Tensor, size: Sequence[int]) -> Tensor:
    """Where motion (N, gh, gw) is known, on a feature's grid: (N, 1, H, W) bool, the nearest cell's."""
    return F.interpolate(known[:, None].float(), tuple(size), mode="nearest-exact") > 0


def _mix(own: Tensor, following: Tensor, own_weight: Tensor, next_weight: Tensor) -> Tensor:
    """Weighted sum of features (N, K, H, W); what does not count may be anything, even no number."""
    return torch.where(own_weight > 0, own * own_weight, 0) + torch.where(next_weight > 0, following * next_weight, 0)


def _take(motion: Tensor | None, known: Tensor | None, chunk: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    assert motion is not None, "AR-Seg reads the motion in ChunkBatch; to the next keyframe too where it draws on that"
    assert known is not None, "where motion is known belongs to it"
    return motion[chunk, position], known[chunk, position]


def _gather(features: list[Tensor], keyframes: Tensor) -> Tensor:
    """(N, K, H, W) of the wished keyframes; not indexed out of one tensor, which would hold them all once more."""
    return torch.cat([features[i] for i in keyframes.tolist()])
