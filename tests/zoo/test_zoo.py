"""Videos of all kinds are read exactly, or refused with a reason. All of them: `make zoo`; a sample in every run."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from tests.zoo.catalogue import THEMES, ZOO
from tests.zoo.checking import check
from tests.zoo.drawing import COLOURED, LUMA_SHARES, TAGS, colour_error, to_planes
from tests.zoo.exhibit import Refused
from tests.zoo.making import LOSSLESS, Look, clip
from tests.zoo.table import table

README = Path(__file__).parents[2] / "gsvnet/video/README.md"
SAMPLE = (
    "av1_mkv",
    "cmaf_mp4",
    "fragmented_mfra_mp4",
    "gap_ts",
    "edit_two_mp4",
    "wrap_ts",
    "turned_90_mp4",
    "turned_nowhere_mp4",
    "late_video_mkv",
    "gap_avi",
    "mirrored_mp4",
    "grows_mp4",
    "bt709_full_mp4",
    "gray_limited_mkv",
    "ictcp_mp4",
    "encrypted_mp4",
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in ZOO])
def test_every_exhibit_is_read_as_the_catalogue_says(name, tmp_path):
    exhibit = ZOO[name]
    exhibit.make(tmp_path / exhibit.file)
    check(exhibit, tmp_path / exhibit.file)


def test_the_sample_is_of_the_zoo_and_of_every_theme():
    assert set(SAMPLE) <= set(ZOO)
    assert {theme for theme, exhibits in THEMES.items() if {e.name for e in exhibits} & set(SAMPLE)} == set(THEMES)


def test_every_exhibit_has_a_name_of_its_own():
    assert len(ZOO) == sum(map(len, THEMES.values()))


def test_the_documents_table_is_the_catalogue():
    assert table(THEMES) in README.read_text(), "print it again: python -m tests.zoo"


ALIKE = {"bt601", "fcc"}
PAIRS = [(a, b) for a in LUMA_SHARES for b in LUMA_SHARES if a != b and {a, b} != ALIKE]


@pytest.mark.parametrize(
    ("matrix", "tag"), [pytest.param(*p, marks=() if p == ("bt709", "bt601") else pytest.mark.slow) for p in PAIRS]
)
def test_colours_read_by_another_matrix_are_noticed(tmp_path, matrix, tag):
    expect = ZOO[f"{matrix}_mp4"].expect
    look = Look(matrix=matrix, tag=TAGS[tag], tagged_range=1)
    wrong = clip("wrong.mp4", "", expect, pixel_format="yuv444p", options=LOSSLESS, look=look)
    wrong.make(tmp_path / wrong.file)
    with pytest.raises(AssertionError, match="colours are off"):
        check(wrong, tmp_path / wrong.file)


@pytest.mark.parametrize(("full_range", "tagged_range"), [(True, 1), (False, 2)])
def test_colours_read_in_another_range_are_noticed(tmp_path, full_range, tagged_range):
    look = Look(tag=TAGS["bt601"], full_range=full_range, tagged_range=tagged_range)
    wrong = clip("wrong.mp4", "", ZOO["bt601_mp4"].expect, pixel_format="yuv444p", options=LOSSLESS, look=look)
    wrong.make(tmp_path / wrong.file)
    with pytest.raises(AssertionError, match="colours are off"):
        check(wrong, tmp_path / wrong.file)


def test_drawn_planes_have_the_levels_of_the_standard():
    """ITU-R BT.709: white is 235, black 16, and a pure red has a luma of 16 + 219 x 0.2126 and a Cr of 240."""
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    frame = to_planes(colours, "yuv444p", matrix="bt709")
    y, _, v = (np.frombuffer(memoryview(plane), np.uint8)[:3].tolist() for plane in frame.planes)
    assert (y, v) == ([235, 16, 63], [128, 128, 240])


def test_a_picture_differs_from_itself_by_nothing_and_from_a_shift_of_ten_levels_by_ten():
    image = COLOURED.draw(5, 72, 96)
    assert colour_error(image, image) == 0
    assert colour_error(image.astype(int) + [10, 0, 0], image) == pytest.approx(10)


REMUXED = [name for name, e in ZOO.items() if isinstance(e.expect, Refused) and "+genpts" in e.expect.message]


@pytest.mark.slow
@pytest.mark.parametrize("name", REMUXED)
def test_what_is_refused_for_its_times_is_read_after_the_remedy(tmp_path, name):
    """PyAV asks FFmpeg for `+genpts` unless told otherwise: this is what the message tells people to do."""
    path, copied = tmp_path / ZOO[name].file, tmp_path / "copied.mkv"
    ZOO[name].make(path)
    with av.open(str(path)) as source, av.open(str(copied), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    index = index_video(str(copied))
    frames = list(
        read_frames(
            str(copied), first_frame=0, start_pts=int(index.pts[0]), end_pts=None, views=lambda _: [View(72, 96)]
        )
    )
    assert [COLOURED.read(frame.images[0]) for frame in frames] == list(range(24))
