"""What is read from H.264's own units, against streams whose settings are known."""

from __future__ import annotations

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


@pytest.mark.parametrize("extradata", [None, b"", b"\x01", b"\x01\x64\x00\x1e\xff", b"\x00\x00\x01"])
def test_a_container_without_parameters_has_none(extradata):
    assert header_units(extradata) == []
    assert length_bytes(extradata) == 0
