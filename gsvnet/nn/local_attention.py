"""Attention over the square window around each pixel, tile by tile: the windows are never unfolded."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 8  # pixels; a window of 7 then reads 14 x 14 keys for 8 x 8 queries
TILE_ON_CPU = 4  # 10 x 10 keys for 4 x 4 queries: more to copy, but less to multiply
MOST_TILE_BYTES = 4 << 20  # of one group of tiles, queries, keys and values together; more leaves a CPU's caches
_TIMES_ON_GPU = 16  # as many of them at once: a GPU wants few large calls


def local_attention(query: Tensor, key: Tensor, value: Tensor, *, window: int = 7) -> Tensor:
    """Weighted mean (N, C, h, w) float32 of `value` over a window x window square around each pixel.

    query, key, value: (N, C, h, w). The weights are the softmax over the window of the products query . key, not
    scaled; outside the map key and value are 0, so a score of 0 takes part there. As AR-Seg's CUDA operators have it
    (Hu et al., CVPR 2023, equation 5). Scores are float32 in any case; maps that are all bfloat16 are multiplied as
    they are, in two thirds of the time. Memory: a few rows of tiles at a time, each key about (1 + (window - 1) /
    tile)^2 times.
    """
    n, _, h, w = query.shape
    on_cpu = query.device.type == "cpu"
    tile, most = (TILE_ON_CPU, MOST_TILE_BYTES) if on_cpu else (TILE, MOST_TILE_BYTES * _TIMES_ON_GPU)
    dtype = torch.bfloat16 if {query.dtype, key.dtype, value.dtype} == {torch.bfloat16} else torch.float32
    query, key, value = (x.to(dtype).movedim(1, -1) for x in (query, key, value))  # (N, h, w, C)
    rows, columns, reach = math.ceil(h / tile), math.ceil(w / tile), window // 2
    below, right = rows * tile - h, columns * tile - w
    query = F.pad(query, (0, 0, 0, right, 0, below))
    key, value = (F.pad(x, (0, 0, reach, reach + right, reach, reach + below)) for x in (key, value))
    mask = _inside_window(window, tile, query.device)
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    step = max(1, most // max(1, _bytes_of_row(query, columns, window, tile)))
    with torch.autocast(query.device.type, enabled=False):
        for first in range(0, rows, step):
            last = min(rows, first + step)
            some = slice(first * tile, last * tile)
            around = slice(first * tile, last * tile + 2 * reach)
            tiles = F.scaled_dot_product_attention(
                _cut(query[:, some], tile, tile),
                _cut(key[:, around], tile + 2 * reach, tile),
                _cut(value[:, around], tile + 2 * reach, tile),
                attn_mask=mask,
                scale=1.0,
            )
            out[:, some] = _join(tiles, n, last - first, columns, tile)
    return out[:, :h, :w].movedim(-1, 1).float()


def _cut(x: Tensor, size: int, tile: int) -> Tensor:
    """Squares of `size` that begin every `tile` pixels of (N, H, W, C): (N * tiles, 1, size * size, C)."""
    squares = x.unfold(1, size, tile).unfold(2, size, tile)  # (N, rows, columns, C, size, size)
    return squares.permute(0, 1, 2, 4, 5, 3).reshape(-1, 1, size * size, x.shape[-1])


def _join(tiles: Tensor, n: int, rows: int, columns: int, tile: int) -> Tensor:
    """(N * tiles, 1, tile * tile, C) back to (N, rows * tile, columns * tile, C)."""
    squares = tiles.view(n, rows, columns, tile, tile, -1)
    return squares.transpose(2, 3).reshape(n, rows * tile, columns * tile, -1)


def _inside_window(window: int, tile: int, device: torch.device) -> Tensor:
    """(tile * tile, keys) bool: which keys of the square around a tile lie in each query's own window."""
    behind = torch.arange(tile + window - 1, device=device) - torch.arange(tile, device=device)[:, None]
    inside = (behind >= 0) & (behind < window)  # (queries, keys) along one axis
    return (inside[:, None, :, None] & inside[None, :, None, :]).flatten(2).flatten(0, 1)


def _bytes_of_row(query: Tensor, columns: int, window: int, tile: int) -> int:
    n, channels = query.shape[0], query.shape[-1]
    keys = (tile + window - 1) ** 2
    return 4 * n * columns * (2 * (tile**2 + keys) * channels + 2 * tile**2 * keys)
