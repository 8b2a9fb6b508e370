"""Label Studio's run lengths, against a decoder written from the format's description, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from gsvnet.export.brush import encode_brush
from gsvnet.export.runs import find_runs


def decode(data: bytes) -> np.ndarray:
    """Values (N,) uint8: a reading of @thi.ng/rle-pack's decode, which Label Studio uses in the browser."""
    bits = "".join(f"{byte:08b}" for byte in data)
    position = 0

    def read(count):
        nonlocal position
        position += count
        return int(bits[position - count : position], 2)

    size, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < size:
        is_run = read(1)
        length = read(widths[read(2)]) + 1
        values += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    assert len(bits) - position <= 8
    return np.array(values, np.uint8)


def test_every_class_of_awkward_maps_comes_back(awkward):
    for labels in awkward:
        runs = find_runs(labels.ravel())
        for label in runs.present(11):
            found = decode(encode_brush(runs.lengths(label))).reshape(*labels.shape, 4)
            np.testing.assert_array_equal(found, np.repeat((labels == label)[..., None] * np.uint8(255), 4, axis=2))


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 5, 64, 65, 16384, 16385, 32768, 50000])
def test_lengths_around_each_width_come_back(pixels):
    mask = np.zeros(pixels + 7, bool)
    mask[3 : 3 + pixels] = True
    found = decode(encode_brush(np.array([3, pixels, 4])))
    np.testing.assert_array_equal(found, np.repeat(mask, 4) * np.uint8(255))


def test_the_bits_are_those_of_the_format():
    # 32 bits 8, 5 bits 7, widths 3 4 8 16 less one; 1 00 011 00000000: four zeros; 1 00 011 11111111: four 255
    bits = f"{8:032b}" + "00111" + "0010001101111111" + "10001100000000" + "10001111111111"
    bits += "0" * (8 - len(bits) % 8)
    expected = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    assert encode_brush(np.array([1, 1])) == expected
