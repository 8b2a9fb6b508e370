from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gsvnet.classes import CAMVID
from gsvnet.reading.pictures import fit_labels
from gsvnet.store.read import open_labels
from gsvnet.store.timeline import read_timelines, summarise_videos
from gsvnet.viewing.thumbnails import choose_frames, draw_strips, encode_within, shrink
from tests.viewing.conftest import drifted


def timeline(confidence, drift=None):
    """One frame a bin; drift: of those that begin a chunk."""
    frames = np.arange(len(confidence))
    return SimpleNamespace(
        drift_max=drift,
        drifted_keyframe=None if drift is None else np.where(np.isnan(drift), -1, frames),
        labeled_frame=np.where(np.isnan(confidence), -1, frames),
        least_confident=frames,
        confidence_min=np.array(confidence, float),
    )


def strips_of(out, num=4, **options):
    labels = open_labels(out)
    timelines = read_timelines(labels, summarise_videos(labels))
    return draw_strips(labels, list(timelines.values()), num, **options)


def test_frames_are_spread_evenly_and_the_least_confident_is_among_them():
    confidence = np.full(40, 0.9)
    confidence[13] = 0.2
    chosen = choose_frames(timeline(confidence), 4)
    assert [(choice.frame, choice.why) for choice in chosen] == [(5, ""), (13, "confidence"), (25, ""), (35, "")]


def test_the_chunk_that_drifted_most_is_among_them():
    confidence, drift = np.full(40, 0.9), np.full(40, np.nan)
    confidence[[13, 25]] = 0.2, 0.5
    drift[::5] = 0.1
    drift[15] = 0.6
    chosen = choose_frames(timeline(confidence, drift), 4)
    assert [(choice.frame, choice.why) for choice in chosen] == [(5, ""), (15, "drift"), (25, "confidence"), (35, "")]


def test_a_drifted_chunk_is_shown_by_its_frame_farthest_from_keyframes(output):
    output.write(change=drifted(10))
    (strip,) = strips_of(output.out)
    assert [(each.frame_index, each.choice.drift) for each in strip.thumbnails if each.choice.why == "drift"] == [
        (14, 0.5)
    ]


def test_lost_stretches_give_no_frame():
    confidence = np.full(40, 0.9)
    confidence[10:30] = np.nan
    chosen = choose_frames(timeline(confidence), 4)
    assert len(chosen) == 4
    assert not set(range(10, 30)) & {choice.frame for choice in chosen}


@pytest.mark.parametrize(("confidence", "num", "expected"), [([0.5], 4, [0]), ([np.nan], 4, []), ([0.5, 0.6], 0, [])])
def test_few_frames_give_few_pictures(confidence, num, expected):
    assert [choice.frame for choice in choose_frames(timeline(np.array(confidence)), num)] == expected


def test_pictures_are_those_of_the_video(labeled, media):
    (strip,), labels = strips_of(labeled, num=8), open_labels(labeled)
    assert (len(strip.thumbnails), strip.num_skipped, strip.problem) == (8, 0, "")
    for thumbnail in strip.thumbnails:
        assert thumbnail.image.shape == (135, 240, 3)
        colours = CAMVID.colourise(fit_labels(labels.labels_at("street", [thumbnail.frame_index])[0], (135, 240)))
        picture = 2 * thumbnail.image.astype(int) - colours  # half of each was laid over the other
        assert media.read_number(picture) == thumbnail.frame_index


def test_out_of_reach_the_labels_are_shown_and_the_reason_said(output):
    output.write()
    (strip,) = strips_of(output.out)
    assert "/videos/drive.mp4: nothing there" in strip.problem
    last = strip.thumbnails[-1]
    assert tuple(last.image[0, 0]) == CAMVID.colours[0]
    assert tuple(last.image[-1, -1]) == CAMVID.colours[3]


def test_without_time_every_video_has_one_picture(output):
    output.write()
    output.write("night-ba9876543210")
    assert [(len(s.thumbnails), s.num_skipped) for s in strips_of(output.out, limit_s=-1.0)] == [(1, 3), (1, 3)]


def test_a_thumbnail_keeps_the_shape_and_small_pictures_their_size():
    assert shrink(None, np.zeros((1080, 1920), np.uint8), CAMVID).shape == (135, 240, 3)
    assert shrink(None, np.zeros((1920, 1080), np.uint8), CAMVID).shape == (180, 101, 3)
    assert shrink(np.zeros((20, 30, 3), np.uint8), np.zeros((10, 15), np.uint8), CAMVID).shape == (20, 30, 3)


def test_pictures_keep_to_the_budget():
    noise = [np.random.default_rng(i).integers(0, 255, (135, 240, 3), np.uint8) for i in range(8)]
    plenty, some, few = (encode_within(noise, budget) for budget in (1_000_000, 60_000, 12_000))
    assert all(plenty)
    assert all(some)
    assert sum(map(len, some)) <= 60_000 < sum(map(len, plenty))
    assert 0 < sum(map(len, few)) <= 12_000
    assert few[1] == ""
    assert encode_within(noise, 10) == [""] * 8
