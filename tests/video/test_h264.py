"""What is read from H.264's own units, against streams whose settings are known."""

from __future__ import annotations

import time

import av
import pytest

from gsvnet.video.h264 import header_units, is_unreferenced, length_bytes, nal_units, parse_parameters

CLIPS = {
    "one reference": ({"x264-params": "ref=1:bframes=0"}, "yuv420p"),
    "baseline": ({"x264-params": "ref=1:bframes=0", "profile": "baseline"}, "yuv420p"),
    "scaling lists": ({"x264-params": "ref=1:bframes=0:cqm=jvt"}, "yuv420p"),
    "4:4:4 and scaling lists": ({"x264-params": "ref=1:bframes=0:cqm=jvt"}, "yuv444p"),
    "three references": ({"x264-params": "ref=3:bframes=0"}, "yuv420p"),
    "fields": ({"x264-params": "ref=1:bframes=0:interlaced=1"}, "yuv420p"),
}


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize("name", CLIPS)
def test_the_number_of_references_is_read(name, suffix, media, tmp_path):
    options, pixel_format = CLIPS[name]
    path = media.write_clip(tmp_path / f"clip.{suffix}", num_frames=4, options=options, pixel_format=pixel_format)
    with av.open(str(path)) as container:
        found = [parse_parameters(unit) for unit in header_units(container.streams.video[0].codec_context.extradata)]
    parameters = next(one for one in found if one is not None)
    assert parameters.max_references == (3 if name == "three references" else 1)
    assert parameters.frames_only == (name != "fields")


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_frames_that_nothing_refers_to_are_told_apart(suffix, media, tmp_path):
    options = {"x264-params": "bframes=1:b-adapt=0:b-pyramid=0:scenecut=0"}
    path = media.write_clip(tmp_path / f"clip.{suffix}", num_frames=9, options=options)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        length = length_bytes(stream.codec_context.extradata)
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    unreferenced = [any(map(is_unreferenced, nal_units(packet, length))) for packet in packets]
    assert unreferenced == [False, False, True, False, True, False, True, False, True]


@pytest.mark.parametrize("length", range(1, 9))
def test_a_unit_that_is_cut_short_is_refused(length):
    unit = bytes.fromhex("6764001eacd940a02ff970110000030001000003003c8f162d96")
    assert parse_parameters(unit) is not None
    with pytest.raises(ValueError, match="parameter set"):
        parse_parameters(unit[:length])


def test_other_units_say_nothing():
    assert parse_parameters(bytes.fromhex("68ebe3cb22c0")) is None
    assert parse_parameters(b"") is None


@pytest.mark.parametrize("extradata", [None, b"", b"\x01", b"\x01\x64\x00\x1e\xff"])
def test_a_container_without_parameters_has_none(extradata):
    assert not any(header_units(extradata))
    assert length_bytes(extradata) == 0


def code(value: int) -> str:
    """The bits of an Exp-Golomb code."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def unit_of(*codes: int, flags: str = "", tail: bytes = b"") -> bytes:
    """A baseline parameter set of these codes, then single bits."""
    bits = f"{66:08b}" + "0" * 16 + "".join(map(code, codes)) + flags
    bits += "1" * (-len(bits) % 8)
    return b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big") + tail


CYCLE = f"1{code(0)}{code(0)}"  # of pictures: a flag and two offsets


def test_a_cycle_of_pictures_is_stepped_over():
    unit = unit_of(0, 0, 1, flags=CYCLE + code(255) + code(7) * 255 + code(2) + "0" + code(9) + code(9) + "110")
    assert parse_parameters(unit).max_references == 2


@pytest.mark.parametrize("cycle", [256, 2**32 - 1])
def test_a_cycle_longer_than_any_is_refused_at_once(cycle):
    unit = unit_of(0, 0, 1, flags=CYCLE + code(cycle), tail=b"\xff" * 4_000_000)
    start = time.process_time()
    with pytest.raises(ValueError, match=f"cycle of {cycle} frames"):
        parse_parameters(unit)
    assert time.process_time() - start < 0.5


def test_no_more_of_a_parameter_set_is_read_than_one_needs():
    unit = unit_of(0, 0, 1, flags=CYCLE + code(255) + code(2**31) * 255 + code(2), tail=b"\xff" * 4_000_000)
    start = time.process_time()
    with pytest.raises(ValueError, match="cut short"):
        parse_parameters(unit)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(("data", "length"), [(bytes(4_000_000), 1), (b"\0\0\1" * 2_000_000, 0)])
def test_millions_of_empty_units_are_refused_at_the_first(data, length):
    start = time.process_time()
    with pytest.raises(ValueError, match="empty"):
        list(nal_units(data, length))
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize("extradata", [b"\x01\x64\x00\x1e\xff\xe1\x00\x00", b"\x01\x64\x00\x1e\xff\xff\x00\x00"])
def test_a_container_with_empty_parameters_is_refused(extradata):
    with pytest.raises(ValueError, match="empty"):
        list(header_units(extradata))


@pytest.mark.parametrize(
    ("left", "right", "top", "bottom", "corner"),
    [(0, 4, 0, 4, False), (1, 0, 0, 0, True), (0, 0, 1, 0, True)],
)
def test_a_crop_that_moves_the_corner_is_told(left, right, top, bottom, corner):
    crop = "".join(map(code, (left, right, top, bottom)))
    assert parse_parameters(unit_of(0, 0, 2, 1, flags="0" + code(5) + code(5) + "111" + crop)).corner_cropped == corner
    assert not parse_parameters(unit_of(0, 0, 2, 1, flags="0" + code(5) + code(5) + "110")).corner_cropped
