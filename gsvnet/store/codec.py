"""Label maps as bytes, without loss: contours followed from row to row.

A row of labels is a list of edges, the places where a run of one label begins. Most edges continue an edge of the
same label in the row above, a few pixels to the side. Such edges are linked into *chains*; a chain is stored as where
it begins, how many rows it lasts, its label, and one signed byte per further row. zstd does the rest. Decoding needs
no loop over rows: it sorts the edges of all chains and repeats labels. FORMAT.md has the layout and a reference
decoder; `python -m pytest tests/store/test_codec.py` holds both to the same golden bytes.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pyarrow as pa

from gsvnet.errors import CorruptLabels

CODEC = "contour1"
MAX_STEP_PX = 127  # farthest that a chain moves from one row to the next: a signed byte

_HEADER = struct.Struct("<III")  # crc32 of all that follows and of the size, chains, edges
_CHAIN_BYTES = 9  # gap and length as 32-bit words, label; its first edge has no step byte
MAX_PIXELS = 2**28  # FFmpeg decodes no larger frame
_PIXELS_PER_EDGE = 4  # where there are more edges, the labels themselves are stored
_ZSTD = pa.Codec("zstd", compression_level=6)


def encode_mask(labels: np.ndarray) -> bytes:
    """Compressed bytes of a label map (H, W) uint8; any of the 256 values is kept. Equal maps give equal bytes."""
    labels = _check_map(labels)
    return _encode(labels, _find_edges(labels))


def encode_and_count(labels: np.ndarray, num_classes: int) -> tuple[bytes, np.ndarray]:
    """`encode_mask` and `pixel_counts` of one label map; both need its edges, which are found once."""
    labels = _check_map(labels)
    edges = _find_edges(labels)
    return _encode(labels, edges), _count(labels, edges, num_classes)


def _check_map(labels: np.ndarray) -> np.ndarray:
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.size == 0 or labels.size > MAX_PIXELS:
        raise ValueError(f"a label map is (H, W) uint8 of 1 to {MAX_PIXELS} pixels, not {labels.shape} {labels.dtype}")
    return np.ascontiguousarray(labels)


def _encode(labels: np.ndarray, edges: np.ndarray) -> bytes:
    height, width = labels.shape
    if len(edges) > labels.size // _PIXELS_PER_EDGE:  # noise: linking would cost much and gain nothing
        return _seal(labels.tobytes(), 0, 0, height, width)
    chains, body = _chain_bytes(edges, labels)
    if len(body) > labels.size:
        return _seal(labels.tobytes(), 0, 0, height, width)
    return _seal(body, chains, len(edges), height, width)


def decode_mask(data: bytes, height: int, width: int) -> np.ndarray:
    """Label map (H, W) uint8 from the bytes that `encode_mask` made.

    Never takes more than 12 bytes per pixel of height * width, and no map has more than MAX_PIXELS: few bytes may claim
    a large map. Raises CorruptLabels for anything else than the bytes of a map of this size.
    """
    check_size(height, width)
    body, chains, edges = _unseal(data, height, width)
    if chains == 0:
        return body.reshape(height, width).copy()
    planes = body[: 8 * chains].reshape(2, 4, chains)
    gap, length = planes.transpose(0, 2, 1).copy().view("<u4")[..., 0].astype(np.int64)
    if length.min() < 1 or length.sum() != edges:
        raise CorruptLabels(f"chain lengths add up to {length.sum()}, not to the {edges} edges of the mask")
    first = length.cumsum() - length
    step = np.insert(body[9 * chains :].view(np.int8), first - np.arange(chains), 0)
    path = np.cumsum(step + np.int64(width))
    path += np.repeat(gap.cumsum() - path[first], length)
    order = path.argsort()
    position = path[order]
    del path  # eight bytes per edge
    runs = np.diff(position, append=height * width)
    if position[0] != 0 or runs.min() < 1:
        raise CorruptLabels("the edges of the mask do not cover its pixels once each")
    label = np.repeat(body[8 * chains : 9 * chains], length)[order]
    return np.repeat(label, runs).reshape(height, width)


def check_size(height: int, width: int) -> None:
    """Raise CorruptLabels for a size that no mask can have: whoever allocates a map of it asks first."""
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise CorruptLabels(f"a mask cannot be {height} x {width} pixels")


def pixel_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels per class (num_classes,) int32 of a label map (H, W) uint8; ignored pixels (255) are in none.

    Raises ValueError for a label that is neither a class nor 255.
    """
    labels = np.ascontiguousarray(labels)
    return _count(labels, _find_edges(labels), num_classes)


def _count(labels: np.ndarray, edges: np.ndarray, num_classes: int) -> np.ndarray:
    lengths = np.diff(edges, append=labels.size)
    counts = np.bincount(labels.reshape(-1)[edges], weights=lengths, minlength=256)
    if counts[num_classes:255].any():
        unknown = num_classes + np.flatnonzero(counts[num_classes:255])
        raise ValueError(f"labels {unknown.tolist()} in a map of {num_classes} classes")
    return counts[:num_classes].astype(np.int32)


def _find_edges(labels: np.ndarray) -> np.ndarray:
    """Flat positions, ascending int64, where a run of one label begins; every row begins one."""
    flat = labels.reshape(-1)
    edge = np.zeros(-(-flat.size // 8) * 8, bool)
    np.not_equal(flat[1:], flat[:-1], out=edge[1 : flat.size])  # one long row: a third faster than many short ones
    edge[: flat.size : labels.shape[1]] = True
    eights = edge.view(np.uint64)
    some = np.flatnonzero(eights != 0)  # few have an edge, and looking at eight pixels at once takes half the time
    inside = np.flatnonzero(eights[some].view(bool))
    return (8 * some)[inside >> 3] + (inside & 7)


def _link_edges(row: np.ndarray, column: np.ndarray, label: np.ndarray, width: int) -> np.ndarray:
    """For each edge the index of the edge that it continues, or its own.

    Two edges link when they have one label, lie in rows that follow each other, at most MAX_STEP_PX apart, and each
    is the other's nearest.
    """
    order = np.argsort(label, kind="stable")
    span = width + 2 * MAX_STEP_PX + 2  # rows are so far apart that the nearest within reach is in the right row
    key = ((label.astype(np.int64) * (row[-1] + 3) + row + 1) * span + column)[order]
    own = np.arange(len(key))
    next_above = np.searchsorted(key, key - span)
    next_below = np.bincount(next_above, minlength=len(key))[: len(key)].cumsum()  # the same search, read backwards
    above, distance = _nearest(key, key - span, next_above)
    below, _ = _nearest(key, key + span, next_below)
    linked = (distance <= MAX_STEP_PX) & (below[above] == own)
    parent = np.empty_like(own)
    parent[order] = order[np.where(linked, above, own)]
    return parent


def _nearest(keys: np.ndarray, targets: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest of ascending `keys` to each target (the lower one of two), and its distance.

    right: how many keys are smaller than each target; one that equals it may be counted.
    """
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(keys) - 1)
    to_left, to_right = np.abs(targets - keys[left]), np.abs(keys[right] - targets)
    return np.where(to_left <= to_right, left, right), np.minimum(to_left, to_right)


def _chain_bytes(edges: np.ndarray, labels: np.ndarray) -> tuple[int, bytes]:
    """Number of chains and the uncompressed body: gaps, lengths, labels, steps."""
    width = labels.shape[1]
    row = edges // width
    column = edges - row * width
    label = labels.reshape(-1)[edges]
    parent = _link_edges(row, column, label, width)
    own = np.arange(len(edges))
    root = parent
    for _ in range(int(row[-1]).bit_length()):  # each round doubles the steps towards the first edge of the chain
        root = root.take(root)
    heads = np.flatnonzero(parent == own)
    length = np.bincount(root, minlength=len(edges))[heads]
    start = np.empty_like(own)
    start[heads] = length.cumsum() - length
    place = start[root] + row - row[root]  # chain after chain, each from top to bottom
    step = np.empty(len(edges), np.int8)
    step[place] = column - column[parent]
    step = np.delete(step, start[heads])
    gap = np.diff(edges[heads], prepend=0)
    return len(heads), b"".join((_planes(gap), _planes(length), label[heads].tobytes(), step.tobytes()))


def _planes(words: np.ndarray) -> bytes:
    """32-bit words as four byte planes, lowest first: compresses better than words."""
    return words.astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()


def _seal(body: bytes, chains: int, edges: int, height: int, width: int) -> bytes:
    rest = struct.pack("<II", chains, edges) + _ZSTD.compress(body, asbytes=True)
    return struct.pack("<I", _checksum(rest, height, width)) + rest


def _unseal(data: bytes, height: int, width: int) -> tuple[np.ndarray, int, int]:
    """Body (n,) uint8, chains, edges; sizes are checked before anything is decompressed."""
    if len(data) <= _HEADER.size:
        raise CorruptLabels(f"a mask of {len(data)} bytes is too short")
    checksum, chains, edges = _HEADER.unpack_from(data)
    if checksum != _checksum(data[4:], height, width):
        raise CorruptLabels(f"the checksum of a mask does not fit: damaged bytes, or not {height} x {width} pixels")
    size = (_CHAIN_BYTES - 1) * chains + edges if chains else height * width
    most = height * width // _PIXELS_PER_EDGE if chains else height * width
    if not chains <= edges <= most or size > height * width:
        raise CorruptLabels(f"{chains} chains and {edges} edges do not fit {height} x {width} pixels")
    try:
        body = np.frombuffer(_ZSTD.decompress(data[_HEADER.size :], size), np.uint8)
    except (OSError, pa.ArrowInvalid) as error:
        raise CorruptLabels(f"a mask does not decompress: {error}") from error
    if len(body) != size:
        raise CorruptLabels(f"a mask decompresses to {len(body)} bytes, not {size}")
    return body, chains, edges


def _checksum(rest: bytes, height: int, width: int) -> int:
    return zlib.crc32(rest, zlib.crc32(struct.pack("<II", height, width)))
