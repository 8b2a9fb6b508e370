"""Label Studio's run-length encoding of a brush mask; it is not COCO's.

It is the format of @thi.ng/rle-pack over the RGBA bytes of an image of the mask's size, row by row: 255 in all channels
of a pixel under the brush, 0 elsewhere. Bits, most significant first: 32 for the number of bytes, 5 for the bits per
value less one, 4 times 4 for the widths of a length less one; then for each run 1, two bits for the width used, the
length less one, and the value. The bytes are those of `label_studio_sdk.converter.brush.encode_rle`.
"""

from __future__ import annotations

import numpy as np

_WIDTHS = np.array([3, 4, 8, 16])
_VALUE_BITS = 8
_LONGEST = 1 << 16
_CHANNELS = 4


def encode_brush(lengths: np.ndarray) -> bytes:
    """Label Studio's RLE of a mask, given as `Runs.lengths` of its pixels row by row."""
    lengths = np.asarray(lengths, np.int64) * _CHANNELS
    values = np.arange(len(lengths)) % 2 * 255
    values, lengths = values[lengths > 0], lengths[lengths > 0]
    width = np.searchsorted(1 << _WIDTHS[:3], lengths)
    pieces = (lengths + _LONGEST - 1) // _LONGEST
    width, values, rest = np.repeat(width, pieces), np.repeat(values, pieces), np.full(pieces.sum(), _LONGEST)
    rest[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST
    num_bits = 3 + _WIDTHS[width] + _VALUE_BITS
    codes = (1 << (num_bits - 1)) | (width << (num_bits - 3)) | ((rest - 1) << _VALUE_BITS) | values
    head = [(lengths.sum(), 32), (_VALUE_BITS - 1, 5), *((each - 1, 4) for each in _WIDTHS)]
    return _pack(
        np.concatenate([[value for value, _ in head], codes]),
        np.concatenate([[bits for _, bits in head], num_bits]),
    )


def _pack(codes: np.ndarray, num_bits: np.ndarray) -> bytes:
    """The codes' bits one after the other, most significant first, then at least one and at most eight zeros."""
    ends = np.cumsum(num_bits)
    left = np.repeat(ends, num_bits) - np.arange(1, ends[-1] + 1)  # bits of the same code that follow
    bits = (np.repeat(codes, num_bits) >> left & 1).astype(np.uint8)
    packed = np.packbits(bits).tobytes()
    return packed + b"\0" if ends[-1] % 8 == 0 else packed
