"""How many requests and bytes it takes to read ten seconds out of a long video in object storage."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from gsvnet.video import ranges
from gsvnet.video.decode import read_frames
from gsvnet.video.index import index_video
from gsvnet.video.nvdec import choose_decoder
from gsvnet.video.probe import probe_video
from gsvnet.video.ranges import KeptWindows, RangedReader

MIB = 1 << 20
GOP, RATE = 60, 30
CONTAINERS = {
    "end.mp4": {},
    "faststart.mp4": {"movflags": "faststart"},
    "cues.mkv": {},
    "plain.ts": {},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
}


class CountingFile(AbstractBufferedFile):
    def _fetch_range(self, start, end):
        CountingFileSystem.gets.append(end - start)
        with Path(self.path).open("rb") as file:
            return os.pread(file.fileno(), end - start, start)


class CountingFileSystem(AbstractFileSystem):
    """A local file as S3 shows it: one HEAD per info, one GET per range."""

    protocol = "ranged"
    cachable = False
    gets: list[int] = []  # noqa: RUF012  (of the whole class, on purpose)
    heads: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("ranged://")

    def info(self, path, **kwargs):
        CountingFileSystem.heads.append(path)
        status = Path(path).stat()
        return {"name": path, "size": status.st_size, "type": "file", "ETag": str(status.st_mtime_ns)}

    def _open(self, path, mode="rb", block_size=None, cache_options=None, **kwargs):
        return CountingFile(self, path, mode, block_size or 5 * MIB, cache_options=cache_options, **kwargs)


@pytest.fixture
def requests(monkeypatch):
    """requests(): (number of GETs, MB) since the last call."""
    fsspec.register_implementation("ranged", CountingFileSystem, clobber=True)
    monkeypatch.setattr(ranges, "_kept", KeptWindows(ranges.KEPT_BYTES))

    def count() -> tuple[int, float]:
        sizes = CountingFileSystem.gets[:]
        CountingFileSystem.gets.clear()
        CountingFileSystem.heads.clear()
        return len(sizes), sum(sizes) / 1e6

    count()
    return count


@pytest.fixture(scope="session")
def gop() -> bytes:
    """An MP4 of one GOP of noise: 60 frames with B-frames, 3 Mbit/s."""
    rate = "bitrate=2430:vbv-maxrate=2430:vbv-bufsize=2430:nal-hrd=cbr"
    options = {"preset": "ultrafast", "x264-params": f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=2:{rate}"}
    content, noise = io.BytesIO(), np.random.default_rng(0)
    with av.open(content, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(GOP):
            frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (360, 640, 3), np.uint8), format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return content.getvalue()


def write_long(path: Path, gop: bytes, seconds: int) -> Path:
    """The GOP again and again, `seconds` long."""
    with av.open(io.BytesIO(gop)) as source, av.open(str(path), "w", options=CONTAINERS[path.name]) as output:
        template = source.streams.video[0]
        stream = output.add_stream_from_template(template)
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(template) if p.size]
        step = int(Fraction(1, RATE) / template.time_base)
        for first in range(0, seconds * RATE * step, GOP * step):
            for data, pts, dts, is_sync in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.duration = stream, template.time_base, step
                packet.pts, packet.dts, packet.is_keyframe = pts + first, dts + first, is_sync
                output.mux(packet)
    return path


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("seconds", [120, pytest.param(3600, marks=pytest.mark.slow)])
def test_ten_seconds_cost_eight_gets_and_eight_megabytes_at_most(gop, tmp_path, requests, name, seconds):
    path = write_long(tmp_path / name, gop, seconds)
    uri, middle = f"ranged://{path}", seconds // 2 * RATE
    pts = index_video(str(path)).pts.tolist()
    identity = probe_video(uri).identity
    ranges._kept = KeptWindows(ranges.KEPT_BYTES)  # the worker is another process
    requests()

    def read_shard(first: int) -> tuple[int, float]:
        choose_decoder("auto", uri, device="cpu")
        end_pts = pts[first + 10 * RATE]
        frames = read_frames(
            uri, first_frame=first, start_pts=pts[first], end_pts=end_pts, views=lambda _: [], identity=identity
        )
        assert [frame.index for frame in frames] == list(range(first, first + 10 * RATE))
        assert len(CountingFileSystem.heads) <= 2
        return requests()

    first_gets, first_megabytes = read_shard(middle)
    assert first_gets <= 8
    assert first_megabytes <= 8
    for first in (middle + 10 * RATE, middle // 2):
        gets, megabytes = read_shard(first)
        assert gets <= 4
        assert megabytes <= 6.5


@pytest.mark.parametrize("name", ["end.mp4", "faststart.mp4"])
def test_planning_reads_the_tables_of_an_mp4_once(gop, tmp_path, requests, name):
    path = write_long(tmp_path / name, gop, 60)
    uri = f"ranged://{path}"
    assert probe_video(uri).codec == "h264"
    requests()
    assert index_video(uri).numbers_from == "index"
    gets, megabytes = requests()
    assert gets <= 2
    assert megabytes < 5


def read_all(reader: RangedReader, start: int, stop: int, step: int = 1000) -> bytes:
    content = b""
    while start < stop:
        data = reader.read(start, min(step, stop - start))
        content, start = content + data, start + len(data)
    return content


CONTENT = np.random.default_rng(0).integers(0, 256, 5_000_000, np.uint8).tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_read_is_what_is_there_wherever_one_jumps(monkeypatch, seed):
    monkeypatch.setattr(ranges, "TAIL_BYTES", 5000)
    monkeypatch.setattr(ranges, "FIRST_WINDOW_BYTES", 3000)
    monkeypatch.setattr(ranges, "NEXT_WINDOW_BYTES", 7000)
    reader = RangedReader(lambda start, stop: CONTENT[start:stop], len(CONTENT), ("u", f"{seed}"))
    random = np.random.default_rng(seed)
    for n in range(60):
        start = int(random.integers(0, len(CONTENT) - 30_000))
        stop = start + int(random.integers(1, 30_000))
        assert read_all(reader, start, stop) == CONTENT[start:stop]
        if n == 30:
            reader.end_opening()
    assert reader.read(len(CONTENT), 10) == b""


def test_reading_on_fetches_more_at_a_time_up_to_a_limit():
    fetched = []

    def fetch(start: int, stop: int) -> bytes:
        fetched.append(stop - start)
        return bytes(stop - start)

    reader = RangedReader(fetch, 200 * MIB)
    reader.end_opening()
    read_all(reader, 0, 60 * MIB, MIB)
    assert fetched[:4] == [MIB, 2 * MIB, 2 * MIB, 2.5 * MIB]
    assert max(fetched) == 8 * MIB
    assert sum(fetched) <= 1.5 * 60 * MIB


def test_an_answer_that_is_cut_short_is_asked_for_again(monkeypatch):
    monkeypatch.setattr("gsvnet.outages._FIRST_PAUSE_S", 0.0)
    answers = iter([b"12", b"", b"12345"])
    assert RangedReader(lambda start, stop: next(answers), 5).read(0, 5) == b"12345"


def test_what_is_kept_of_files_is_bounded_and_the_oldest_goes_first():
    kept = KeptWindows(max_bytes=100)
    for name in "abc":
        assert kept.keep((name, ""), (0, bytes(40)))
    assert [len(kept.of((name, ""))) for name in "abc"] == [0, 1, 1]
