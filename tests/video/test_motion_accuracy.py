"""How exact motion is over eleven frames: small forms of what `measure_motion.py` prints."""

from __future__ import annotations

import pytest

from tests.video.measure_motion import score, trace_codec, trace_proxy
from tests.video.moving import draw

SIZE = 192, 256


@pytest.mark.parametrize("kind", ["pan", "zoom"])
@pytest.mark.parametrize(("source", "wanted_px"), [("x264 ref=1 bf=0", 0.5), ("mpeg4", 1.2)])
def test_codec_motion_to_the_keyframe(kind, source, wanted_px, tmp_path):
    moving = draw(kind, *SIZE, 13)
    motion, known = trace_codec(moving, source, tmp_path)
    found = score(moving, 11, 0, motion[11], known[11])
    assert found.median <= wanted_px
    assert found.known > 0.9


@pytest.mark.parametrize("kind", ["pan", "zoom"])
def test_codec_motion_to_the_next_keyframe(kind, tmp_path):
    moving = draw(kind, *SIZE, 13)
    motion, known = trace_codec(moving, "x264 ref=1 bf=0", tmp_path, to_next=True)
    found = score(moving, 1, 12, motion[1], known[1])
    assert found.median <= 0.6
    assert found.known > 0.9


@pytest.mark.parametrize("kind", ["pan", "zoom"])
@pytest.mark.parametrize(("half", "wanted_px"), [(True, 1.0), (False, 0.5)])
@pytest.mark.parametrize("to_next", [False, True])
def test_proxy_motion(kind, half, wanted_px, to_next):
    moving = draw(kind, *SIZE, 13)
    motion, known = trace_proxy(moving, half=half, to_next=to_next)
    t, s = (1, 12) if to_next else (11, 0)
    found = score(moving, t, s, motion[t], known[t])
    assert found.median <= wanted_px
    assert found.known > 0.9


def test_found_references_of_mixed_streams_are_mostly_right(tmp_path):
    moving = draw("zoom", *SIZE, 13)
    motion, known = trace_codec(moving, "x264 default", tmp_path)
    found = score(moving, 11, 0, motion[11], known[11])
    assert found.median <= 0.8
    assert found.far < 0.1
