"""Whole jobs of GSVNet in all its ways: forward, from both sides, with intervals of its own choice."""

from __future__ import annotations

import pytest

import gsvnet
from gsvnet.labeling.config import LabelConfig
from tests.outputs import assert_equal_rows, rows_of, shards_of

NUM_FRAMES = 53
WAYS = {
    "forward": {"keyframe_interval": 4},
    "two-sided": {"keyframe_interval": 4, "propagation": "two-sided"},
    "uncertain": {"keyframe_interval": 4, "propagation": "two-sided", "uncertain": True},
    "adaptive": {"min_agreement": 0.55},
    "adaptive from both sides": {"min_agreement": 0.55, "propagation": "two-sided"},
}


@pytest.fixture(scope="module")
def clip(media, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return media.write_clip(path, num_frames=NUM_FRAMES, size=(48, 64), options={"x264-params": "keyint=6"})


@pytest.fixture(scope="module")
def label(clip, tmp_path_factory):
    """label(way, **changes): the rows of an output, and its folder."""

    def run(way, **changes):
        out = tmp_path_factory.mktemp("out")
        usual = {"videos": (str(clip),), "out": str(out), "model": "tests.tiny_gsvnet:build_gsvnet", "no_ray": True}
        report = gsvnet.label(LabelConfig(**usual | {"batch_chunks": 2, "cpus_per_actor": 1} | WAYS[way] | changes))
        assert report.exit_code == 0, report.failures
        return rows_of(out), out

    return run


@pytest.fixture(scope="module", params=list(WAYS))
def way(request):
    return request.param


@pytest.fixture(scope="module")
def whole(label, way):
    """All rows of one shard."""
    return label(way)[0]


def test_rows_do_not_depend_on_where_a_video_is_cut(label, way, whole):
    rows, out = label(way, shard_frames=24)
    assert len(shards_of(out)) > 2 - (NUM_FRAMES < 24)
    assert_equal_rows(rows, whole)


def test_drift_is_told_at_the_keyframe_of_each_chunk_but_the_last(whole, way):
    told = [agreement is not None for agreement in whole["drift_agreement"].to_pylist()]
    keyframes = whole["is_keyframe"].to_pylist()
    if way in ("forward", "two-sided", "uncertain"):
        assert told == [index % 4 == 0 and index + 4 < NUM_FRAMES for index in range(NUM_FRAMES)]
    else:
        assert any(told)
        assert not any(t and not k for t, k in zip(told, keyframes))


def test_rows_name_the_interval(whole, way):
    intervals = set(whole["keyframe_interval"].to_pylist())
    assert intervals == {4} if "adaptive" not in way else len(intervals) > 1 and intervals <= {1, 2, 3, 4, 5, 8, 12}


def test_distances_are_those_to_the_nearest_keyframe_used(whole, way):
    keyframes = [i for i, is_keyframe in enumerate(whole["is_keyframe"].to_pylist()) if is_keyframe]
    before = [max(k for k in keyframes if k <= i) for i in range(NUM_FRAMES)]
    behind = [min((k for k in keyframes if k > i), default=10**6) for i in range(NUM_FRAMES)]
    forward = [i - k for i, k in enumerate(before)]
    nearest = [min(i - k, n - i) for i, (k, n) in enumerate(zip(before, behind))]
    found = whole["keyframe_distance"].to_pylist()
    assert found == forward if way in ("forward", "adaptive") else found == nearest


def test_only_asked_for_does_a_row_say_where_sides_differ(whole, way):
    said = [mask is not None for mask in whole["mask_uncertain"].to_pylist()]
    asked = way == "uncertain"
    assert said == [asked and index % 4 != 0 and index < 52 for index in range(NUM_FRAMES)]
