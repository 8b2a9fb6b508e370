from __future__ import annotations

import struct
from fractions import Fraction

import av
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from gsvnet.errors import NotAVideo
from gsvnet.video.index import index_video
from gsvnet.video.probe import open_video


def _scanned_pts(path) -> list[int]:
    with av.open(str(path)) as container:
        return sorted(p.pts for p in container.demux(video=0) if p.size and not p.is_discard)


def test_index_equals_what_decoding_yields(zoo_clip, decode_all):
    index = index_video(str(zoo_clip))
    assert index.pts.tolist() == [pts for pts, _ in decode_all(zoo_clip)]
    assert index.pts.dtype == np.int64
    assert index.problems == ()
    assert index.start_pts == index.pts[0]
    assert index.end_pts > index.pts[-1]


def test_sync_frames_are_the_i_frames_that_the_container_marks(zoo_clip):
    index = index_video(str(zoo_clip))
    with av.open(str(zoo_clip)) as container:
        marked = sorted(p.pts for p in container.demux(video=0) if p.size and p.is_keyframe)
    assert index.pts[index.sync_frames].tolist() == marked


@pytest.mark.parametrize(
    ("name", "numbers_from"),
    [("b_frames_mp4", "index"), ("hevc_mp4", "index"), ("fragmented_mp4", "scan"), ("open_gop_mkv", "scan"),
     ("b_frames_ts", "scan"), ("uneven_pts_mp4", "index"), ("mjpeg_mov", "index"), ("mpeg4_avi", "scan")],
)  # fmt: skip
def test_index_says_where_its_numbers_come_from(zoo, name, numbers_from):
    assert index_video(str(zoo(name))).numbers_from == numbers_from


class CountingFile(MemoryFile):
    num_bytes = 0

    def read(self, size=-1):
        data = super().read(size)
        CountingFile.num_bytes += len(data)
        return data


class CountingFileSystem(MemoryFileSystem):
    protocol = "counting"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("counting://"))

    def _open(self, path, mode="rb", **kwargs):
        if mode != "rb":
            return super()._open(path, mode, **kwargs)
        return CountingFile(data=self.store[self._strip_protocol(path)].getvalue())


@pytest.mark.parametrize("front", [True, False])
def test_mp4_is_indexed_without_reading_its_media(media, tmp_path, small_windows, front):
    options = {"movflags": "faststart"} if front else {}
    path = media.write_clip(
        tmp_path / "big.mp4", codec="mjpeg", pixel_format="yuvj420p", size=(288, 384), container_options=options
    )
    fsspec.register_implementation("counting", CountingFileSystem, clobber=True)
    CountingFileSystem().pipe("/big.mp4", path.read_bytes())
    CountingFile.num_bytes = 0
    assert index_video("counting://big.mp4").pts.tolist() == _scanned_pts(path)
    assert CountingFile.num_bytes < path.stat().st_size / 20


def test_frames_outside_the_edit_list_do_not_count(media, tmp_path):
    path = media.write_clip(tmp_path / "edited.mp4", num_frames=60)
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 16  # media_time of the only edit, version 0
    (media_time,) = struct.unpack(">i", content[at : at + 4])
    content[at : at + 4] = struct.pack(">i", media_time + 5 * 512)
    path.write_bytes(content)
    index = index_video(str(path))
    assert index.pts.tolist() == [512 * n for n in range(55)]
    with open_video(str(path)) as container:
        assert [f.pts for f in container.decode(video=0)] == index.pts.tolist()


def test_frames_with_one_timestamp_count_once(media, tmp_path):
    ticks = [*range(10), 9, 9, *range(10, 20)]
    once = media.write_clip(tmp_path / "once.mkv", num_frames=22, codec="mjpeg", pixel_format="yuvj420p")
    path = tmp_path / "twice.mkv"
    with av.open(str(once)) as source, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet, tick in zip((p for p in source.demux(video=0) if p.size), ticks):
            packet.pts = packet.dts = tick * 100
            packet.time_base, packet.stream = Fraction(1, 1000), copy
            output.mux(packet)
    index = index_video(str(path))
    assert index.pts.tolist() == [100 * n for n in range(20)]
    assert index.problems == ("2 frames share the timestamp of another and are left out",)


def test_streams_without_times_are_refused_with_a_remedy(media, tmp_path):
    path = media.write_clip(tmp_path / "raw.h264", num_frames=20)
    with pytest.raises(NotAVideo, match=r"20 frames have no usable timestamp; re-encode it: ffmpeg"):
        index_video(str(path))


def test_b_frames_without_stored_order_are_refused(media, tmp_path):
    path = media.write_clip(tmp_path / "b_frames.avi", num_frames=30)
    with pytest.raises(NotAVideo, match="does not store the order of its B-frames"):
        index_video(str(path))


def test_joined_recordings_whose_clock_restarts_are_refused(media, tmp_path):
    first = media.write_clip(tmp_path / "first.ts", num_frames=90)
    (tmp_path / "joined.ts").write_bytes(first.read_bytes() * 2)
    with pytest.raises(NotAVideo, match="timestamps jump back by"):
        index_video(str(tmp_path / "joined.ts"))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_video_with_zero_frames_is_refused(media, tmp_path, suffix):
    path = tmp_path / f"none{suffix}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        output.start_encoding()
    with pytest.raises(NotAVideo, match=r"no frame|no stream at all|not a readable video container"):
        index_video(str(path))


@pytest.mark.parametrize("name", ["faststart_mp4", "b_frames_mkv", "b_frames_ts", "fragmented_mp4"])
def test_a_truncated_file_keeps_the_frames_that_are_there(zoo, tmp_path, name):
    whole = zoo(name)
    cut = tmp_path / f"cut{whole.suffix}"
    content = whole.read_bytes()
    end = len(content) * 6 // 10
    if name == "fragmented_mp4":  # in a fragment's media: cut inside its header, FFmpeg refuses the whole file
        media_start = content.rindex(b"mdat", 0, end)
        end = (media_start + content.index(b"moof", media_start)) // 2
    cut.write_bytes(content[:end])
    index = index_video(str(cut))
    assert index.pts.tolist() == _scanned_pts(cut)
    assert 30 < len(index.pts) < 100
    assert set(index.pts) <= set(index_video(str(whole)).pts)
    if name in ("faststart_mp4", "b_frames_mkv"):
        assert "cut short" in " ".join(index.problems)


def test_one_flipped_timestamp_does_not_move_other_frames(zoo, tmp_path):
    path = zoo("intra_refresh_ts")
    with av.open(str(path)) as container:
        packets = [(p.pos, p.pts) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    at = content.index(b"\x00\x00\x01\xe0", packets[50][0]) + 9  # PES header: the byte with the highest bits of pts
    content[at] ^= 0x08
    (tmp_path / "flipped.ts").write_bytes(content)
    index = index_video(str(tmp_path / "flipped.ts"))
    assert index.pts.tolist() == [pts for n, (_, pts) in enumerate(packets) if n != 50]
    assert index.problems == ("1 frames have no usable timestamp and are left out",)
