"""Video containers: whatever bytes they are, the walk over MP4 boxes ends, and an index or VideoError comes out."""

from __future__ import annotations

import io
from functools import cache
from itertools import pairwise

import av
import numpy as np

from gsvnet.errors import VideoError
from gsvnet.video.index import _media_ranges, _WithoutMedia, index_video
from gsvnet.video.mfra import has_fragments
from gsvnet.video.probe import probe_video
from gsvnet.video.source import MediaFile
from tests.fuzz.choices import Choices, damage
from tests.fuzz.workplace import folder

_KINDS = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"wide", b"skip", b"sidx", b"\0\0\0\0", b"uuid")
_MOST_READS = 4  # of a box header, per box that fits into the bytes


def fuzz_one(data: bytes) -> None:
    """Walk over boxes of any lengths, or index a damaged video."""
    choices = Choices(data)
    if choices.below(2):
        _walk(_boxes(choices) if choices.flag() else choices.rest())
    else:
        _index(damage(_sound_video(choices.pick(("mp4", "fragments", "mkv", "ts"))), choices))


def _boxes(choices: Choices) -> bytes:
    found = b""
    while choices:
        size = choices.pick((8, 16, 0, 1, 9, choices.below(64), choices.integer() % 2**32))
        found += size.to_bytes(4, "big") + choices.pick(_KINDS)
        found += (choices.integer() % 2**64).to_bytes(8, "big") if size == 1 else choices.take(choices.below(16))
    return found


def _walk(data: bytes) -> None:
    num_reads = 0

    def read_at(start: int, num_bytes: int) -> bytes:
        nonlocal num_reads
        num_reads += 1
        assert start >= 0
        return data[start : start + num_bytes]

    source = MediaFile(read_at, len(data))
    has_fragments(source)
    ranges = _media_ranges(source)
    assert num_reads <= _MOST_READS * (1 + len(data) // 8)
    assert all(0 <= start <= len(data) and stop <= len(data) for start, stop in ranges)
    assert all(stop <= following for (_, stop), (following, _) in pairwise(ranges))
    without = _WithoutMedia(source, ranges)
    found = io.BytesIO()
    while block := without.read(7):
        found.write(block)
    kept = bytearray(data)
    for start, stop in ranges:
        kept[start:stop] = bytes(max(0, stop - start))
    assert found.getvalue() == bytes(kept)


def _index(data: bytes) -> None:
    path = folder() / "video.bin"
    path.write_bytes(data)
    try:
        probe_video(str(path))  # as plans do, and it refuses headers that FFmpeg would ask for gigabytes by
        index = index_video(str(path))
    except VideoError:
        return
    assert len(index.pts) > 0
    assert (np.diff(index.pts) > 0).all()
    assert set(index.sync_frames.tolist()) <= set(range(len(index.pts)))
    assert index.end_pts > index.pts[-1]


@cache
def _sound_video(kind: str) -> bytes:
    """A dozen drawn frames of 32 x 32 pixels."""
    options = {"movflags": "frag_keyframe+empty_moov"} if kind == "fragments" else {}
    file, form = io.BytesIO(), {"mkv": "matroska", "ts": "mpegts"}.get(kind, "mp4")
    with av.open(file, "w", format=form, options=options) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "4", "bf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(12):
            picture = np.full((32, 32, 3), 16 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
