"""What headers claim does not get memory: more samples than there are bytes, larger frames than any camera's."""

from __future__ import annotations

import os
import resource
import shutil
from fractions import Fraction

import av
import pytest

from gsvnet.errors import NotAVideo
from gsvnet.labeling.plan import PlanRule
from gsvnet.labeling.planning import PlanRequest
from gsvnet.labeling.ray.plan import _plan_videos
from gsvnet.video import limits, probe
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View
from gsvnet.video.index import index_video
from gsvnet.video.probe import probe_video

TICK = Fraction(1, 30)
CLAIMED = 80_000_000  # FFmpeg would make 3 to 5 GB of index for them


def set_number(data, kind, offset, value):
    """Write a four-byte number `offset` bytes behind the letters of a box."""
    at = data.index(kind) + len(kind) + offset
    data[at : at + 4] = value.to_bytes(4, "big")


def remux(source, target):
    """Write the packets of a raw stream, one per tick, into another container."""
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(p for p in given.demux(video=0) if p.size):
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = TICK, stream
            output.mux(packet)


def claim_samples(clip, target, *, pad_to=0):
    """A copy whose tables claim many samples of one byte each."""
    data = bytearray(clip.read_bytes())
    set_number(data, b"stsz", 4, 1)
    set_number(data, b"stsz", 8, CLAIMED)
    set_number(data, b"stsc", 12, CLAIMED)
    set_number(data, b"stts", 8, CLAIMED)
    target.write_bytes(data)
    if pad_to:
        os.truncate(target, pad_to)
    return target


def claim_run(fragmented, target):
    """A copy whose first fragment claims many samples that all are alike."""
    data = bytearray(fragmented.read_bytes())
    set_number(data, b"trun", 0, 0)
    set_number(data, b"trun", 4, CLAIMED)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("pad_to", [0, 90_000_000])
def test_more_samples_than_a_file_can_hold_or_a_week_has_are_refused(zoo, tmp_path, pad_to):
    path = claim_samples(zoo("b_frames_mp4"), tmp_path / "clip.mp4", pad_to=pad_to)
    with pytest.raises(NotAVideo, match=r"claims 80,000,000 samples in [\d,]+ bytes"):
        probe_video(str(path))


def test_a_fragment_that_claims_more_samples_than_the_file_has_bytes_is_refused(zoo, tmp_path):
    path = claim_run(zoo("fragmented_mp4"), tmp_path / "clip.mp4")
    with pytest.raises(NotAVideo, match=r"claims 80,000,000 samples in [\d,]+ bytes"):
        probe_video(str(path))


def test_sound_of_single_samples_may_be_longer_than_any_video(media, tmp_path):
    clip = media.write_clip(tmp_path / "clip.mov", num_frames=3)
    data = bytearray(clip.read_bytes())
    set_number(data, b"hdlr", 8, int.from_bytes(b"soun", "big"))
    set_number(data, b"stts", 4, 1)
    set_number(data, b"stts", 12, 1)
    set_number(data, b"stsz", 8, CLAIMED)
    clip.write_bytes(data)
    with probe.open_source(str(clip)) as source:
        limits.check_sample_counts(source, str(clip))


def test_frames_larger_than_8k_are_refused_with_their_size(zoo, monkeypatch):
    monkeypatch.setattr(limits, "MAX_PIXELS", 96 * 72 - 1)
    with pytest.raises(NotAVideo, match="frames are 96 x 72 pixels, more than the 6,911 that are read; scale it down"):
        probe_video(str(zoo("b_frames_mp4")))


def test_frames_that_grow_beyond_the_limit_are_lost(media, tmp_path, monkeypatch):
    settings = {"num_frames": 4, "options": {"x264-params": "bframes=0"}}
    parts = [media.write_clip(tmp_path / f"{h}.h264", size=(h, h * 2), **settings) for h in (64, 128)]
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = tmp_path / "joined.mkv"
    remux(joined, clip)
    monkeypatch.setattr(limits, "MAX_PIXELS", 64 * 128)
    monkeypatch.setattr(probe, "MAX_PIXELS", 64 * 128)
    start = int(index_video(str(clip)).pts[0])
    frames = read_frames(str(clip), first_frame=0, start_pts=start, end_pts=None, views=lambda i: (View(8, 16),))
    assert [frame.status for frame in frames] == ["ok"] * 4 + ["decode_error"] * 4


def test_a_planning_task_gets_no_more_memory_than_it_may_and_others_beside_it_are_planned(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "check_sample_counts", lambda source, uri: None)
    bad = claim_run(zoo("fragmented_mp4"), tmp_path / "bad.mp4")
    good = shutil.copy(zoo("b_frames_mp4"), tmp_path / "good.mp4")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    request = PlanRequest(out=None, rule=PlanRule(interval=5, shard_seconds=60.0, shard_frames=50))
    planned = _plan_videos(request, [str(bad), str(good)], frozenset())
    assert planned[0].failure.error == "NotAVideo"
    assert planned[1].plan.video.num_frames == 110
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000
