"""Full-size labels from small logits, without ever making full-size logits.

Bilinear interpolation is a convex combination of four corners. Where one class leads every other at all four corners
of a cell, it leads everywhere in the cell, so the whole cell is filled. Only the pixels of the other, *mixed* cells
are computed, and for them only the classes that no corner winner dominates. Both shortcuts keep a margin for the
rounding of float32, and what is computed follows torch's own order of operations, so the labels are those of
interpolate + argmax.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_MARGIN = 8 * torch.finfo(torch.float32).eps  # a lead of 8 ulp of the largest |logit| outlasts every rounding
_BLOCK_PIXELS = 1 << 17  # pixels of mixed cells, or of a strip, computed at a time


@torch.no_grad()
def upsample_labels(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Labels (N, H, W) uint8, equal to `F.interpolate(logits, size, mode="bilinear", align_corners=...).argmax(1)`.

    logits: (N, C, h, w) float, C <= 255, on any device; half precision is brought to float32 first. size: (H, W) in
    pixels. Ties go to the lowest class. Where two classes are within the rounding of float32 of each other, torch's
    own kernels disagree about the winner; elsewhere the labels are equal. NaN and infinite logits are allowed and
    give what torch gives (NaN wins; infinity times weight 0 is NaN), at the price of the slow way for the whole
    batch: switch a class off with a large negative number rather than with -inf.

    Memory beside input and output: a few maps (N, h, w) and blocks of a fixed number of pixels.
    """
    num_classes = logits.shape[1]
    assert num_classes <= 255, num_classes
    logits = logits.float().contiguous()
    height, width = size
    rows = _axis(logits.shape[2], height, align_corners, logits.device)
    columns = _axis(logits.shape[3], width, align_corners, logits.device)
    if height <= logits.shape[2] or width <= logits.shape[3]:  # cells without a pixel: nothing to gain
        return _label_strips(logits, rows, columns)

    winner, margin, mixed = _classify_cells(logits)
    cells = (mixed & rows.occupied[:, None] & columns.occupied).flatten().nonzero().flatten()
    if not bool(margin.isfinite().all()):
        return _label_strips(logits, rows, columns)
    labels = winner.index_select(2, columns.lower).index_select(1, rows.lower)  # right wherever the cell is uniform
    planes = logits.transpose(0, 1).flatten(1)  # (C, N*h*w)
    for block in cells.split(max(1, _BLOCK_PIXELS // (len(rows.pixels) * len(columns.pixels)))):
        corners = _corner_samples(block, rows.num_samples, columns.num_samples)
        values = planes.index_select(1, corners.flatten()).unflatten(1, corners.shape)  # (C, 4, M)
        contends = _contenders(values, winner.flatten()[corners], margin.flatten()[block])
        _fill_mixed_cells(labels, block, values, contends, rows, columns)
    return labels


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """How one axis of length n is brought to length m.

    lower, upper: (m,) int64, the two samples that an output is mixed from; weights: (2, m) float32, theirs.
    The n+1 cells: cell i lies between the samples i-1 and i; the first and the last one lie beyond the border.
    occupied: (n+1,) bool, cells with outputs. pixels: (k, n+1) int64, the outputs in each occupied cell, the last one
    repeated up to k. cell_weights: (2, k, n+1) float32, theirs.
    """

    num_samples: int
    lower: Tensor
    upper: Tensor
    weights: Tensor
    occupied: Tensor
    pixels: Tensor
    cell_weights: Tensor


@lru_cache(maxsize=32)
def _axis(n: int, m: int, align_corners: bool, device: torch.device) -> _Axis:
    """Indices and weights of one axis, read off torch's own interpolation of unit vectors, so exactly torch's."""
    unit = torch.eye(n, device=device).view(n, 1, n, 1)
    response = F.interpolate(unit, (m, 1), mode="bilinear", align_corners=align_corners).view(n, m)
    lower = (response > 0).to(torch.uint8).argmax(0)  # the first of the at most two samples with a weight
    upper = (lower + 1).clamp(max=n - 1) if n != m else lower
    first = response.gather(0, lower[None])[0]
    second = torch.where(upper > lower, response.gather(0, upper[None])[0], 0)
    weights = torch.stack((first, second))
    cell = torch.where((lower == 0) & (second == 0), 0, lower + 1)
    counts = torch.bincount(cell, minlength=n + 1)
    last = counts.cumsum(0) - 1
    offsets = torch.arange(int(counts.max()), device=device)[:, None]
    pixels = torch.minimum(last - counts + 1 + offsets, last).clamp(min=0)
    return _Axis(
        num_samples=n,
        lower=lower,
        upper=upper,
        weights=weights,
        occupied=counts > 0,
        pixels=pixels,
        cell_weights=weights[:, pixels],
    )


def _classify_cells(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits (N, C, h, w): the winning class (N, h, w) uint8, and per cell (N, h+1, w+1) float32 the margin that a
    lead must exceed and bool whether the cell is mixed. Cell (i, j) lies between the samples (i-1, j-1) and (i, j).
    """
    num_classes = logits.shape[1]
    best = logits.amax(1, keepdim=True)
    # max(1) with indices is five times slower than this on a CPU
    countdown = torch.arange(num_classes, 0, -1, dtype=torch.uint8, device=logits.device).view(-1, 1, 1)
    winner = num_classes - ((logits == best) * countdown).amax(1).clamp(min=1)
    others = logits.scatter(1, winner[:, None].long(), -torch.inf).amax(1)
    largest = torch.maximum(best[:, 0], -logits.amin(1))
    margin = _over_corners(largest, torch.maximum) * _MARGIN
    lead = _over_corners(best[:, 0] - others, torch.minimum)
    same = _over_corners(winner, torch.maximum) == _over_corners(winner, torch.minimum)
    return winner, margin, ~(same & (lead > margin))


def _over_corners(samples: Tensor, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(N, h+1, w+1): reduce of the four corners of each cell; samples (N, h, w) are repeated beyond the border."""
    rows = torch.cat((samples[:, :1], reduce(samples[:, 1:], samples[:, :-1]), samples[:, -1:]), 1)
    return torch.cat((rows[..., :1], reduce(rows[..., 1:], rows[..., :-1]), rows[..., -1:]), 2)


def _corner_samples(cells: Tensor, h: int, w: int) -> Tensor:
    """(4, M) int64: samples at upper left, upper right, lower left and lower right of M cells, flat over (N, h, w)."""
    frame, i, j = _unravel(cells, h, w)
    top, bottom = (i - 1).clamp(min=0), i.clamp(max=h - 1)
    left, right = (j - 1).clamp(min=0), j.clamp(max=w - 1)
    top, bottom = (frame * h + top) * w, (frame * h + bottom) * w
    return torch.stack((top + left, top + right, bottom + left, bottom + right))


def _unravel(cells: Tensor, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frame, row and column of cells that are numbered over (N, h+1, w+1)."""
    return cells // ((h + 1) * (w + 1)), cells // (w + 1) % (h + 1), cells % (w + 1)


def _contenders(values: Tensor, winners: Tensor, margin: Tensor) -> Tensor:
    """(C, M) bool: classes that may win somewhere in a cell, that is all that no corner winner leads at all corners.

    values: (C, 4, M) corner logits. winners: (4, M). margin: (M,), by which to lead.
    """
    contends = torch.ones(values.shape[0], values.shape[2], dtype=torch.bool, device=values.device)
    floor = values + margin
    for winner in winners.long():
        champion = values.gather(0, winner.expand(1, 4, -1))
        contends &= (floor >= champion).any(1)
    return contends


def _fill_mixed_cells(
    labels: Tensor, cells: Tensor, values: Tensor, contends: Tensor, rows: _Axis, columns: _Axis
) -> None:
    """Write the labels of the pixels in M mixed cells into labels (N, H, W).

    values: (C, 4, M) corner logits. contends: (C, M). Cells are sorted by their number of contenders, most first, so
    that round r compares the r-th contender of the first few cells: contiguous slices, as many rounds as contenders.
    """
    count, order = contends.sum(0).sort(descending=True, stable=True)
    cells, values, contends = cells[order], values[:, :, order], contends[:, order]
    cell, contender = contends.T.nonzero(as_tuple=True)
    turn = torch.arange(len(cell), device=cells.device) - (count.cumsum(0) - count)[cell]
    entrants = torch.zeros_like(contends, dtype=torch.int64).index_put((turn, cell), contender)  # ascending: ties
    entries = (entrants.new_tensor(range(len(values)))[:, None] < count).sum(1).tolist()

    frame, i, j = _unravel(cells, rows.num_samples, columns.num_samples)
    weights_y, weights_x = rows.cell_weights[:, :, None, i], columns.cell_weights[:, :, j]
    best = torch.full((len(rows.pixels), len(columns.pixels), len(cells)), -torch.inf, device=labels.device)
    label = torch.zeros_like(best, dtype=torch.uint8)
    for classes, m in zip(entrants, entries):
        if m == 0:
            break
        corners = values[:, :, :m].gather(0, classes[:m].expand(1, 4, -1))[0]
        top, bottom = _mix(corners[0::2, None], corners[1::2, None], weights_x[:, None, :, :m])
        score = _mix(top, bottom, weights_y[..., :m])
        ahead = score > best[..., :m]
        best[..., :m] = torch.where(ahead, score, best[..., :m])
        label[..., :m] = torch.where(ahead, classes[:m].to(torch.uint8), label[..., :m])
    height, width = labels.shape[1:]
    pixels = (frame * height + rows.pixels[:, i])[:, None] * width + columns.pixels[:, j]
    labels.view(-1).scatter_(0, pixels.flatten(), label.flatten())


def _mix(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """a * weights[0] + b * weights[1], rounded as ATen's CPU kernel rounds: the second product, then fused."""
    return torch.addcmul(b * weights[1], a, weights[0])


def _label_strips(logits: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Labels (N, H, W) by computing every pixel: columns first, then strips of rows."""
    height, width = len(rows.lower), len(columns.lower)
    labels = torch.empty(len(logits), height, width, dtype=torch.uint8, device=logits.device)
    strips = torch.arange(height, device=logits.device).split(max(1, _BLOCK_PIXELS // width))
    for frame, out in zip(logits, labels):
        for y in strips:
            top, bottom = (
                _mix(frame[:, r][..., columns.lower], frame[:, r][..., columns.upper], columns.weights)
                for r in (rows.lower[y], rows.upper[y])
            )
            out[y] = _mix(top, bottom, rows.weights[:, y, None]).max(0).indices.to(torch.uint8)
    return labels
