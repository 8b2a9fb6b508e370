from __future__ import annotations

from fractions import Fraction

import av
import fsspec
import pytest

from gsvnet.errors import NotAVideo, VideoNotFound
from gsvnet.video.probe import open_video, probe_video, video_identity


def test_probe_reports_what_was_encoded(zoo):
    path = zoo("b_frames_mp4")
    info = probe_video(str(path))
    assert (info.uri, info.codec, info.pixel_format) == (str(path), "h264", "yuv420p")
    assert (info.coded_height, info.coded_width, info.height, info.width, info.rotation) == (72, 96, 72, 96, 0)
    assert (info.time_base, info.average_rate, info.has_b_frames) == (Fraction(1, 15360), 30, True)
    assert info.duration_s == pytest.approx(110 / 30, abs=1e-3)
    assert (info.size_bytes, info.identity) == (path.stat().st_size, video_identity(str(path)))


@pytest.mark.parametrize("name", ["hevc_mp4", "vp9_webm", "mjpeg_mov"])
def test_codecs_have_their_common_names(zoo, name):
    assert probe_video(str(zoo(name))).codec == name.partition("_")[0]


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_videos_have_their_size_in_display_orientation(media, tmp_path, rotation):
    path = media.write_clip(tmp_path / "turned.mp4", num_frames=3, rotation=rotation)
    info = probe_video(str(path))
    assert info.rotation == rotation
    assert (info.coded_height, info.coded_width) == (72, 96)
    assert (info.height, info.width) == ((72, 96) if rotation == 180 else (96, 72))


def test_any_fsspec_uri_is_opened(zoo):
    fsspec.filesystem("memory").pipe("/bucket/a b.mkv", zoo("open_gop_mkv").read_bytes())
    assert probe_video("memory://bucket/a b.mkv").codec == "h264"


def test_audio_only_is_no_video(media, tmp_path):
    with pytest.raises(NotAVideo, match="no video stream: audio"):
        probe_video(str(media.write_audio(tmp_path / "sound.m4a")))


@pytest.mark.parametrize("content", [b"\0" * 5000, b"hello " * 1000, bytes(range(256)) * 20, b"x"])
def test_garbage_is_no_video(tmp_path, content):
    (tmp_path / "garbage.mp4").write_bytes(content)
    with pytest.raises(NotAVideo, match=r"garbage\.mp4: not a readable video container"):
        probe_video(str(tmp_path / "garbage.mp4"))


def test_mp4_cut_before_its_tables_is_no_video(zoo, tmp_path):
    content = zoo("b_frames_mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(NotAVideo, match="may be cut short"):
        probe_video(str(tmp_path / "cut.mp4"))


def test_a_video_without_decodable_frame_is_no_video(zoo, tmp_path):
    content = bytearray(zoo("b_frames_mp4").read_bytes())
    start, stop = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:stop] = bytes(stop - start)
    (tmp_path / "blank.mp4").write_bytes(content)
    with pytest.raises(NotAVideo, match="no frame can be decoded"):
        probe_video(str(tmp_path / "blank.mp4"))


def test_playlists_and_patterns_open_no_other_file(zoo, tmp_path):
    clip = zoo("b_frames_ts")
    playlists = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3.6,\n{clip}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{clip}'\n",
        "list.sdp": "v=0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "frame%03d.png": "x",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(NotAVideo):
            probe_video(str(tmp_path / name))


@pytest.mark.parametrize("uri", ["concat:a.ts|b.ts", "tcp:127.0.0.1:1", "subfile,,start,0,end,9,,:a.ts"])
def test_ffmpeg_protocols_are_only_file_names(uri):
    with pytest.raises(VideoNotFound, match="nothing there"):
        probe_video(uri)


def test_unreadable_metadata_does_not_stop_a_video(media, tmp_path):
    path = tmp_path / "tagged.mkv"
    media.write_clip(path, num_frames=3)
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"\xff\xfe\xfd\xfc"))
    assert probe_video(str(path)).codec == "h264"


def test_open_video_gives_a_working_container(zoo):
    with open_video(str(zoo("b_frames_mkv"))) as container:
        assert isinstance(container, av.container.InputContainer)
        assert sum(1 for _ in container.decode(video=0)) == 110
