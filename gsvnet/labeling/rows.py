"""From logits to rows: upsample, confidence, count, encode. Runs in the worker's pool, one thread per piece of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from gsvnet.labeling.batching import FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.models.segmenter import Basis, LogitsBatch
from gsvnet.nn.confidence import frame_confidence
from gsvnet.nn.upsample import upsample_labels
from gsvnet.store.codec import encode_and_count
from gsvnet.store.schema import FrameRow


@dataclass(frozen=True, kw_only=True)
class LabeledFrame:
    """A frame before it becomes a row. labels: (H, W) uint8; None: the frame was lost. The rest: as in FrameRow."""

    place: FramePlace
    labels: np.ndarray | None = None
    keyframe_distance: int | None = None
    confidence: float | None = None
    confidence_p05: float | None = None

    @property
    def frame_index(self) -> int:
        """Where in the video it is."""
        return self.place.index


@dataclass(frozen=True, kw_only=True)
class RowMaker:
    """Makes the rows of one shard. size: (height, width) of masks in pixels. time_base: seconds per tick.

    basis: what labels are drawn from besides their own frame, see FrameNeeds.
    """

    size: tuple[int, int]
    time_base: Fraction
    num_classes: int
    clock: StageClock
    basis: Basis = "keyframe"

    def label(self, output: LogitsBatch, places: Mapping[tuple[int, int], FramePlace]) -> list[FrameRow]:
        """Rows of the frames in `output`; places: by (chunk, position)."""
        return [self.make_row(frame) for frame in self.label_frames(output, places)]

    def label_frames(self, output: LogitsBatch, places: Mapping[tuple[int, int], FramePlace]) -> list[LabeledFrame]:
        """The frames in `output` with their labels, which are not encoded yet."""
        with torch.inference_mode(), self.clock.stage("upsample"):
            logits = output.logits.to(torch.float32, memory_format=torch.contiguous_format)  # once for both
            labels = upsample_labels(logits, self.size, align_corners=output.align_corners).cpu().numpy()
            confidence, confidence_p05 = (x.tolist() for x in frame_confidence(logits, output.gain))
        keys = zip(output.chunk.tolist(), output.position.tolist())
        from_next = [False] * len(labels) if output.from_next is None else output.from_next.tolist()
        return [
            LabeledFrame(
                place=place,
                labels=labels[n],
                keyframe_distance=self._distance(place, from_next=from_next[n]),
                confidence=confidence[n],
                confidence_p05=confidence_p05[n],
            )
            for n, place in enumerate(places[key] for key in keys)
        ]

    def make_row(self, frame: LabeledFrame) -> FrameRow:
        """The row of a frame."""
        place = frame.place
        if frame.labels is None:
            return self.lost(place)
        with self.clock.stage("encode"):
            mask, pixels = encode_and_count(frame.labels, self.num_classes)
        return FrameRow(
            frame_index=place.index,
            pts=place.pts,
            time_s=float(place.pts * self.time_base),
            is_keyframe=frame.keyframe_distance == 0,
            keyframe_distance=frame.keyframe_distance,
            height=self.size[0],
            width=self.size[1],
            pixels=pixels,
            confidence=frame.confidence,
            confidence_p05=frame.confidence_p05,
            mask=mask,
        )

    def lost(self, place: FramePlace) -> FrameRow:
        """The row of a frame that did not come out of the decoder: it keeps its place, without labels."""
        return FrameRow(
            frame_index=place.index,
            pts=place.pts,
            time_s=float(place.pts * self.time_base),
            is_keyframe=False,
            keyframe_distance=None,
            height=self.size[0],
            width=self.size[1],
            status="decode_error",
        )

    def _distance(self, place: FramePlace, *, from_next: bool) -> int | None:
        """Frames to the nearest keyframe that the labels draw on: 0 where every frame is one, None where none is.

        from_next: that is the one after the chunk.
        """
        if self.basis != "keyframe":
            return 0 if self.basis == "itself" else None
        if not from_next:
            return place.index - place.keyframe
        assert place.next_keyframe is not None, "labels draw on a keyframe that the network was not given"
        return place.next_keyframe - place.index
