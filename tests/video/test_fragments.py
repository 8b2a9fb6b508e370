from __future__ import annotations

import numpy as np
import pytest

from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.mfra import is_index_right
from gsvnet.video.source import MediaFile, open_source

NUM_FRAMES = 150


@pytest.fixture(scope="module")
def fragmented(media, tmp_path_factory):
    """An MP4 of 150 fragments, one per frame, with an index (mfra) at its end."""
    return media.write_clip(
        tmp_path_factory.mktemp("fragments") / "fragments.mp4",
        num_frames=NUM_FRAMES,
        size=(288, 384),
        options={"preset": "ultrafast", "x264-params": "keyint=1:qp=2"},
        container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )


def without_index(path, folder):
    copy = folder / "bare.mp4"
    content = path.read_bytes()
    copy.write_bytes(content[: content.rindex(b"mfra") - 4])
    return copy


def with_half_an_index(path, folder):
    """The table of fragments lists every other one."""
    content = path.read_bytes()
    start = content.rindex(b"tfra") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    header, entries = content[start : start + 24], content[start + 24 : start + length]
    size = (length - 24) // NUM_FRAMES
    kept = b"".join(entries[n * size : (n + 1) * size] for n in range(0, NUM_FRAMES, 2))
    table = (24 + len(kept)).to_bytes(4, "big") + header[4:20] + (NUM_FRAMES // 2).to_bytes(4, "big") + kept
    end = (8 + len(table) + 16).to_bytes(4, "big")
    mfro = (16).to_bytes(4, "big") + b"mfro" + bytes(4) + end
    copy = folder / "half.mp4"
    copy.write_bytes(content[: start - 8] + end + b"mfra" + table + mfro)
    return copy


def with_a_late_index(path, folder):
    """The table of fragments says that each begins a frame later than it does."""
    content = bytearray(path.read_bytes())
    start = content.rindex(b"tfra") + 20
    size = (content.rindex(b"mfro") - 4 - start) // NUM_FRAMES
    for place in range(start, start + NUM_FRAMES * size, size):
        content[place : place + 8] = (int.from_bytes(content[place : place + 8], "big") + 512).to_bytes(8, "big")
    copy = folder / "late.mp4"
    copy.write_bytes(content)
    return copy


def test_an_index_is_believed_where_its_times_are_those_of_the_fragments(fragmented, tmp_path):
    late, half = with_a_late_index(fragmented, tmp_path), with_half_an_index(fragmented, tmp_path)
    bare = without_index(fragmented, tmp_path)
    found = []
    for path in (fragmented, half, late, bare):
        with open_source(str(path)) as source:
            found.append(is_index_right(source))
    assert found == [True, True, False, False]


def test_a_damaged_index_is_no_error(fragmented, tmp_path):
    content = fragmented.read_bytes()
    start, generator = content.rindex(b"mfra") - 4, np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in generator.integers(start, len(content), 4):
            damaged[place] = generator.integers(256)
        is_index_right(MediaFile(lambda at, count, data=bytes(damaged): data[at : at + count], len(damaged)))


def test_fragments_with_an_index_are_no_problem(fragmented):
    index = index_video(str(fragmented))
    assert (len(index.pts), index.numbers_from, index.problems) == (NUM_FRAMES, "scan", ())


def test_fragments_without_an_index_are_named_with_their_cost_and_a_remedy(fragmented, tmp_path, monkeypatch):
    monkeypatch.setattr("gsvnet.video.fragments._MAX_BYTES", 1 << 20)  # the clip has 6 MB
    index = index_video(str(without_index(fragmented, tmp_path)))
    assert len(index.pts) == NUM_FRAMES
    [problem] = index.problems
    assert "fragmented without an index" in problem
    assert "here 150" in problem
    assert "ffmpeg -i IN -c copy -movflags +faststart OUT.mp4" in problem


@pytest.mark.parametrize("change", [None, without_index, with_half_an_index, with_a_late_index])
def test_every_range_of_fragments_is_complete(media, fragmented, tmp_path, change):
    path = str(change(fragmented, tmp_path) if change else fragmented)
    pts = index_video(path).pts.tolist()
    for first, stop in ((0, 20), (71, 94), (130, NUM_FRAMES)):
        frames = read_frames(
            path,
            first_frame=first,
            start_pts=pts[first],
            end_pts=pts[stop] if stop < NUM_FRAMES else None,
            views=lambda _: [View(72, 96)],
        )
        numbers = [(frame.index, media.read_number(frame.images[0])) for frame in frames]
        assert numbers == [(n, n) for n in range(first, stop)]
