"""From logits to rows: upsample, confidence, count, encode. Runs in the worker's pool, one thread per piece of work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from gsvnet.classes import IGNORE
from gsvnet.errors import NotNumbers
from gsvnet.labeling.batching import FramePlace
from gsvnet.labeling.clock import StageClock
from gsvnet.models.segmenter import Basis, LogitsBatch
from gsvnet.nn.confidence import Calibration, measure_confidence
from gsvnet.nn.upsample import upsample_labels
from gsvnet.store.codec import encode_and_count, encode_mask
from gsvnet.store.schema import FrameRow

_RULED_OUT = -1e30  # a logit


@dataclass(frozen=True, kw_only=True)
class LabeledFrame:
    """A frame before it becomes a row. labels: (H, W) uint8; None: the frame was lost. The rest: as in FrameRow.

    uncertain: (H, W) uint8, 1 where ways to the labels differ; None: there is one way, or nobody asks.
    """

    place: FramePlace
    labels: np.ndarray | None = None
    keyframe_distance: int | None = None
    keyframe_interval: int | None = None
    confidence: float | None = None
    confidence_p05: float | None = None
    class_confidence: np.ndarray | None = None
    uncertain: np.ndarray | None = None
    drift_agreement: float | None = None
    drift_iou: np.ndarray | None = None

    @property
    def frame_index(self) -> int:
        """Where in the video it is."""
        return self.place.index

    @property
    def pts(self) -> int:
        """When it is shown."""
        return self.place.pts


@dataclass(frozen=True, kw_only=True)
class RowMaker:
    """Makes the rows of one shard. size: (height, width) of masks in pixels. time_base: seconds per tick.

    interval: most frames per chunk, where the network does not choose another. basis: what labels are drawn from
    besides their own frame, see FrameNeeds. calibration: what makes confidence the share of pixels that are right, of
    networks that have one. uncertain: also keep where ways to the labels of a frame differ.
    """

    size: tuple[int, int]
    time_base: Fraction
    num_classes: int
    clock: StageClock
    interval: int
    basis: Basis = "keyframe"
    calibration: Calibration | None = None
    uncertain: bool = False

    def label(self, output: LogitsBatch, places: Mapping[tuple[int, int], FramePlace]) -> list[FrameRow]:
        """Rows of the frames in `output`; places: by (chunk, position)."""
        return [self.make_row(frame) for frame in self.label_frames(output, places)]

    def label_frames(self, output: LogitsBatch, places: Mapping[tuple[int, int], FramePlace]) -> list[LabeledFrame]:
        """The frames in `output` with their labels, which are not encoded yet; none where its role is not "labels".

        Raises NotNumbers.
        """
        if output.role != "labels":
            return []
        found = [places[key] for key in zip(output.chunk.tolist(), output.position.tolist())]
        distances, intervals = self._measure_distances(output, found, places), self._name_intervals(output)
        with torch.inference_mode(), self.clock.stage("upsample"):
            logits = rule_out(output.logits.to(torch.float32, memory_format=torch.contiguous_format))  # once for both
            labels = upsample_labels(logits, self.size, align_corners=output.align_corners).cpu().numpy()
            confidence = measure_confidence(
                logits,
                gain=output.gain,
                calibration=self.calibration,
                distance=torch.tensor([distance or 0 for distance in distances]),
            )
            means, low, by_class = confidence.mean.tolist(), confidence.p05.tolist(), confidence.by_class.cpu().numpy()
            _check_numbers(found, means)
            uncertain = self._find_uncertain(output)
        return [
            LabeledFrame(
                place=place,
                labels=labels[n],
                keyframe_distance=distances[n],
                keyframe_interval=intervals[n],
                confidence=means[n],
                confidence_p05=low[n],
                class_confidence=by_class[n],
                uncertain=None if uncertain is None else uncertain[n],
            )
            for n, place in enumerate(found)
        ]

    def make_row(self, frame: LabeledFrame) -> FrameRow:
        """The row of a frame."""
        place = frame.place
        if frame.labels is None:
            return self.lost(place)
        with self.clock.stage("encode"):
            mask, pixels = encode_and_count(frame.labels, self.num_classes)
            mask_uncertain = None if frame.uncertain is None else encode_mask(frame.uncertain)
        return FrameRow(
            frame_index=place.index,
            pts=place.pts,
            time_s=float(place.pts * self.time_base),
            is_keyframe=frame.keyframe_distance == 0,
            keyframe_distance=frame.keyframe_distance,
            keyframe_interval=frame.keyframe_interval,
            height=self.size[0],
            width=self.size[1],
            status="damaged" if place.damaged else "ok",
            pixels=pixels,
            confidence=frame.confidence,
            confidence_p05=frame.confidence_p05,
            class_confidence=frame.class_confidence,
            mask=mask,
            mask_uncertain=mask_uncertain,
            drift_agreement=frame.drift_agreement,
            drift_iou=frame.drift_iou,
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

    def _measure_distances(
        self, output: LogitsBatch, found: list[FramePlace], places: Mapping[tuple[int, int], FramePlace]
    ) -> list[int | None]:
        """Frames to the nearest keyframe that the labels of each frame draw on: 0 where every frame is one, None where
        none is. found: where the frames of `output` are.
        """
        if self.basis != "keyframe":
            return [0 if self.basis == "itself" else None] * len(found)
        if output.keyframe is not None:
            keyframes = output.keyframe.tolist()
        elif output.start is not None:
            keyframes = [places[key].index for key in zip(output.chunk.tolist(), output.start.tolist())]
        else:
            keyframes = [place.keyframe for place in found]
        return [abs(place.index - keyframe) for place, keyframe in zip(found, keyframes)]

    def _name_intervals(self, output: LogitsBatch) -> list[int | None]:
        """Most frames per chunk where each frame is; None for networks without keyframes."""
        if self.basis != "keyframe":
            return [None] * len(output.chunk)
        return [self.interval] * len(output.chunk) if output.interval is None else output.interval.tolist()

    def _find_uncertain(self, output: LogitsBatch) -> np.ndarray | None:
        """(N, H, W) uint8: 1 where both sides of a place have a label, and not the same."""
        if not self.uncertain or output.sides is None:
            return None
        return enlarge_nearest(find_differing(output.sides), self.size, align_corners=output.align_corners)


def rule_out(logits: Tensor) -> Tensor:
    """Logits with a large negative number instead of -inf, with which a network rules classes out.

    Interpolated, -inf is no number, and wins. Raises NotNumbers where no class is left.
    """
    if logits.amin() != -torch.inf:
        return logits
    if bool((logits.amax(dim=1) == -torch.inf).any()):
        raise NotNumbers("the network rules out every class at some place of a frame: there is no label for it")
    return logits.clamp(min=_RULED_OUT)


def _check_numbers(frames: list[FramePlace], confidence: list[float]) -> None:
    """Raise NotNumbers where a frame's mean confidence is no number: it is none where one of its logits is none."""
    for frame, mean in zip(frames, confidence):
        if not math.isfinite(mean):
            raise NotNumbers(
                f"frame {frame.index}: the network's output holds NaN or infinity, and labels of that would mean "
                "nothing; are its weights sound, and its numbers within what its precision can hold?"
            )


def find_differing(sides: Tensor) -> np.ndarray:
    """(N, h, w) uint8: 1 where two labels of a place, sides (N, 2, h, w) uint8, are both there and not the same."""
    one, other = sides.cpu().numpy().swapaxes(0, 1)
    return ((one != other) & (one != IGNORE) & (other != IGNORE)).view(np.uint8)


def enlarge_nearest(maps: np.ndarray, size: tuple[int, int], *, align_corners: bool) -> np.ndarray:
    """Maps (N, h, w) at `size` (H, W): each pixel is its nearest sample, of two the later one."""
    rows, columns = (_find_nearest(n, m, align_corners) for n, m in zip(maps.shape[1:], size))
    return maps[:, rows][:, :, columns]


def _find_nearest(num_samples: int, num_pixels: int, align_corners: bool) -> np.ndarray:
    """(num_pixels,) int64: the nearest of `num_samples` samples on the same length."""
    pixels = np.arange(num_pixels)
    if not align_corners:
        return (2 * pixels + 1) * num_samples // (2 * num_pixels)
    steps = max(1, num_pixels - 1)
    return (2 * pixels * (num_samples - 1) + steps) // (2 * steps)
