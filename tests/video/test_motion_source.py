"""Which motion is chosen for which video, and why."""

from __future__ import annotations

import av
import pytest
from av.bitstream import BitStreamFilterContext

from gsvnet.errors import ConfigError, VideoError
from gsvnet.video import motion_source
from gsvnet.video.index import index_video
from gsvnet.video.motion_source import MotionChoice, choose_motion_source

ONE_REFERENCE = {"x264-params": "ref=1:bframes=0:keyint=30:scenecut=0", "preset": "veryfast"}


def choose(path, *, interval: int = 12, wanted="auto") -> MotionChoice:
    index = index_video(str(path))
    return choose_motion_source(
        str(path), interval=interval, sync_frames=index.sync_frames.tolist(), num_frames=len(index.pts), wanted=wanted
    )


@pytest.fixture(scope="module")
def trusted(media, tmp_path_factory):
    return media.write_clip(tmp_path_factory.mktemp("trusted") / "clip.mp4", options=ONE_REFERENCE)


TRUSTED = {
    "mp4": {"options": ONE_REFERENCE},
    "ts": {"options": ONE_REFERENCE},
    "rotated.mp4": {"options": ONE_REFERENCE, "rotation": 90},
    "odd.mp4": {"options": ONE_REFERENCE, "size": (73, 97), "pixel_format": "yuv444p"},
    "part2.mp4": {"codec": "mpeg4", "options": {"g": "30"}},
}


@pytest.mark.parametrize("name", TRUSTED)
def test_vectors_are_taken_where_each_frame_has_one_reference(name, media, tmp_path):
    path = media.write_clip(tmp_path / f"clip.{name}", **TRUSTED[name])
    choice = choose(path)
    assert (choice.source, choice.max_distance) == ("codec", 1)
    assert "one reference" in choice.reason


def x264(**changes: object) -> dict:
    parameters = {"ref": 1, "bframes": 0, "keyint": 30, "scenecut": 0} | changes
    return {"options": {"x264-params": ":".join(f"{key}={value}" for key, value in parameters.items())}}


DOUBTED = {
    "references": (x264(ref=3), "up to 3 reference frames"),
    "B-frames": (x264(bframes=2), "B-frames"),
    "fields": (x264(interlaced=1), "interlaced"),
    "short": (x264(keyint=10), "I-frames less than 12 frames apart"),
    "all intra": (x264(keyint=1), "I-frames less than 12 frames apart"),
    "B-frames of part 2": ({"codec": "mpeg4", "options": {"g": "30", "bf": "2"}}, "B-frames"),
}


@pytest.mark.parametrize("name", DOUBTED)
def test_a_proxy_is_chosen_where_vectors_cannot_be_trusted(name, media, tmp_path):
    arguments, reason = DOUBTED[name]
    choice = choose(media.write_clip(tmp_path / "clip.mp4", **arguments))
    assert choice.source == "proxy"
    assert reason in choice.reason


@pytest.mark.parametrize("name", ["hevc_mp4", "vp9_webm", "mjpeg_mov"])
def test_a_codec_without_vectors_gets_a_proxy(name, zoo):
    choice = choose(zoo(name), interval=1)
    assert choice.source == "proxy"
    assert "gives no motion vectors" in choice.reason


@pytest.mark.parametrize("name", ["hevc_mp4", "mjpeg_mov"])
def test_wanting_vectors_that_are_not_there_is_refused(name, zoo):
    with pytest.raises(VideoError, match="no motion vectors"):
        choose(zoo(name), wanted="codec")


def test_wanted_vectors_are_taken_with_their_references_looked_for(media, tmp_path):
    choice = choose(media.write_clip(tmp_path / "clip.mp4", **x264(bframes=2, keyint=10)), wanted="codec")
    assert choice.source == "codec"
    assert choice.max_distance > 1
    assert "B-frames" in choice.reason
    assert "less than 12 frames apart" in choice.reason


def test_trusted_vectors_are_not_looked_for_when_wanted(trusted):
    assert choose(trusted, wanted="codec") == MotionChoice(source="codec", reason="asked for", max_distance=1)


def test_a_wanted_proxy_is_chosen_without_reading(tmp_path):
    path = str(tmp_path / "never-opened.mp4")
    choice = choose_motion_source(path, interval=12, sync_frames=[0], num_frames=60, wanted="proxy")
    assert choice == MotionChoice(source="proxy", reason="asked for", max_distance=1)


def test_the_same_file_gets_the_same_choice(zoo, trusted):
    for path in (trusted, zoo("b_frames_ts")):
        assert choose(path) == choose(path)


def test_a_few_short_stretches_as_of_scene_cuts_are_let_pass(trusted):
    arguments = {"interval": 12, "num_frames": 600, "wanted": "auto"}
    few, many = [0, 100, 105, 300, 307], list(range(0, 80, 10))
    assert choose_motion_source(str(trusted), sync_frames=few, **arguments).source == "codec"
    assert choose_motion_source(str(trusted), sync_frames=many, **arguments).source == "proxy"


def test_a_stream_that_changes_later_is_noticed(media, tmp_path):
    parts = []
    for n, bframes in enumerate((0, 2)):
        pts = list(range(60 * n, 60 * n + 60))
        parts.append(media.write_clip(tmp_path / f"{n}.ts", pts=pts, **x264(bframes=bframes)).read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    choice = choose_motion_source(str(path), interval=12, sync_frames=[0, 30, 60, 90], num_frames=120)
    assert choice.source == "proxy"


def test_a_damaged_sample_gets_a_proxy(media, tmp_path):
    path = media.write_clip(tmp_path / "clip.ts", **x264(keyint=60))
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 10, len(content) // 2, 700):
        content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    choice = choose(path)
    assert choice.source == "proxy"
    assert "damaged" in choice.reason


def cut_units(path):
    """The MP4 file with empty parameter sets in its header; the true ones stand before its frames."""
    content = bytearray(path.read_bytes())
    place = content.find(b"avcC")
    length = int.from_bytes(content[place - 4 : place], "big") - 8
    content[place + 10 : place + 4 + length] = b"\0\0\1".ljust(length - 6, b"\0")
    path.write_bytes(content)
    return path


def test_an_empty_parameter_set_gets_a_proxy(media, tmp_path):
    arguments = x264(**{"repeat-headers": 1})
    choice = choose(cut_units(media.write_clip(tmp_path / "clip.mp4", num_frames=24, **arguments)))
    assert (choice.source, choice.reason) == ("proxy", "a sampled frame is damaged")


@pytest.fixture(scope="module")
def cropped(trusted, tmp_path_factory):
    """cropped(side): the trusted clip, which shows 16 pixels less at that side."""

    def write(side):
        path = tmp_path_factory.mktemp("cropped") / f"{side}.mp4"
        with av.open(str(trusted)) as source, av.open(str(path), "w") as output:
            stream = output.add_stream_from_template(source.streams.video[0])
            crop = BitStreamFilterContext(f"h264_metadata=crop_{side}=16", source.streams.video[0], stream)
            for packet in source.demux(video=0):
                for changed in crop.filter(packet) if packet.size else ():
                    changed.stream = stream
                    output.mux(changed)
        return path

    return write


@pytest.mark.parametrize("side", ["left", "top"])
def test_vectors_that_count_from_a_corner_out_of_sight_are_not_taken(side, cropped):
    path = cropped(side)
    choice = choose(path)
    assert choice.source == "proxy"
    assert "cropped" in choice.reason
    with pytest.raises(VideoError, match="cropped at the left or top"):
        choose(path, wanted="codec")


@pytest.mark.parametrize("side", ["right", "bottom"])
def test_vectors_of_a_picture_cut_at_the_other_sides_are_taken(side, cropped):
    assert choose(cropped(side)).source == "codec"


def test_places_that_are_hard_to_find_are_not_looked_at(media, tmp_path, monkeypatch):
    path = media.write_clip(tmp_path / "clip.flv", options=ONE_REFERENCE)
    monkeypatch.setattr("gsvnet.video.probe._BUFFER_BYTES", 1024)
    index, places = index_video(str(path)), []
    look = motion_source._look_at_place
    monkeypatch.setattr(motion_source, "_look_at_place", lambda *a: (places.append(1), look(*a)))
    arguments = {"interval": 12, "sync_frames": index.sync_frames.tolist(), "num_frames": len(index.pts)}
    assert choose_motion_source(str(path), **arguments).source == "codec"
    assert len(places) == 4
    places.clear()
    monkeypatch.setattr(motion_source, "_BYTES_PER_SEEK", 2000)
    assert choose_motion_source(str(path), **arguments).source == "codec"
    assert len(places) == 2  # the first quarter belongs to the first I-frame, which was met


@pytest.mark.parametrize(("interval", "wanted"), [(0, "auto"), (12, "flow")])
def test_other_wishes_are_refused(interval, wanted, trusted):
    with pytest.raises(ConfigError, match="allowed: auto, codec or proxy"):
        choose(trusted, interval=interval, wanted=wanted)


def test_a_proxy_without_an_encoder_is_refused_early(zoo, monkeypatch):
    monkeypatch.setattr("av.codecs_available", {"h264"})
    with pytest.raises(ConfigError, match="libx264"):
        choose(zoo("hevc_mp4"))
