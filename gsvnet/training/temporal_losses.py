"""What a network that labels frames one by one can learn from time: to say the same of neighbouring frames.

Liu et al., "Efficient Semantic Video Segmentation with Per-frame Inference", ECCV 2020: the motion-guided temporal
loss, as their code has it and without its faults. It needs no labels. What a teacher knows about several frames is in
`frame_relations.py`; its soft labels of each frame are `losses.distillation_loss`.

Flow here is (B, 2, h, w), current -> neighbour, (dx, dy) in pixels of its own grid; NaN where it is not known.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.nn.blocks import resize
from gsvnet.nn.warp import warp
from gsvnet.training.losses import distillation_loss

_fetch = partial(warp, beyond="border")


def consistency_loss(
    logits: Tensor, neighbour: Tensor, flow: Tensor, valid: Tensor | None = None, *, align_corners: bool = True
) -> Tensor:
    """Mean squared distance, () in 0..2, of the class probabilities of a frame and its neighbour's, seen from it.

    The mean over known pixels of the sum over classes; 0 where no pixel is known. logits, neighbour: (B, C, ?, ?),
    resized to the flow's grid; align_corners: their corner convention. flow: (B, 2, h, w). valid: (B, h, w) bool, of
    pixels where the flow may be believed, such as `leads_back` and `looks_alike`; known are those of them whose flow is
    known and ends inside the picture.

    Logits are what the flow fetches, as logits are what labels are enlarged from: where a sure class moves by part of a
    pixel, the frames still agree. The gradient, which both frames get, has no part along the size of all known logits:
    it is not rewarded to agree by saying less, as it is on raw logits, where shrinking them is the shortest way down.
    """
    inside = ends_inside(flow)
    known = (inside if valid is None else inside & valid)[:, None]
    with torch.autocast(logits.device.type, enabled=False):
        now, then = (resize(x.float(), flow.shape[-2:], align_corners=align_corners) for x in (logits, neighbour))
        then = _fetch(then, torch.where(inside[:, None], flow, 0.0))
        now, then = (x.softmax(dim=1) for x in _hold_size(now * known, then * known))
        return (now - then).square().sum() / known.sum().clamp(min=1)


def published_motion_loss(
    logits: Tensor, neighbour: Tensor, images: Tensor, neighbour_images: Tensor, flow: Tensor
) -> Tensor:
    """The temporal loss, (), of ETC's code (FlowModel.cal_loss), without its weight (0.1 in their recipe).

    Mean squared difference over pixels and classes of raw logits (B, C, ?, ?) at full size, each times
    exp(-|sum over R, G, B of image - neighbour's image, seen from it|), so that this weight counts squared, and colour
    differences of opposite sign cancel. Logits near zero are a way to make it small. images: (B, 3, H, W), normalised;
    flow: (B, 2, H, W), known everywhere.
    """
    now, then = (resize(x, images.shape[-2:]) for x in (logits, neighbour))
    weight = (images - _fetch(neighbour_images, flow)).sum(dim=1, keepdim=True).abs().neg().exp()
    return F.mse_loss(now * weight, _fetch(then, flow) * weight)


def published_distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student), (), as ETC's code averages it (CriterionKD): over classes too, so 1 / C of ours."""
    return distillation_loss(logits, teacher) / logits.shape[1]


def ends_inside(flow: Tensor) -> Tensor:
    """(B, h, w) bool: the flow is known, and ends between the centres of the picture's outermost pixels."""
    h, w = flow.shape[-2:]
    x, y = _ends(flow).unbind(1)
    return (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)  # False for NaN


def leads_back(flow: Tensor, back: Tensor) -> Tensor:
    """(B, h, w) bool: `back`, neighbour -> current, undoes `flow` (Sundaram et al., ECCV 2010, eq. 5).

    False where either is not known, and so where the frame shows what its neighbour does not.
    """
    inside = ends_inside(flow)
    flow, known = torch.where(inside[:, None], flow, 0.0), back.isfinite().all(dim=1, keepdim=True)
    returned = _fetch(torch.where(known, back.float(), 0.0), flow)
    inside = inside & (_fetch(known.float(), flow)[:, 0] > 0.99)  # all of the pixels that it is made of are known
    gap = (flow + returned).square().sum(dim=1)
    return inside & (gap < 0.01 * (flow.square().sum(dim=1) + returned.square().sum(dim=1)) + 0.5)


def looks_alike(images: Tensor, neighbour_images: Tensor, flow: Tensor, *, tolerance: float = 20.0) -> Tensor:
    """(B, h, w) bool: what the flow fetches from the neighbour has the frame's colour.

    images: (B, 3, h, w) in 0..255 on the flow's grid. tolerance: of the mean over R, G, B of absolute differences.
    """
    inside = ends_inside(flow)
    fetched = _fetch(neighbour_images.float(), torch.where(inside[:, None], flow, 0.0))
    return inside & ((images.float() - fetched).abs().mean(dim=1) <= tolerance)


def _hold_size(logits: Tensor, neighbour: Tensor) -> tuple[Tensor, Tensor]:
    """The same numbers, (B, C, h, w) each, with gradients that do not change the size of a pair of frames.

    Size: the root mean square of both about each pixel's mean over classes, which probabilities do not depend on.
    """
    both = torch.stack([logits, neighbour])
    size = (both - both.mean(dim=2, keepdim=True)).square().mean(dim=(0, 2, 3, 4)).clamp(min=1e-12).sqrt()
    factor = (size.detach() / size).view(-1, 1, 1, 1)  # 1, but its derivative takes back what size gains
    return logits * factor, neighbour * factor


def _ends(flow: Tensor) -> Tensor:
    """Where the flow ends, (B, 2, h, w) float32: (x, y) in pixels of its grid."""
    h, w = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(h, device=flow.device), torch.arange(w, device=flow.device), indexing="ij")
    return flow.float() + torch.stack([x, y])
