"""Full-size labels from small logits, without ever making full-size logits.

Bilinear interpolation is a convex combination of four corners. Where one class leads every other at all four corners
of a cell, it leads everywhere in the cell, so the whole cell is filled. Only the pixels of the other, *mixed* cells
are computed, and for them only the classes that no corner winner dominates: nearly always two. Both shortcuts keep a
margin for the rounding of float32, and what is computed follows torch's own order of operations, so the labels are
those of interpolate + argmax.

Why a margin of the leader's own size is enough: each step of the interpolation rounds, but keeps order. So whatever
the followers are, none gets above a class that is lower than the leader by the margin everywhere; and for that pair,
four roundings each of half an ulp of the leader's largest |logit| are less than 8 ulp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_MARGIN = 8 * torch.finfo(torch.float32).eps  # of the leader's largest |logit|, by which to lead
_SMALLEST = 1e-30  # what smaller logits count as: near 0, rounding is absolute
_BLOCK_PIXELS = 1 << 18  # pixels of mixed cells, or of a strip, computed at a time


@torch.no_grad()
def upsample_labels(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Labels (N, H, W) uint8, equal to `F.interpolate(logits, size, mode="bilinear", align_corners=...).argmax(1)`.

    logits: (N, C, h, w) float, C <= 255, on any device; half precision is brought to float32 first. size: (H, W) in
    pixels. Ties go to the lowest class. Where two classes are within the rounding of float32 of each other, torch's
    own kernels disagree about the winner; elsewhere the labels are equal. NaN and infinite logits are allowed and
    give what torch gives (NaN wins; infinity times weight 0 is NaN), at the price of the slow way for the whole
    batch: switch a class off with a large negative number rather than with -inf.

    Memory beside input and output: half of the float32 input again, and blocks of a fixed number of pixels.
    """
    num_classes = logits.shape[1]
    assert num_classes <= 255, num_classes
    logits = logits.to(torch.float32, memory_format=torch.contiguous_format).contiguous()
    rows = _axis(logits.shape[2], size[0], align_corners, logits.device)
    columns = _axis(logits.shape[3], size[1], align_corners, logits.device)
    best = logits.amax(1, keepdim=True)
    if not (rows.grows and columns.grows and bool((best.amax() - logits.amin()).isfinite())):
        return _label_strips(logits, rows, columns)

    lowest, highest = _leaders(logits, best)
    first, last = _over_corners(lowest, torch.minimum), _over_corners(highest, torch.maximum)
    mixed = (first != last) & rows.occupied[:, None] & columns.occupied
    labels = _pick(lowest, columns.lower).index_select(1, rows.lower)  # right wherever the cell is uniform
    cells = mixed.flatten().nonzero().flatten()
    for block in cells.split(max(1, _BLOCK_PIXELS // (len(rows.pixels) * len(columns.pixels)))):
        champions = torch.stack((first.take(block), last.take(block)))
        _fill_mixed_cells(labels, logits, block, champions, rows, columns)
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
    grows: bool  # m > n: else there are cells without a pixel, and nothing to gain from cells
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
    cell = torch.where((lower == 0) & (second == 0), 0, lower + 1)
    if not align_corners and n != m:  # beyond the last sample torch takes it twice, which matters where it is infinite
        beyond = (torch.arange(m, device=device) + 0.5) * (n / m) - 0.5 > n - 1
        first, second = torch.where(beyond, first / 2, first), torch.where(beyond, first / 2, second)
    weights = torch.stack((first, second))
    counts = torch.bincount(cell, minlength=n + 1)
    last = counts.cumsum(0) - 1
    offsets = torch.arange(int(counts.max()), device=device)[:, None]
    pixels = torch.minimum(last - counts + 1 + offsets, last).clamp(min=0)
    axis = _Axis(
        num_samples=n,
        grows=m > n,
        lower=lower,
        upper=upper,
        weights=weights,
        occupied=counts > 0,
        pixels=pixels,
        cell_weights=weights[:, pixels],
    )
    if device.type == "cuda":  # kept for other threads too, whose streams do not wait for this one
        torch.cuda.current_stream(device).synchronize()
    return axis


def _leaders(logits: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest class, each (N, h, w) uint8, within the margin of the best of each sample.

    logits: (N, C, h, w). best: (N, 1, h, w), their maximum. Where the two are equal, one class leads by the margin.
    """
    num_classes = logits.shape[1]
    margin = best.abs().amax((1, 2, 3), keepdim=True).clamp(min=_SMALLEST) * _MARGIN
    close = logits >= best - margin
    upwards = torch.arange(1, num_classes + 1, dtype=torch.uint8, device=logits.device).view(-1, 1, 1)
    # max(1) with indices is many times slower than this on a CPU
    return num_classes - (close * upwards.flip(0)).amax(1), (close * upwards).amax(1) - 1


def _pick(table: Tensor, places: Tensor) -> Tensor:
    """(..., M): table (..., k) at places (M,) of its last axis, where gather is many times faster than index_select."""
    return table.gather(-1, places.expand(*table.shape[:-1], -1))


def _over_corners(samples: Tensor, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(N, h+1, w+1): reduce of the four corners of each cell; samples (N, h, w) are repeated beyond the border."""
    rows = torch.cat((samples[:, :1], reduce(samples[:, 1:], samples[:, :-1]), samples[:, -1:]), 1)
    return torch.cat((rows[..., :1], reduce(rows[..., 1:], rows[..., :-1]), rows[..., -1:]), 2)


def _corner_samples(frame: Tensor, i: Tensor, j: Tensor, shape: torch.Size) -> Tensor:
    """(4, M) int64: samples at upper left, upper right, lower left and lower right of M cells, in class 0 of logits
    (N, C, h, w) laid flat. The same samples of the next class are h * w further.
    """
    num_classes, h, w = shape[1:]
    top, bottom = (i - 1).clamp(min=0), i.clamp(max=h - 1)
    left, right = (j - 1).clamp(min=0), j.clamp(max=w - 1)
    top, bottom = (frame * num_classes * h + top) * w, (frame * num_classes * h + bottom) * w
    return torch.stack((top + left, top + right, bottom + left, bottom + right))


def _unravel(cells: Tensor, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frame, row and column of cells that are numbered over (N, h+1, w+1)."""
    return cells // ((h + 1) * (w + 1)), cells // (w + 1) % (h + 1), cells % (w + 1)


def _contenders(logits: Tensor, corners: Tensor, champions: Tensor) -> Tensor:
    """(C, M) bool: classes that may win somewhere in a cell, that is all that no champion leads at all corners.

    logits: (N, C, h, w). corners: (4, M), as of `_corner_samples`. champions: (k, M), classes that win some corner.
    """
    num_classes, plane = logits.shape[1], logits[0, 0].numel()
    planes = logits.as_strided((num_classes, logits.numel() - (num_classes - 1) * plane), (plane, 1))
    values = _pick(planes, corners.flatten()).unflatten(1, corners.shape)
    contends = torch.ones(num_classes, corners.shape[1], dtype=torch.bool, device=logits.device)
    for champion in champions.long():
        leader = values.gather(0, champion.expand(1, 4, -1))
        margin = leader.abs().amax(1).clamp(min=_SMALLEST) * _MARGIN
        contends &= (values - leader).amax(1) >= -margin
    return contends


def _fill_mixed_cells(
    labels: Tensor, logits: Tensor, cells: Tensor, champions: Tensor, rows: _Axis, columns: _Axis
) -> None:
    """Write the labels of the pixels in M mixed cells into labels (N, H, W).

    logits: (N, C, h, w). champions: (k, M).
    """
    frame, i, j = _unravel(cells, rows.num_samples, columns.num_samples)
    corners = _corner_samples(frame, i, j, logits.shape)
    order, entrants = _line_up(_contenders(logits, corners, champions))
    frame, i, j, corners = frame[order], i[order], j[order], corners[:, order]
    weights_y, weights_x = _pick(rows.cell_weights, i), _pick(columns.cell_weights, j)
    label = _compete(logits, corners, entrants, weights_y, weights_x)
    height, width = labels.shape[1:]
    pixels = ((frame * height + _pick(rows.pixels, i)) * width)[:, None] + _pick(columns.pixels, j)
    labels.view(-1).scatter_(0, pixels.flatten(), label.flatten())


def _line_up(contends: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Order (M,) of the cells by their number of contenders, most first; and each round's classes, ascending.

    contends: (C, M) bool. Round r has the r-th contenders of the first m_r cells in that order, (m_r,) uint8. The first
    two rounds have all cells: nearly all have two contenders. Where there is but one, the last class is its second.
    """
    rank = contends.cumsum(0, dtype=torch.uint8)
    order = rank[-1].argsort(descending=True, stable=True)
    rank = _pick(rank, order)
    rounds = torch.arange(2, max(3, len(rank)), dtype=torch.uint8, device=rank.device)
    sizes = [len(order)] * 2 + (rank[-1] > rounds[:, None]).sum(1).tolist()
    # as many classes come before the r-th contender as have a rank of at most r
    return order, [
        (rank[:, :m] <= r).view(torch.uint8).sum(0, dtype=torch.uint8).clamp(max=len(rank) - 1)
        for r, m in enumerate(sizes)
        if m or r < 2
    ]


def _compete(logits: Tensor, corners: Tensor, entrants: list[Tensor], weights_y: Tensor, weights_x: Tensor) -> Tensor:
    """Winner (ky, kx, M) uint8 at each pixel of M cells; ties go to the earlier round."""
    best = _scores(logits, corners, entrants[0], weights_y, weights_x)
    label = entrants[0].expand(best.shape).clone()
    for classes, followers in zip(entrants[1:], [*entrants[2:], entrants[0][:0]]):
        m, n = len(classes), len(followers)
        score = _scores(logits, corners[:, :m], classes, weights_y[..., :m], weights_x[..., :m])
        leader = label[..., :m]
        leader += (score > best).view(torch.uint8) * (classes - leader)  # modulo 256; torch.where is slower on bytes
        best = torch.maximum(best[..., :n], score[..., :n])
    return label


def _scores(logits: Tensor, corners: Tensor, classes: Tensor, weights_y: Tensor, weights_x: Tensor) -> Tensor:
    """Logits (ky, kx, M) of one class per cell, at the pixels of the cell."""
    places = corners + classes.long() * logits[0, 0].numel()
    values = _pick(logits.view(-1), places.flatten()).view(4, 1, -1)
    sides = _mix(values[0::2], values[1::2], weights_x[:, None])
    return _mix(sides[0], sides[1], weights_y[:, :, None])


def _mix(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """a * weights[0] + b * weights[1], rounded as ATen's CPU kernel rounds: the second product, then fused."""
    return (b * weights[1]).addcmul_(a, weights[0])


def _label_strips(logits: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Labels (N, H, W) by computing every pixel: columns first, then strips of rows."""
    height, width = len(rows.lower), len(columns.lower)
    labels = torch.empty(len(logits), height, width, dtype=torch.uint8, device=logits.device)
    strips = torch.arange(height, device=logits.device).split(max(1, _BLOCK_PIXELS // (2 * width)))
    for frame, out in zip(logits, labels):
        for y in strips:
            top, bottom = (
                _mix(frame[:, r][..., columns.lower], frame[:, r][..., columns.upper], columns.weights)
                for r in (rows.lower[y], rows.upper[y])
            )
            out[y] = _mix(top, bottom, rows.weights[:, y, None]).max(0).indices.to(torch.uint8)
    return labels
