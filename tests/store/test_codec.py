"""The mask codec: lossless, stable in its bytes, safe against hostile ones, and as FORMAT.md prints it."""

from __future__ import annotations

import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gsvnet.store.codec as codec
from gsvnet.errors import CorruptLabels
from gsvnet.store.codec import decode_mask, encode_and_count, encode_mask, pixel_counts


def scene(height: int = 24, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    labels = np.where((x - 15) ** 2 + (y - 11) ** 2 < 70, 8, np.where(y > 14 + x // 8, 3, 0)).astype(np.uint8)
    labels[:2, -2:] = 255
    return labels


def noise(height: int, width: int, values: int = 5) -> np.ndarray:
    return (np.arange(height * width) * 2654435761 >> 7).reshape(height, width).astype(np.uint32) % values


MAPS = {
    "scene": scene(),
    "large scene": scene(300, 500),
    "one pixel": np.zeros((1, 1), np.uint8),
    "flat": np.full((64, 64), 7, np.uint8),
    "all ignored": np.full((9, 5), 255, np.uint8),
    "one row": np.repeat(np.arange(40, dtype=np.uint8), 25)[None],
    "one column": np.repeat(np.arange(40, dtype=np.uint8), 25)[:, None],
    "columns": np.tile(np.repeat(np.arange(20, dtype=np.uint8), 7), (50, 1)),
    "rows": np.tile(np.repeat(np.arange(20, dtype=np.uint8), 7)[:, None], (1, 50)),
    "noise": noise(60, 70).astype(np.uint8),
    "every value": np.repeat(np.arange(256, dtype=np.uint8), 32).reshape(64, 128),
    "steep": (np.add.outer(np.arange(40) * 127, np.arange(3000)) // 1500 % 3).astype(np.uint8),
    "steeper": (np.add.outer(np.arange(40) * 128, np.arange(3000)) // 1500 % 3).astype(np.uint8),
}

# Bytes that version 1 wrote. They must decode for ever; a change of what is written needs a new codec name.
GOLDEN = {
    "scene": "7180c304060000003d00000028b52ffd206dfd0100d402001e4f056e550000000001000f02110f090300ff080003feffffff"
    "00ff01000101010202010101ff00ff02fffe0600490999c2a096a0ec4408f00c0792",
    "one pixel": "7cf29b63000000000000000028b52ffd200109000000",
    "flat": "bce55726010000004000000028b52ffd204885000050000000004000000007000100930012",
    "noise 6x10": "f7222f23000000000000000028b52ffd203ccd00007800040303020101000204010004040303008016c0dd1d850b",
}
GOLDEN_MAPS = {**MAPS, "noise 6x10": noise(6, 10).astype(np.uint8)}


def reference_decoder():
    """The decoder that FORMAT.md prints."""
    text = (Path(codec.__file__).parent / "FORMAT.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(source[source.index("def ") :].strip().splitlines()) <= 15
    names: dict = {}
    exec(source, names)
    return names["decode_mask"]


@pytest.mark.parametrize("name", MAPS)
def test_decoding_gives_the_map_back(name):
    labels = MAPS[name]
    np.testing.assert_array_equal(decode_mask(encode_mask(labels), *labels.shape), labels, strict=True)


@pytest.mark.parametrize("name", MAPS)
def test_the_printed_reference_decoder_agrees(name):
    labels = MAPS[name]
    np.testing.assert_array_equal(reference_decoder()(encode_mask(labels), *labels.shape), labels)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 3)))
@settings(max_examples=150)
def test_any_map_survives(labels):
    data = encode_mask(labels)
    np.testing.assert_array_equal(decode_mask(data, *labels.shape), labels)
    np.testing.assert_array_equal(reference_decoder()(data, *labels.shape), labels)


@given(
    st.lists(st.tuples(*[st.integers(0, 60)] * 4, st.integers(0, 255)), max_size=12),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_any_map_of_rectangles_survives(rectangles, height, width):
    labels = np.zeros((height, width), np.uint8)
    for y, x, h, w, value in rectangles:
        labels[y : y + h, x : x + w] = value
    np.testing.assert_array_equal(decode_mask(encode_mask(labels), height, width), labels)


def test_a_view_that_is_not_contiguous_is_encoded_as_it_looks():
    labels = scene(40, 60)[::2, ::3]
    np.testing.assert_array_equal(decode_mask(encode_mask(labels), *labels.shape), labels)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes_decode(name):
    labels = GOLDEN_MAPS[name]
    np.testing.assert_array_equal(decode_mask(bytes.fromhex(GOLDEN[name]), *labels.shape), labels)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_compressed_is_what_golden_bytes_hold(name):
    """All but zstd's own bytes, which its versions may choose differently."""
    ours, golden = encode_mask(GOLDEN_MAPS[name]), bytes.fromhex(GOLDEN[name])
    assert codec.CODEC == "contour1"
    assert ours[4:12] == golden[4:12]
    size = GOLDEN_MAPS[name].size
    chains, edges = struct.unpack_from("<II", golden, 4)
    size = 8 * chains + edges if chains else size
    unzip = pa.Codec("zstd").decompress
    assert unzip(ours[12:], size).to_pybytes() == unzip(golden[12:], size).to_pybytes()


def test_a_scene_takes_less_than_a_tenth_of_its_edges_as_words():
    labels = scene(300, 500)
    num_edges = 300 + np.count_nonzero(labels[:, 1:] != labels[:, :-1])
    assert len(encode_mask(labels)) < 0.1 * 4 * num_edges


def test_noise_is_stored_as_it_is():
    labels = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    assert len(encode_mask(labels)) < labels.size + 64


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.int64), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_label_map_is_refused(bad):
    with pytest.raises(ValueError, match="label map"):
        encode_mask(bad)


def test_every_flipped_bit_is_noticed():
    labels = scene()
    data = encode_mask(labels)
    for at in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            with pytest.raises(CorruptLabels):
                decode_mask(bytes(broken), *labels.shape)


def test_every_truncation_and_any_tail_is_noticed():
    labels = scene()
    data = encode_mask(labels)
    for broken in [*(data[:n] for n in range(len(data))), data + b"\0"]:
        with pytest.raises(CorruptLabels):
            decode_mask(broken, *labels.shape)


@pytest.mark.parametrize("size", [(32, 24), (24, 31), (23, 32), (25, 32), (0, 32), (-1, -1), (2**31, 2**31)])
def test_another_size_is_noticed(size):
    with pytest.raises(CorruptLabels):
        decode_mask(encode_mask(scene()), *size)


def forge(body: bytes, chains: int, edges: int, height: int = 4, width: int = 4) -> bytes:
    """Bytes with a right checksum and wrong content."""
    rest = struct.pack("<II", chains, edges) + pa.Codec("zstd").compress(body, asbytes=True)
    return struct.pack("<I", zlib.crc32(rest, zlib.crc32(struct.pack("<II", height, width)))) + rest


def one_chain(gap: int, rows: int, steps: list[int]) -> bytes:
    planes = lambda word: struct.pack("<I", word)  # noqa: E731 one chain: planes are the word
    return planes(gap) + planes(rows) + b"\1" + bytes(s % 256 for s in steps)


@pytest.mark.parametrize(
    "data",
    [
        forge(one_chain(0, 4, [0, 0, 0]), 1, 2**32 - 1),
        forge(one_chain(0, 4, [0, 0, 0]), 2**32 - 1, 4),
        forge(one_chain(0, 5, [0, 0, 0]), 1, 4),
        forge(one_chain(0, 0, [0, 0, 0]), 1, 4),
        forge(one_chain(0, 2**32 - 1, [0, 0, 0]), 1, 4),
        forge(one_chain(1, 4, [0, 0, 0]), 1, 4),
        forge(one_chain(0, 4, [0, 0, 100]), 1, 4),
        forge(one_chain(0, 4, [-4, 0, 0]), 1, 4),
        forge(one_chain(0, 4, [-128, 0, 0]), 1, 4),
        forge(one_chain(2**32 - 1, 4, [0, 0, 0]), 1, 4),
        forge(bytes(100_000), 1, 4),
        forge(bytes(15), 0, 0),
        forge(bytes(17), 0, 0),
        forge(b"", 0, 0),
        b"",
        bytes(12),
        bytes(200),
    ],
)
def test_forged_bytes_with_a_right_checksum_are_noticed(data):
    with pytest.raises(CorruptLabels):
        decode_mask(data, 4, 4)


def test_a_forged_mask_that_is_right_decodes():
    np.testing.assert_array_equal(decode_mask(forge(one_chain(0, 4, [0, 0, 0]), 1, 4), 4, 4), np.ones((4, 4)))


@given(st.binary(max_size=60), st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=200)
def test_any_forged_body_is_refused_or_is_a_map(body, chains, edges):
    try:
        labels = decode_mask(forge(body, chains, edges), 4, 4)
    except CorruptLabels:
        return
    assert labels.shape == (4, 4)


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = forge(bytes(200 << 20), 0, 0)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    with pytest.raises(CorruptLabels):
        decode_mask(bomb, 4, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_pixel_counts_count_each_class_and_no_ignored_pixel():
    labels = np.array([[0, 0, 2], [2, 2, 255]], np.uint8)
    counts = pixel_counts(labels, 4)
    np.testing.assert_array_equal(counts, np.array([2, 0, 3, 0], np.int32), strict=True)


@pytest.mark.parametrize("name", ["scene", "flat", "one pixel"])
def test_bytes_and_counts_at_once_are_those_of_each_by_itself(name):
    labels = MAPS[name]
    data, counts = encode_and_count(labels, 11)
    assert data == encode_mask(labels)
    np.testing.assert_array_equal(counts, pixel_counts(labels, 11))


def test_pixel_counts_agree_with_bincount():
    labels = scene(100, 150)
    np.testing.assert_array_equal(pixel_counts(labels, 11), np.bincount(labels.ravel(), minlength=256)[:11])


def test_an_unknown_label_is_named():
    with pytest.raises(ValueError, match=r"\[11, 13\]"):
        pixel_counts(np.array([[0, 11, 13, 255]], np.uint8), 11)


def test_the_gap_between_chains_may_exceed_16_bits():
    labels = np.zeros((400, 400), np.uint8)
    labels[-1, -1] = 1
    np.testing.assert_array_equal(decode_mask(encode_mask(labels), 400, 400), labels)


def one_long_chain(height: int, width: int, edges: int) -> bytes:
    body = struct.pack("<II", 0, edges) + b"\1" + bytes(edges - 1)
    return forge(body, 1, edges, height, width)


@pytest.mark.parametrize("edges", [1024 * 1024 - 8, 1024 * 1024 // 4 + 1])
def test_few_bytes_that_claim_more_edges_than_any_map_has_take_no_memory(edges):
    data = one_long_chain(1024, 1024, edges)
    tracemalloc.start()
    with pytest.raises(CorruptLabels, match="edges do not fit"):
        decode_mask(data, 1024, 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data) < 200
    assert peak < 2**16


def test_no_decoding_takes_more_than_12_bytes_per_pixel():
    stripes = np.tile(np.repeat(np.arange(128, dtype=np.uint8), 4), (512, 1))  # as many edges as a map may have
    data = encode_mask(stripes)
    tracemalloc.start()
    np.testing.assert_array_equal(decode_mask(data, *stripes.shape), stripes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 4 * stripes.size < peak < 12 * stripes.size


@pytest.mark.parametrize("size", [(2**14, 2**14 + 1), (1, 2**28 + 1), (2**16, 2**15)])
def test_no_mask_is_larger_than_any_frame(size):
    with pytest.raises(CorruptLabels, match="a mask cannot be"):
        decode_mask(bytes(20), *size)
