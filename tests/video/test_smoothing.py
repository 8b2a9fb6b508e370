from __future__ import annotations

import sys

import numpy as np
import pytest

from gsvnet.errors import ConfigError, MissingExtra
from gsvnet.synthetic.scene import SceneConfig, StreetScene
from gsvnet.video.smoothing import (
    FlowingLabels,
    NeighbourFlow,
    estimate_neighbour_flow,
    flow_size,
    neighbourhoods,
    smooth_frame,
    smooth_labels,
    to_grey,
)

cv2 = pytest.importorskip("cv2")

ROAD, CAR, TREE = 0, 1, 2
SIZE = 24, 32


def flow(dx: float = 0.0, *, valid: bool = True) -> NeighbourFlow:
    """All that is in the earlier frame is `dx` pixels further right in the later one."""
    to_next = np.full((*SIZE, 2), (dx, 0), np.float32) if valid else np.full((*SIZE, 2), -1e6, np.float32)
    return NeighbourFlow(to_next=to_next, to_previous=-to_next if valid else to_next)


def frames(*classes: int, dx: float = 0.0, cut_before: int | None = None) -> list[FlowingLabels]:
    """Frames of one class each, with flow between them, which is not valid before frame `cut_before`."""
    return [
        FlowingLabels(labels=np.full(SIZE, label, np.uint8), flow=flow(dx, valid=i != cut_before) if i else None)
        for i, label in enumerate(classes)
    ]


def smoothed(*classes: int, own: int, reach: int, cut_before: int | None = None) -> int:
    """The class of all of frame `own`."""
    all_frames = frames(*classes, cut_before=cut_before)
    windows = list(neighbourhoods(all_frames, reach))
    [label] = np.unique(smooth_frame(*windows[own], reach=reach))
    return int(label)


@pytest.mark.parametrize(
    ("classes", "own", "reach", "winner"),
    [
        ((CAR, ROAD, CAR), 1, 1, CAR),  # a flicker
        ((CAR, ROAD, ROAD), 1, 1, ROAD),  # the beginning of something
        ((CAR, ROAD, TREE), 1, 1, ROAD),
        ((ROAD, CAR), 0, 1, ROAD),  # one frame alone outvotes nobody
        ((TREE, CAR, ROAD, CAR, TREE), 2, 2, CAR),
        ((ROAD, CAR, ROAD, CAR, ROAD), 2, 2, ROAD),
        ((ROAD, CAR, CAR), 0, 2, CAR),  # 1 + 1/2 against 1 1/4
        ((CAR, ROAD, ROAD, ROAD, CAR), 2, 2, ROAD),
    ],
)
def test_the_class_with_the_most_weight_of_votes_wins(classes, own, reach, winner):
    assert smoothed(*classes, own=own, reach=reach) == winner


@pytest.mark.parametrize("cut_before", [1, 2])
def test_nobody_votes_across_a_scene_cut(cut_before):
    assert smoothed(CAR, ROAD, CAR, own=1, reach=1, cut_before=cut_before) == ROAD


def test_where_the_flow_got_lost_on_the_way_frames_further_on_do_not_vote():
    assert smoothed(ROAD, CAR, CAR, own=0, reach=2, cut_before=2) == ROAD


def test_votes_follow_what_moves():
    """A car of two columns, four pixels further right in each frame, is missing in the middle one."""
    three = frames(ROAD, ROAD, ROAD, dx=4)
    three[0].labels[:, 8:10] = three[2].labels[:, 16:18] = CAR
    found = smooth_frame([three[0]], three[1], [three[2]], reach=1)
    assert np.flatnonzero((found == CAR).all(0)).tolist() == [12, 13]
    assert (found == CAR).sum() == 2 * SIZE[0]


def test_flow_leads_as_far_in_larger_labels():
    large = [
        FlowingLabels(labels=np.full((2 * SIZE[0], 3 * SIZE[1]), ROAD, np.uint8), flow=f)
        for f in (None, flow(4), flow(4))
    ]
    large[0].labels[:, 24:30] = large[2].labels[:, 48:54] = CAR
    found = smooth_frame([large[0]], large[1], [large[2]], reach=1)
    assert np.flatnonzero((found == CAR).any(0)).tolist() == list(range(36, 42))


def test_what_is_ignored_is_no_vote():
    assert smoothed(255, ROAD, 255, own=1, reach=1) == ROAD


def test_labels_that_are_given_stay_as_they_are():
    three = frames(CAR, ROAD, CAR)
    smooth_frame([three[0]], three[1], [three[2]], reach=1)
    assert [int(f.labels.max()) for f in three] == [CAR, ROAD, CAR]


@pytest.fixture(scope="module")
def street():
    """Images and true labels of three frames of a drawn drive."""
    scene = StreetScene(SceneConfig(height=180, width=240, seed=1))
    drawn = [scene.frame(i) for i in range(10, 13)]
    return [frame.image for frame in drawn], [frame.labels for frame in drawn]


def test_flicker_on_a_drawn_street_goes_away(street):
    images, truth = street
    noisy = [labels.copy() for labels in truth]
    noisy[1][60:100, 60:100] = (truth[1][60:100, 60:100] + 1) % 5
    found = list(smooth_labels(zip(noisy, images), reach=1))
    wrong = [(labels != t).mean() for labels, t in zip(found, truth)]
    assert (noisy[1] != truth[1]).mean() > 0.03
    assert max(wrong) < 0.01


def test_true_labels_hardly_change(street):
    images, truth = street
    found = list(smooth_labels(zip(truth, images), reach=2))
    assert np.mean([labels != t for labels, t in zip(found, truth)]) < 0.01


def test_reach_0_leaves_all_as_it_is_and_needs_no_images():
    labels = [f.labels for f in frames(CAR, ROAD, CAR)]
    assert all(a is b for a, b in zip(smooth_labels(((ids, None) for ids in labels), reach=0), labels, strict=True))


@pytest.mark.parametrize("reach", [-1, 9])
def test_a_reach_that_makes_no_sense_is_refused(reach):
    with pytest.raises(ConfigError, match=f"over {reach} frames .* allowed: 0..8"):
        smooth_labels([], reach=reach)


def test_the_same_labels_for_any_count_of_threads(street):
    images, _ = street
    before = cv2.getNumThreads()
    results = []
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            greys = [to_grey(image) for image in images[:2]]
            found = estimate_neighbour_flow(*greys)
            results.append((found.to_next.tobytes(), found.to_previous.tobytes()))
    finally:
        cv2.setNumThreads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    ("video", "images"), [((1080, 1920), (180, 320)), ((100, 160), (100, 160)), ((8, 40), (16, 40)), ((4, 4), (16, 16))]
)
def test_flow_is_found_in_small_images(video, images):
    assert flow_size(*video) == images
    grey = to_grey(np.zeros((*images, 3), np.uint8))
    assert grey.shape == images
    assert not estimate_neighbour_flow(grey, grey).to_next.any()


def test_without_opencv_the_extra_is_named(monkeypatch, street):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"gsvnet\[smooth\]"):
        list(smooth_labels(zip(street[1], street[0]), reach=1))
