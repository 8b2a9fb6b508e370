"""Masks: whatever bytes, height and width a row has, they are refused as CorruptLabels or are a map of that size.

Bytes alone rarely get past the checksum, so most inputs are sealed anew: the body, its sizes and the claimed height and
width are then as hostile as they can be.
"""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pyarrow as pa

from gsvnet.errors import CorruptLabels
from gsvnet.store.codec import MAX_PIXELS, decode_mask, encode_and_count, encode_mask, pixel_counts
from tests.fuzz.choices import Choices, damage

MOST_BYTES_PER_PIXEL = 12
_SMALL = 2**20  # bytes that any decoding may take
_ZSTD = pa.Codec("zstd", compression_level=1)


def fuzz_one(data: bytes) -> None:
    """Decode a hostile mask, or encode a map and damage that."""
    choices = Choices(data)
    match choices.below(5):
        case 0:
            height, width = _size(choices)
            decode(choices.rest(), height, width)
        case 1:
            decode(*_forged(choices))
        case 2:
            decode(*_bomb(choices))
        case 3:
            decode(*_long_chains(choices))
        case 4:
            _round_trip(choices)


def decode(data: bytes, height: int, width: int) -> None:
    """Decode within the memory that a map of this size may take."""
    tracemalloc.start()
    try:
        labels = decode_mask(data, height, width)
    except CorruptLabels:
        labels = None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    room = MOST_BYTES_PER_PIXEL * height * width if 0 < height * width <= MAX_PIXELS and height > 0 else 0
    assert peak <= _SMALL + 4 * len(data) + room, f"{peak} bytes for a mask of {height} x {width}"
    if labels is not None:
        assert (labels.shape, labels.dtype) == ((height, width), np.uint8)
        assert np.array_equal(decode_mask(encode_mask(labels), height, width), labels)


def _size(choices: Choices) -> tuple[int, int]:
    if choices.flag():
        return 1 + choices.below(64), 1 + choices.below(64)
    return choices.integer(), choices.integer()


def _sealed(body: bytes, chains: int, edges: int, height: int, width: int) -> bytes:
    rest = struct.pack("<II", chains % 2**32, edges % 2**32) + _ZSTD.compress(body, asbytes=True)
    return struct.pack("<I", zlib.crc32(rest, zlib.crc32(struct.pack("<II", height, width)))) + rest


def _forged(choices: Choices) -> tuple[bytes, int, int]:
    """A body of any chains under a right checksum."""
    height, width = 1 + choices.below(8), 1 + choices.below(16)
    chains = choices.below(height * width + 2)
    lengths = [1 + choices.below(height) if choices.below(8) else choices.below(2**32) for _ in range(min(chains, 64))]
    gaps = [choices.below(2 * width) if choices.below(8) else choices.below(2**32) for _ in lengths]
    planes = b"".join(np.array(words, "<u4").view(np.uint8).reshape(-1, 4).T.tobytes() for words in (gaps, lengths))
    body = planes + choices.rest()
    edges = len(body) - 8 * chains if choices.flag() else sum(lengths)
    return _sealed(body, chains, edges, height, width), height, width


def _bomb(choices: Choices) -> tuple[bytes, int, int]:
    """Few bytes that claim, or unpack to, much more."""
    height, width = 1 + choices.below(2**13), 1 + choices.below(2**13)
    size = choices.below(min(height * width + 2, 2**20))
    chains = choices.pick((0, 1, size // 9, choices.below(2**32)))
    edges = choices.pick((size - 8 * chains, size, choices.below(2**32)))
    return _sealed(bytes([choices.below(256)]) * size, chains, edges, height, width), height, width


def _long_chains(choices: Choices) -> tuple[bytes, int, int]:
    """Chains of many edges each, all alike, which zstd makes small."""
    height, width = 1 + choices.below(2**10), 1 + choices.below(2**10)
    chains = 1 + choices.below(width)
    rows = choices.pick((height, max(1, height * width // chains - choices.below(16))))
    gap, label, step = choices.below(16), choices.below(256), choices.below(256)
    planes = b"".join(np.full(chains, word, "<u4").view(np.uint8).reshape(-1, 4).T.tobytes() for word in (gap, rows))
    body = b"\0" + planes[1:] if choices.flag() else planes
    edges = chains * rows
    body += bytes([label]) * chains + bytes([step]) * (edges - chains)
    return _sealed(body, chains, edges, height, width), height, width


def _round_trip(choices: Choices) -> None:
    """What was encoded decodes to the same; damaged it is refused, or happens to be the same."""
    width, palette = 1 + choices.below(40), choices.take(1 + choices.below(4)) or b"\0"
    cells = choices.take(width * (1 + choices.below(40)))
    rows = max(1, len(cells) // width)
    cells = cells.ljust(rows * width, b"\0")[: rows * width]
    labels = np.frombuffer(bytes(palette[c % len(palette)] for c in cells), np.uint8).reshape(rows, width)
    data = encode_mask(labels)
    assert np.array_equal(decode_mask(data, rows, width), labels)
    known = np.where(labels < 8, labels, 255).astype(np.uint8)
    also, counts = encode_and_count(known, 8)
    assert also == encode_mask(known)
    assert counts.tolist() == pixel_counts(known, 8).tolist() == [int((known == c).sum()) for c in range(8)]
    damaged = damage(data, choices)
    decode(damaged, rows, width)
