from __future__ import annotations

import torch

from gsvnet.nn.best_class import best_class


def test_it_is_argmax_and_ties_go_to_the_lowest_class():
    logits = torch.randint(-3, 3, (2, 7, 20, 30), generator=torch.Generator().manual_seed(0)).float()
    lowest_of_the_best = (logits == logits.amax(1, keepdim=True)).to(torch.uint8).argmax(1)
    assert best_class(logits).dtype == torch.uint8
    assert torch.equal(best_class(logits).long(), lowest_of_the_best)


def test_255_classes_fit():
    logits = torch.zeros(1, 255, 1, 2)
    logits[0, 254, 0, 1] = 1.0
    assert best_class(logits).tolist() == [[[0, 254]]]


def test_layout_and_precision_do_not_matter():
    logits = torch.randn(2, 5, 8, 9, generator=torch.Generator().manual_seed(1)).bfloat16()
    expected = best_class(logits.float())
    assert torch.equal(best_class(logits), expected)
    assert torch.equal(best_class(logits.contiguous(memory_format=torch.channels_last)), expected)
