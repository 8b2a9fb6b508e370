from __future__ import annotations

import numpy as np

from gsvnet.nn.agreement import compare_maps


def test_agreement_and_iou_count_places():
    found = compare_maps(np.uint8([[0, 0, 1, 1]]), np.uint8([[0, 1, 1, 1]]), num_classes=3)
    assert found is not None
    assert found.agreement == 0.75
    np.testing.assert_array_equal(found.iou, [1 / 2, 2 / 3, np.nan])


def test_places_that_one_map_does_not_label_do_not_count():
    found = compare_maps(np.uint8([[0, 255, 1]]), np.uint8([[0, 0, 255]]), num_classes=2)
    assert found is not None
    assert (found.num_equal, found.num_places) == (1, 1)
    assert compare_maps(np.uint8([[255]]), np.uint8([[0]]), num_classes=2) is None


def test_comparisons_add_up_place_by_place():
    pairs = np.uint8([[[0, 0]], [[0, 1]]]), np.uint8([[[1, 1]], [[1, 0]]])
    first, second = (compare_maps(*pair, num_classes=2) for pair in pairs)
    whole = compare_maps(*np.concatenate(pairs, axis=2), num_classes=2)
    assert first is not None
    assert second is not None
    assert whole is not None
    assert (first + second).agreement == whole.agreement == 0.5
    np.testing.assert_array_equal((first + second).iou, whole.iou)
