from __future__ import annotations

import numpy as np
import pytest

from gsvnet.errors import ConfigError
from gsvnet.evaluation.confusion import ConfusionMatrix


def _ids(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def test_iou_is_intersection_over_union():
    matrix = ConfusionMatrix(3)
    matrix.update(_ids(0, 0, 0, 1, 1, 2), _ids(0, 0, 1, 1, 2, 2))
    np.testing.assert_allclose(matrix.iou(), [2 / 3, 1 / 3, 1 / 2])
    assert matrix.miou() == pytest.approx(0.5)


def test_updates_add_up():
    parts, whole = ConfusionMatrix(2), ConfusionMatrix(2)
    truth, labels = _ids(0, 1, 1, 0, 255), _ids(0, 0, 1, 1, 1)
    whole.update(truth, labels)
    parts.update(truth[:2], labels[:2])
    parts.update(truth[2:], labels[2:])
    np.testing.assert_array_equal(parts.counts, whole.counts)
    np.testing.assert_array_equal((parts + whole).counts, 2 * whole.counts)


def test_ignored_truth_is_not_counted():
    matrix = ConfusionMatrix(2)
    matrix.update(_ids(255, 255, 0), _ids(1, 0, 0))
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_a_pixel_labeled_ignore_misses_its_class_and_belongs_to_no_other():
    matrix = ConfusionMatrix(2)
    matrix.update(_ids(0, 0, 1), _ids(0, 255, 1))
    assert matrix.iou().tolist() == [0.5, 1.0]


def test_absent_classes_are_nan_and_left_out_of_the_mean():
    matrix = ConfusionMatrix(4)
    matrix.update(_ids(0, 0, 2), _ids(0, 0, 0))
    assert np.isnan(matrix.iou()).tolist() == [False, True, False, True]
    assert matrix.absent() == (1, 3)
    assert matrix.miou() == pytest.approx((2 / 3 + 0) / 2)


def test_a_class_only_labeled_is_no_class_of_the_mean_and_costs_the_true_one():
    matrix = ConfusionMatrix(3)
    matrix.update(_ids(0, 0), _ids(0, 1))
    assert np.isnan(matrix.iou()).tolist() == [False, True, True]
    assert matrix.miou() == 0.5
    assert (matrix.absent(), matrix.only_labeled()) == ((1, 2), (1,))


def test_worse_labels_of_the_same_truth_never_score_higher_by_labeling_fewer_classes():
    truth = _ids(0, 0, 0, 0, 1, 1)
    good, worse = ConfusionMatrix(3), ConfusionMatrix(3)
    good.update(truth, _ids(0, 0, 0, 2, 1, 1))
    worse.update(truth, _ids(0, 0, 0, 1, 1, 1))
    assert worse.miou() < good.miou()


def test_nothing_counted_has_no_miou():
    assert np.isnan(ConfusionMatrix(3).miou())


def test_counts_are_exact_beyond_float32():
    matrix = ConfusionMatrix(1)
    matrix.counts[0, 0] = 2**24
    matrix.update(_ids(0), _ids(0))
    assert matrix.counts[0, 0] == 2**24 + 1


@pytest.mark.parametrize(("truth", "labels", "message"), [(7, 0, "truth has class id 7"), (0, 254, "labels has")])
def test_ids_out_of_range_are_named(truth, labels, message):
    with pytest.raises(ConfigError, match=message):
        ConfusionMatrix(3).update(_ids(truth), _ids(labels))


def test_shapes_must_agree():
    with pytest.raises(ConfigError, match=r"\(2,\).*\(3,\)"):
        ConfusionMatrix(3).update(_ids(0, 1), _ids(0, 1, 2))


def test_holding_camvid_truth_gives_the_known_baseline(data_dir):
    """Truth kept from an earlier frame of the val clip, mIoU after 67, 133, 200, 267 ms (measured independently)."""
    image = pytest.importorskip("PIL.Image")
    paths = sorted((data_dir / "camvid" / "labels" / "val").glob("*.png"))
    truths = [np.array(image.open(path)) for path in paths]
    truths = [np.where(truth == 11, 255, truth).astype(np.uint8) for truth in truths]
    for distance, expected in ((1, 73.6), (2, 63.6), (3, 57.3), (4, 53.6)):
        matrix = ConfusionMatrix(11)
        for truth, earlier in zip(truths[distance:], truths):
            matrix.update(truth, earlier)
        assert 100 * matrix.miou() == pytest.approx(expected, abs=0.1)
