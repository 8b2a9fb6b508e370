"""A folder of images as the chunks that a network labels: one chunk for every frame that may be a keyframe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.camvid import CamvidFrame
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.segmenter import ChunkBatch, FrameNeeds, VideoSegmenter
from gsvnet.nn.upsample import upsample_labels


@dataclass(frozen=True)
class _Pixels:
    """A frame as the network reads it, as a keyframe (3, H, W) and on the way (3, h, w), and its truth."""

    keyframe: Tensor
    frame: Tensor
    truth: np.ndarray


class OverlappingChunks:
    """Consecutive images as chunks of L frames: chunk s holds the frames s .. s + L - 1 and is short near the end.

    Frames are read when needed and kept while the following batches need them.
    """

    def __init__(
        self, frames: tuple[CamvidFrame, ...], segmenter: VideoSegmenter, *, interval: int, batch_chunks: int
    ) -> None:
        self.frames, self.segmenter, self.interval, self.batch_chunks = frames, segmenter, interval, batch_chunks
        self.size = frames[0].read()[1].shape
        self.needs = segmenter.needs(*self.size)
        _check_needs(self.needs)
        self._pixels = lru_cache(maxsize=batch_chunks + interval)(self._read)

    def truth(self, frame: int) -> np.ndarray:
        """Labels (H, W) uint8 of a frame."""
        return self._pixels(frame).truth

    def segment(self, start: int, *, device: str, bf16: bool) -> dict[tuple[int, int], np.ndarray]:
        """Labels (H, W) of the chunks start .. start + batch_chunks - 1, by (chunk, position), all inside the clip."""
        batch = self._assemble(start, device)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):  # the network alone, not the resize
            labels = dict(self._labels(batch))
        expected = {(chunk, position) for chunk, position in batch.valid.nonzero().tolist()}
        if labels.keys() != expected:
            raise ModelError(f"the model left out frames of a batch, (chunk, position): {expected - labels.keys()}")
        return labels

    def _labels(self, batch: ChunkBatch) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for output in self.segmenter.segment(batch):
            if output.role == "labels":
                labels = upsample_labels(output.logits, self.size, align_corners=output.align_corners).cpu().numpy()
                yield from zip(zip(output.chunk.tolist(), output.position.tolist()), labels)

    def _assemble(self, start: int, device: str) -> ChunkBatch:
        """Chunks of equal shape for every start; what lies past the end of the clip repeats its last frame."""
        index = torch.arange(start, start + self.batch_chunks)[:, None] + torch.arange(self.interval)
        valid = index < len(self.frames)
        index = index.clamp(max=len(self.frames) - 1)
        keyframes = torch.stack([self._pixels(s).keyframe for s in index[:, 0].tolist()])
        frames = torch.stack([self._pixels(s).frame for s in index.flatten().tolist()]).unflatten(0, index.shape)
        return ChunkBatch(
            first_frame=start,
            num_frames=valid.sum(1),
            keyframes=keyframes.to(device),
            frames=frames.to(device),
            valid=valid,
        )

    def _read(self, frame: int) -> _Pixels:
        image, truth = self.frames[frame].read()
        if truth.shape != self.size:
            raise ConfigError(f"{self.frames[frame].image}: size {truth.shape}; the first image has {self.size}")
        pixels, needs = torch.from_numpy(image).permute(2, 0, 1), self.needs
        keyframe = resize_image(pixels, needs.keyframe_size, needs.resize)
        small = resize_image(pixels, needs.frame_size, needs.resize) if needs.frame_size else keyframe
        return _Pixels(keyframe, small, truth)


def _check_needs(needs: FrameNeeds) -> None:
    """Refuse what a folder of images cannot give."""
    wanted = {
        "motion": needs.motion,
        "frames before": needs.before,
        "frames after": needs.after,
        "the next keyframe": needs.next_keyframe,
    }
    unmet = [name for name, value in wanted.items() if value]
    if unmet:
        raise ModelError(f"the model needs {', '.join(unmet)}, which the evaluation on CamVid's images does not offer")
