"""The calibration that a network carries: its checkpoint's, measured by `gsvnet calibrate`.

It belongs to the network as it was measured. What is built anew around its parts, such as another keyframe network, has
none; what only runs it in another way (`transfer.py`, `prepared.py`) keeps it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsvnet.models.segmenter import Basis, LogitsBatch, VideoSegmenter
from gsvnet.nn.confidence import Calibration


def calibration_of(model: VideoSegmenter | nn.Module) -> Calibration | None:
    """What makes the model's confidence the share of pixels that are right; None where it was not measured."""
    found = getattr(model, "calibration", None)  # of a network that is not ours it may be anything
    return found if isinstance(found, Calibration) else None


def set_calibration(model: nn.Module, calibration: Calibration | None) -> None:
    """Let the model carry a calibration, or none."""
    model.calibration = calibration  # type: ignore[assignment]


def keyframe_distances(output: LogitsBatch, index: Tensor, basis: Basis) -> Tensor:
    """(N,) int64 on the CPU: frames from each frame of an output to the nearest keyframe that it draws on.

    index: (B, L), where in the video the frames of the output's batch are (`frame_index`). basis: see FrameNeeds; 0
    where labels are not drawn from a keyframe.
    """
    chunk, position = output.chunk.cpu(), output.position.cpu()
    if basis != "keyframe":
        return torch.zeros_like(position)
    if output.keyframe is not None:
        keyframe = output.keyframe.cpu()
    else:
        keyframe = index[chunk, torch.zeros_like(position) if output.start is None else output.start.cpu()]
    return (index[chunk, position] - keyframe).abs()
