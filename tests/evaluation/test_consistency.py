from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.evaluation.consistency import ConsistencyResult, measure_consistency
from gsvnet.synthetic.scene import SceneConfig, StreetScene
from gsvnet.video.flow import FlowEstimator, blend_ids, warp_labels

H, W = 24, 32
IMAGE = np.zeros((H, W, 3), np.uint8)


def _known(flow: np.ndarray, valid: np.ndarray | None = None) -> FlowEstimator:
    """A flow (2, H, W) that is the same for every pair."""
    everywhere = np.ones(flow.shape[1:], bool)
    return FlowEstimator(
        name="known", estimate=lambda _current, _previous: (flow, everywhere if valid is None else valid)
    )


def _shift(dx: float, dy: float) -> FlowEstimator:
    flow = np.stack([np.full((H, W), dx, np.float32), np.full((H, W), dy, np.float32)])
    return FlowEstimator(name=f"{dx}, {dy}", estimate=lambda _current, _previous: (flow, np.ones((H, W), bool)))


STILL = _shift(0, 0)


def _halves(left: int = 0, right: int = 1) -> np.ndarray:
    labels = np.full((H, W), left, np.uint8)
    labels[:, W // 2 :] = right
    return labels


def _measure(labels: list[np.ndarray], flow: FlowEstimator = STILL, **options) -> ConsistencyResult:
    images = [np.zeros((*ids.shape, 3), np.uint8) for ids in labels]
    return measure_consistency(labels, images, flow=flow, **{"num_classes": 4} | options)


def test_constant_labels_of_a_still_scene_are_fully_consistent():
    pytest.importorskip("cv2")
    image = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
    result = measure_consistency([_halves()] * 3, [image] * 3, num_classes=4)
    assert result.miou == 100
    assert (result.num_pairs, result.valid_share) == (2, 1)
    assert "DIS" in result.flow


def test_flicker_in_a_known_share_of_pixels_costs_exactly_that():
    flickering = np.zeros((H, W), np.uint8)
    flickering[: H // 4] = 1
    result = _measure([np.zeros((H, W), np.uint8), flickering, np.zeros((H, W), np.uint8)])
    np.testing.assert_array_equal(result.per_class, [75, 0, np.nan, np.nan])
    assert result.miou == 37.5


@pytest.mark.parametrize("mode", ["sound", "etc"])
def test_order_of_the_pairs_does_not_matter(mode):
    a, b = _halves(), _halves(0, 2)
    assert _measure([a, b], mode=mode).miou == _measure([b, a], mode=mode).miou


def test_labels_that_move_with_the_flow_are_fully_consistent():
    wide = np.random.default_rng(0).integers(0, 4, (H + 2, W + 3), np.uint8)
    result = _measure([wide[:H, :W], wide[2:, 3:]], _shift(3, 2))
    assert result.miou == 100
    assert result.valid_share == (H - 2) * (W - 3) / (H * W)


def test_the_same_labels_against_the_flow_are_not():
    wide = np.random.default_rng(0).integers(0, 4, (H + 2, W + 3), np.uint8)
    assert _measure([wide[:H, :W], wide[2:, 3:]], _shift(-3, -2)).miou < 25


def test_exact_flow_of_a_drawn_street_makes_its_labels_fully_consistent():
    scene = StreetScene(SceneConfig(height=90, width=120, seed=1))
    frames = [scene.frame(i) for i in (10, 11)]
    flow = _known(frames[1].flow, frames[1].flow_valid)
    labels = [frame.labels for frame in frames]
    assert _measure(labels, flow, num_classes=11).miou == 100
    assert _measure(labels, _known(0 * frames[1].flow), num_classes=11).miou < 90


def test_pixels_without_valid_flow_do_not_count():
    valid = np.ones((H, W), bool)
    valid[:, :8] = False
    flickering = _halves()
    flickering[:, :8] = 3
    result = _measure([_halves(), flickering], _known(np.zeros((2, H, W), np.float32), valid))
    assert result.miou == 100
    assert result.valid_share == 0.75


def test_unlabeled_pixels_of_either_frame_do_not_count():
    earlier, later = _halves(), _halves()
    earlier[0], later[1] = 255, 255
    result = _measure([earlier, later])
    assert result.miou == 100
    assert result.valid_share == (H - 2) / H


def test_nothing_to_compare_has_no_figure():
    result = _measure([np.full((H, W), 255, np.uint8)] * 2)
    assert math.isnan(result.miou)
    assert result.to_dict(["a", "b", "c", "d"])["miou"] is None


def test_clips_pool_their_pixels_and_keep_their_own_figures():
    steady = _measure([_halves()] * 4)
    changing = _measure([np.zeros((H, W), np.uint8), np.ones((H, W), np.uint8)])
    both = steady + changing
    assert both.per_clip == [100, 0]
    np.testing.assert_array_equal(both.per_class[:2], [60, 60])  # 3 half frames of hits; 1 whole frame is missed
    assert both.num_pairs == 4


def test_each_pair_has_its_own_figure_in_the_order_of_time_and_their_mean_is_not_the_pooled_one():
    steady, flickering = np.zeros((H, W), np.uint8), np.zeros((H, W), np.uint8)
    flickering[: H // 4] = 1
    result = _measure([steady, steady, flickering])
    assert result.per_pair == [[100, 37.5]]  # class 1 counts only where it occurs
    assert result.miou == (87.5 + 0) / 2


@pytest.mark.parametrize("mode", ["sound", "etc"])
def test_of_a_single_pair_its_figure_is_that_of_the_clip(mode):
    result = _measure([_halves(), _halves(0, 2)], mode=mode)
    assert result.per_pair == [[result.miou]]


def test_pairs_stay_with_their_clips():
    both = _measure([_halves()] * 4) + _measure([np.zeros((H, W), np.uint8), np.ones((H, W), np.uint8)])
    assert both.per_pair == [[100] * 3, [0]]


def test_a_pair_without_anything_to_compare_is_null_between_the_others():
    nothing = np.full((H, W), 255, np.uint8)
    figures = _measure([_halves(), _halves(), nothing, _halves(), _halves()]).to_dict(["a", "b", "c", "d"])
    assert figures["per_pair"] == [[100, None, None, 100]]


@pytest.mark.parametrize("other", [{"mode": "etc"}, {"flow": _shift(1, 0)}, {"num_classes": 5}])
def test_figures_of_unequal_arithmetic_do_not_add_up(other):
    with pytest.raises(ConfigError, match="cannot pool"):
        _measure([_halves()] * 2) + _measure([_halves()] * 2, **other)


def test_the_mean_is_over_classes_that_occur_but_in_etc_over_all():
    assert _measure([_halves()] * 2).miou == 100
    etc = _measure([_halves()] * 2, mode="etc")
    assert etc.miou == pytest.approx(50)
    assert etc.per_class.tolist() == pytest.approx([100, 100, 0, 0])


@pytest.mark.parametrize(("mode", "expected"), [("sound", (1, 0)), ("etc", (0, 1))])
def test_sound_brings_the_earlier_labels_forward_and_etc_the_later_ones_back(mode, expected):
    """Which frame's image is `current` to the flow, which points from there to where the labels come from."""
    asked = []

    def spy(current, previous):
        asked.append((current[0, 0, 0], previous[0, 0, 0]))
        return STILL.estimate(current, previous)

    flow = FlowEstimator(name="spy", estimate=spy)
    measure_consistency([_halves()] * 2, [IMAGE, IMAGE + 1], num_classes=4, mode=mode, flow=flow)
    assert asked == [expected]


def test_etc_knows_no_mask():
    nowhere = _known(np.zeros((2, H, W), np.float32), np.zeros((H, W), bool))
    result = _measure([_halves(), _halves(0, 2)], nowhere, mode="etc")
    assert result.per_class.tolist() == pytest.approx([100, 0, 0, 0])
    assert result.valid_share == 1


def test_etc_invents_classes_between_neighbours_and_sound_does_not():
    labels = [_halves(0, 3)] * 2
    half = _shift(0.5, 0)
    assert _measure(labels, half, mode="etc").per_class[1] == 0
    assert _measure(labels, half, mode="etc").clips[0].union[1] == H  # one column of class 1: half way from 0 to 3
    assert _measure(labels, _shift(0.4, 0)).miou == 100


def test_etc_loses_pixels_of_one_class_to_rounding_and_sound_does_not():
    sevens = [np.full((H, W), 7, np.uint8)] * 2
    random = _known(np.random.default_rng(0).normal(0, 2, (2, H, W)).astype(np.float32))
    assert _measure(sevens, random, num_classes=8).miou == 100
    counts = _measure(sevens, random, num_classes=8, mode="etc").clips[0]
    assert 0 < counts.union[6] == H * W - counts.intersection[7]


def _fetch_literally(labels: np.ndarray, px: np.float32, py: np.float32) -> int:
    """One pixel of Resample2d and the truncation after it, in float32 steps."""
    one, value = np.float32(1), np.float32(0)
    a, b = px - np.floor(px), py - np.floor(py)
    for row, weight_y in ((0, one - b), (1, b)):
        for column, weight_x in ((0, one - a), (1, a)):
            y = min(max(math.floor(py) + row, 0), labels.shape[0] - 1)
            x = min(max(math.floor(px) + column, 0), labels.shape[1] - 1)
            value += weight_x * weight_y * np.float32(labels[y, x])
    return int(value)


def _etc_literally(labels: list[np.ndarray], flow: np.ndarray, num_classes: int) -> float:
    """The script pixel by pixel: the current label against the next frame's, fetched along current -> next."""
    hits, here, there = (np.zeros(num_classes) for _ in range(3))
    last = num_classes - 1
    for current, following in pairwise(labels):
        for (y, x), label in np.ndenumerate(current):
            warped = _fetch_literally(following, np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x])
            label = 255 if warped == 255 else int(label)
            here[min(label, last)] += label <= num_classes
            there[min(warped, last)] += warped <= num_classes
            hits[min(label, last)] += label == warped <= num_classes
    return 100 * float(np.mean(hits / (here + there - hits + 1e-10)))


@pytest.mark.parametrize("void_rows", [0, 3])
def test_etc_is_the_script_pixel_by_pixel(void_rows):
    random = np.random.default_rng(1)
    labels = [random.integers(0, 5, (H // 4, W // 4), np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(3)]
    labels[1][:void_rows] = 255
    flow = random.normal(0, 2, (2, H, W)).astype(np.float32)
    expected = _etc_literally(labels, flow, num_classes=5)
    assert _measure(labels, _known(flow), num_classes=5, mode="etc").miou == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def golden(parity_dir) -> Iterator[np.lib.npyio.NpzFile]:
    with np.load(parity_dir / "etc_tc_96x160.npz") as members:
        yield members


def test_etc_counts_as_its_authors_do(golden):
    labels = [golden["in.pred_t"], golden["in.pred_next"]]
    result = _measure(labels, _known(golden["in.flow"]), num_classes=19, mode="etc")
    np.testing.assert_array_equal(result.clips[0].intersection, golden["out.intersection"])
    np.testing.assert_array_equal(result.clips[0].union, golden["out.union"])
    assert result.miou / 100 == pytest.approx(float(golden["out.tc"]), abs=1e-12)


def test_etc_counts_void_as_its_authors_do(golden):
    void = golden["in.pred_next"].copy()
    void[:8] = 255
    still = _known(np.zeros_like(golden["in.flow"]))
    counts = _measure([golden["in.pred_t"], void], still, num_classes=19, mode="etc").clips[0]
    np.testing.assert_array_equal(counts.intersection, golden["out.plain_intersection"])
    np.testing.assert_array_equal(counts.union, golden["out.plain_union"])


def test_blended_ids_are_those_of_the_parity_file(golden):
    np.testing.assert_array_equal(blend_ids(golden["in.pred_next"], golden["in.flow"]), golden["out.warped_float"])


def test_warped_labels_come_from_the_nearest_pixel_or_are_255():
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    warped, inside = warp_labels(
        labels, np.stack([np.full((3, 4), 1.4, np.float32), np.full((3, 4), -0.6, np.float32)])
    )
    np.testing.assert_array_equal(warped, [[255] * 4, [1, 2, 3, 255], [5, 6, 7, 255]])
    np.testing.assert_array_equal(inside, warped != 255)


def test_the_result_says_which_flow_and_what_it_may_be_compared_with():
    figures = _measure([_halves()] * 2, mode="etc").to_dict(["a", "b", "c", "d"])
    assert figures["flow"] == STILL.name
    assert "FlowNet2" in figures["note"]
    assert figures["per_class"] == {"a": 100, "b": 100, "c": 0, "d": 0}


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([_halves()], {}, "fewer than 2 frames"),
        ([_halves(), _halves(0, 4)], {}, r"frame 1 has class id 4; allowed: 0\.\.3"),
        ([_halves(), _halves().astype(np.int64)], {}, "frame 1: labels int64"),
        ([_halves(), _halves()[1:]], {}, r"frame 1: .*\(23, 32\)"),
        ([_halves()] * 2, {"mode": "loose"}, "'loose'; allowed: sound, etc"),
        ([_halves()] * 2, {"num_classes": 256}, r"256 classes; allowed: 1\.\.255"),
    ],
)
def test_bad_input_is_named(labels, options, message):
    with pytest.raises(ConfigError, match=message):
        _measure(labels, **options)


@pytest.mark.parametrize(("num_labels", "num_images", "lacking"), [(2, 3, "labels"), (3, 2, "image")])
def test_labels_and_images_must_be_as_many(num_labels, num_images, lacking):
    with pytest.raises(ConfigError, match=f"frame 2 has no {lacking}"):
        measure_consistency([_halves()] * num_labels, [IMAGE] * num_images, num_classes=4, flow=STILL)


def test_truth_of_the_camvid_clip_is_more_consistent_along_the_flow_than_without(data_dir):
    pytest.importorskip("cv2")
    paths = sorted((data_dir / "camvid" / "images" / "val").iterdir())[:6]
    images = [np.array(Image.open(path)) for path in paths]
    truths = [np.array(Image.open(data_dir / "camvid" / "labels" / "val" / f"{path.stem}.png")) for path in paths]
    truths = [np.where(truth == 11, 255, truth).astype(np.uint8) for truth in truths]
    along = measure_consistency(truths, images, num_classes=len(CAMVID))
    height, width = truths[0].shape
    without = measure_consistency(
        truths, images, num_classes=len(CAMVID), flow=_known(np.zeros((2, height, width), np.float32))
    )
    assert along.miou > without.miou + 10
    assert along.valid_share > 0.8
