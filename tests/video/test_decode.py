from __future__ import annotations

import av
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from gsvnet.errors import DecodeError, SourceUnavailable, VideoNotFound
from gsvnet.video.decode import read_frame_at, read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.probe import probe_video

FULL = View(72, 96)


def _read(uri, index, first, stop, *, view=FULL, threads=1, rotation=0):
    """Frames [first, stop) by their pts; an open end where stop is the number of frames, as for the last shard."""
    pts = index.pts.tolist()
    return list(
        read_frames(
            str(uri),
            first_frame=first,
            start_pts=pts[first],
            end_pts=pts[stop] if stop < len(pts) else None,
            views=lambda _: [view],
            rotation=rotation,
            threads=threads,
        )
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_every_range_equals_the_slice_of_a_sequential_decode(zoo_clip, decode_all, media, threads):
    sequential, index = decode_all(zoo_clip), index_video(str(zoo_clip))
    view = View(*sequential[0][1].shape[:2])
    for first, stop in ((0, 110), (0, 1), (109, 110), (12, 13), (7, 31), (35, 74), (69, 110)):
        frames = _read(zoo_clip, index, first, stop, view=view, threads=threads)
        assert [f.index for f in frames] == list(range(first, stop))
        assert [f.pts for f in frames] == [pts for pts, _ in sequential[first:stop]]
        assert [media.read_number(f.images[0]) for f in frames] == list(range(first, stop))
        assert {f.status for f in frames} == {"ok"}
        for frame in frames:
            np.testing.assert_array_equal(frame.images[0], sequential[frame.index][1])


def test_remote_files_give_the_same_frames(zoo, media):
    fsspec.filesystem("memory").pipe("/clips/open.ts", zoo("open_gop_ts").read_bytes())
    frames = _read("memory://clips/open.ts", index_video("memory://clips/open.ts"), 40, 60)
    assert [media.read_number(f.images[0]) for f in frames] == list(range(40, 60))


def test_only_the_wished_sizes_are_rendered(zoo, media):
    index = index_video(str(zoo("b_frames_mp4")))
    views = {30: [View(36, 48), View(9, 12, "exact")], 31: [], 32: [View(18, 24)]}
    asked = []

    def wish(i):
        asked.append(i)
        return views[i]

    start, end = int(index.pts[30]), int(index.pts[33])
    frames = list(read_frames(str(zoo("b_frames_mp4")), first_frame=30, start_pts=start, end_pts=end, views=wish))
    assert asked == [30, 31, 32]
    assert [[i.shape for i in f.images] for f in frames] == [[(36, 48, 3), (9, 12, 3)], [], [(18, 24, 3)]]
    assert [f.status for f in frames] == ["ok"] * 3
    assert frames[0].images[1].dtype == np.float32


def test_ranges_without_frames_are_empty(zoo):
    path, index = str(zoo("b_frames_mkv")), index_video(str(zoo("b_frames_mkv")))
    for start, end in ((index.end_pts, None), (index.start_pts - 50, index.start_pts), (34, 35)):
        assert list(read_frames(path, first_frame=0, start_pts=start, end_pts=end, views=lambda _: [])) == []


def test_rotated_frames_come_upright(media, tmp_path):
    path = media.write_clip(tmp_path / "turned.mp4", num_frames=6, rotation=90, options={"crf": "10"})
    info, index = probe_video(str(path)), index_video(str(path))
    stored = _read(path, index, 5, 6)[0].images[0]
    upright = _read(path, index, 5, 6, view=View(info.height, info.width), rotation=info.rotation)[0].images[0]
    np.testing.assert_array_equal(upright, np.rot90(stored))
    np.testing.assert_array_equal(read_frame_at(str(path), int(index.pts[5])), upright)


def test_one_frame_is_found_by_its_pts(zoo, decode_all):
    pts, image = decode_all(zoo("one_i_frame_ts"))[77]
    np.testing.assert_array_equal(read_frame_at(str(zoo("one_i_frame_ts")), pts), image)
    with pytest.raises(DecodeError, match=f"pts {pts + 1}: no decodable frame"):
        read_frame_at(str(zoo("one_i_frame_ts")), pts + 1)


def _packets(path) -> list[tuple[int, int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("lost", [{0}, {20}, {3, 20, 21}, {58, 59}])
def test_a_lost_frame_keeps_its_index(media, tmp_path, lost, threads):
    path = media.write_clip(tmp_path / "all_i.mp4", options={"x264-params": "keyint=1", "preset": "veryfast"})
    clean = _read(path, index_video(str(path)), 0, 60)
    content = bytearray(path.read_bytes())
    for position, size, _ in (_packets(path)[n] for n in lost):
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    index = index_video(str(path))
    for first, stop in ((0, 60), (10, 40), (20, 22)):
        frames = _read(path, index, first, stop, threads=threads)
        assert [(f.index, f.pts) for f in frames] == [(f.index, f.pts) for f in clean[first:stop]]
        assert [f.index for f in frames if f.status == "decode_error"] == sorted(lost & set(range(first, stop)))
        assert all(f.images == () for f in frames if f.status == "decode_error")
        for frame in (f for f in frames if f.status == "ok"):
            np.testing.assert_array_equal(frame.images[0], clean[frame.index].images[0])


@pytest.mark.parametrize("name", ["b_frames_mp4", "b_frames_mkv", "b_frames_ts", "hevc_mp4", "open_gop_ts"])
def test_destroyed_bytes_in_the_middle_shift_nothing(zoo, tmp_path, media, name):
    path = zoo(name)
    clean = {f.pts: f for f in _read(path, index_video(str(path)), 0, 110)}
    content = bytearray(path.read_bytes())
    start, length = len(content) * 4 // 10, len(content) // 8
    content[start : start + length] = np.random.default_rng(0).bytes(length)
    damaged = tmp_path / f"damaged{path.suffix}"
    damaged.write_bytes(content)
    index = index_video(str(damaged))
    frames = _read(damaged, index, 0, len(index.pts))
    assert [(f.index, f.pts) for f in frames] == list(enumerate(index.pts.tolist()))
    assert {f.pts for f in frames} <= set(clean)
    same = [f.pts for f in frames if f.images and np.array_equal(f.images[0], clean[f.pts].images[0])]
    assert len(same) >= 60
    assert min(same) == min(clean)
    assert max(same) == max(clean)
    middle = len(index.pts) // 2
    halves = _read(damaged, index, 0, middle) + _read(damaged, index, middle, len(index.pts))
    assert [(f.index, f.pts) for f in halves] == [(f.index, f.pts) for f in frames]


@pytest.mark.parametrize("name", ["faststart_mp4", "b_frames_mkv", "b_frames_ts"])
def test_a_truncated_file_gives_all_frames_that_it_holds(zoo, tmp_path, media, name):
    path = tmp_path / f"cut{zoo(name).suffix}"
    path.write_bytes(zoo(name).read_bytes()[: zoo(name).stat().st_size * 6 // 10])
    index = index_video(str(path))
    frames = _read(path, index, 0, len(index.pts))
    assert [f.index for f in frames] == list(range(len(index.pts)))
    assert [media.read_number(f.images[0]) for f in frames[:-4]] == list(range(len(frames) - 4))


class FailingFile(MemoryFile):
    def read(self, size=-1):
        if self.tell() > 200_000:
            raise ConnectionResetError("peer https://u:secret@host/ went away")
        return super().read(size)


class FailingFileSystem(MemoryFileSystem):
    protocol = "failing"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("failing://"))

    def _open(self, path, mode="rb", **kwargs):
        if mode != "rb":
            return super()._open(path, mode, **kwargs)
        return FailingFile(data=self.store[self._strip_protocol(path)].getvalue())


def test_a_store_that_fails_while_reading_is_not_taken_for_damage(media, tmp_path, small_windows, monkeypatch):
    monkeypatch.setattr("gsvnet.outages.RETRY_FOR_S", 0.0)
    path = media.write_clip(tmp_path / "big.mkv", codec="ffv1", size=(144, 192))
    assert path.stat().st_size > 300_000
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    FailingFileSystem().pipe("/big.mkv", path.read_bytes())
    frames = read_frames("failing://big.mkv", first_frame=0, start_pts=0, end_pts=None, views=lambda _: [])
    assert next(frames).index == 0
    with pytest.raises(SourceUnavailable, match="ConnectionResetError") as caught:
        list(frames)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_not_found():
    with pytest.raises(VideoNotFound):
        next(read_frames("/no/such.mp4", first_frame=0, start_pts=0, end_pts=None, views=lambda _: []))


REAL = {
    "videos/udacity_solidWhiteRight.mp4": 221,
    "clips_derived/camvid_val_0016E5_15fps_g12_bf0.mp4": 101,
    "clips_derived/camvid_val_0016E5_15fps_x264default.mp4": 101,
    "clips_derived/cityscapes_frankfurt_000001_047548-047562_17fps_x264default.mp4": 15,
}


@pytest.mark.parametrize(("name", "num_frames"), REAL.items())
def test_real_videos_have_the_known_frames_in_every_range(data_dir, name, num_frames):
    path = str(data_dir / name)
    index = index_video(path)
    assert len(index.pts) == num_frames
    whole = _read(path, index, 0, num_frames, view=View(90, 160))
    assert [f.index for f in whole] == list(range(num_frames))
    for first, stop in ((num_frames // 2, num_frames), (num_frames // 3, num_frames // 3 + 4)):
        for frame in _read(path, index, first, stop, view=View(90, 160)):
            assert frame.pts == index.pts[frame.index]
            np.testing.assert_array_equal(frame.images[0], whole[frame.index].images[0])
