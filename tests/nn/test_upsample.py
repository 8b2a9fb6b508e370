from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from gsvnet.nn import upsample
from gsvnet.nn.upsample import upsample_labels


def _reference(logits: torch.Tensor, size: tuple[int, int], align_corners: bool) -> torch.Tensor:
    full = F.interpolate(logits.float().contiguous(), size, mode="bilinear", align_corners=align_corners)
    return full.argmax(1).to(torch.uint8)


def _assert_same_labels(logits: torch.Tensor, size: tuple[int, int], align_corners: bool) -> None:
    """Equal to the reference, but for pixels whose best two classes are within 1e-6 of the largest logit in float64."""
    labels = upsample_labels(logits, size, align_corners=align_corners)
    assert labels.dtype == torch.uint8
    wrong = labels != _reference(logits, size, align_corners)
    if wrong.any():
        full = F.interpolate(logits.double(), size, mode="bilinear", align_corners=align_corners)
        top = full.topk(2, dim=1).values
        lead = (top[:, 0] - top[:, 1])[wrong]
        assert (lead <= 1e-6 * logits.abs().max()).all(), f"{int(wrong.sum())} pixels differ, lead up to {lead.max()}"


def _blocky(n: int, c: int, h: int, w: int, seed: int) -> torch.Tensor:
    """Logits of large regions with noise, as networks make them: most cells uniform."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, c, max(1, h // 6), max(1, w // 6), generator=generator)
    regions = F.interpolate(coarse, (h, w), mode="nearest") * 4
    return regions + torch.randn(n, c, h, w, generator=generator)


LARGE = {
    "random": torch.randn(1, 11, 24, 37, generator=torch.Generator().manual_seed(0)),
    "blocky": _blocky(1, 11, 24, 37, 1),
    "smooth": F.interpolate(_blocky(1, 11, 4, 5, 2), (24, 37), mode="bicubic"),
    "quantised": _blocky(1, 11, 24, 37, 3).round(),
    "tiny": _blocky(1, 11, 24, 37, 4) * 1e-30,
    "offset": _blocky(1, 11, 24, 37, 5) * 1e-4 + 1e3,
}


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(192, 296), (193, 295), (100, 41), (25, 38), (24, 74), (24, 37), (11, 90), (5, 7)])
@pytest.mark.parametrize("kind", LARGE)
def test_labels_equal_interpolate_and_argmax(kind, size, align_corners):
    _assert_same_labels(LARGE[kind], size, align_corners)


def _one_large_sample() -> torch.Tensor:
    """Rounding is as coarse as 0.5 at one sample, and fine elsewhere."""
    logits = _blocky(2, 11, 24, 37, 15)
    logits[0, 3, 10, 20] = 4e6
    return logits


def _classes_switched_off() -> torch.Tensor:
    """A class is off everywhere, and each other one in some region."""
    logits = _blocky(2, 11, 24, 37, 16)
    logits[:, 4] = -1e30
    logits[:, :, 5:9] = torch.where(logits[:, :, 5:9] < -2, torch.finfo(torch.float32).min, logits[:, :, 5:9])
    return logits


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("make", [lambda: _blocky(3, 19, 24, 37, 17), _one_large_sample, _classes_switched_off])
def test_labels_equal_torchs_to_the_bit_away_from_ties(make, align_corners):
    logits = make()
    labels = upsample_labels(logits, (192, 296), align_corners=align_corners)
    assert torch.equal(labels, _reference(logits, (192, 296), align_corners))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("ulps", [1, 4, 16, 64])
def test_near_ties_have_the_labels_of_computing_every_pixel(ulps, align_corners):
    generator = torch.Generator().manual_seed(ulps)
    ties = torch.randn(2, 1, 9, 11, generator=generator) * 8
    logits = ties * (1 + torch.randint(-ulps, ulps + 1, (2, 6, 9, 11), generator=generator) * 2.0**-23)
    rows, columns = (upsample._axis(n, m, align_corners, torch.device("cpu")) for n, m in ((9, 70), (11, 90)))
    labels = upsample_labels(logits, (70, 90), align_corners=align_corners)
    assert torch.equal(labels, upsample._label_strips(logits, rows, columns))
    _assert_same_labels(logits, (70, 90), align_corners)


@settings(max_examples=300)
@given(st.data())
def test_labels_equal_the_reference_at_any_small_size(data):
    n, c, h, w = (data.draw(st.integers(1, top), label) for top, label in ((2, "n"), (5, "c"), (6, "h"), (6, "w")))
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)), "size")
    levels = data.draw(st.sampled_from([2, 3, 1000]), "levels")  # few levels make ties
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31), "seed"))
    logits = torch.randint(-levels, levels + 1, (n, c, h, w), generator=generator) / levels
    _assert_same_labels(logits, size, data.draw(st.booleans(), "align_corners"))


@pytest.mark.parametrize("align_corners", [True, False])
def test_ties_go_to_the_lowest_class(align_corners):
    logits = torch.zeros(1, 4, 3, 3)
    logits[:, 1:3] = 1.0
    assert (upsample_labels(logits, (17, 20), align_corners=align_corners) == 1).all()


def test_a_class_that_wins_no_corner_may_win_inside():
    logits = torch.tensor([[9.0, 0.0], [6.0, 6.0], [0.0, 9.0]]).view(1, 3, 1, 2)
    labels = upsample_labels(logits, (2, 9), align_corners=True)
    assert labels[0].tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 2


def test_two_labels_meet_in_the_middle_between_samples():
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    # half-pixel centres: samples at columns 1.5 and 5.5, the border beyond them is constant
    assert upsample_labels(logits, (2, 8), align_corners=False)[0].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2
    # corners: samples at columns 0 and 7
    assert upsample_labels(logits, (2, 8), align_corners=True)[0].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]] * 2


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_a_grid_of_one_pixel_spreads_its_label(shape, align_corners):
    logits = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(7))
    _assert_same_labels(logits, (9, 13), align_corners)
    if shape == (1, 1):
        assert (upsample_labels(logits, (9, 13), align_corners=align_corners) == logits.argmax()).all()


def test_one_class_gives_zeros():
    assert not upsample_labels(torch.randn(2, 1, 3, 4), (9, 8), align_corners=True).any()


def test_255_classes_fit():
    logits = torch.zeros(1, 255, 2, 2)
    logits[:, 254] = 1
    assert (upsample_labels(logits, (6, 6), align_corners=False) == 254).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_brought_to_float32_first(dtype):
    logits = _blocky(1, 5, 12, 12, 8).to(dtype)
    expected = upsample_labels(logits.float(), (50, 60), align_corners=True)
    assert torch.equal(upsample_labels(logits, (50, 60), align_corners=True), expected)


def test_memory_layout_does_not_matter():
    logits = _blocky(2, 5, 12, 12, 9)
    expected = upsample_labels(logits, (50, 60), align_corners=True)
    within = torch.full((4, 6, 12, 12), 99.0)
    within[1:3, :5] = logits
    transposed = logits.transpose(2, 3).contiguous().transpose(2, 3)
    stacked = torch.cat((within[:1, :5], logits))[1:]
    for other in (logits.to(memory_format=torch.channels_last), transposed, within[1:3, :5], stacked):
        assert torch.equal(upsample_labels(other, (50, 60), align_corners=True), expected)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_logits_give_what_torch_gives(value, align_corners):
    logits = _blocky(2, 5, 9, 9, 10)
    logits[1, 3, 4, 2:5] = value
    expected = _reference(logits, (36, 50), align_corners)
    assert torch.equal(upsample_labels(logits, (36, 50), align_corners=align_corners), expected)


@pytest.mark.parametrize("size", [(36, 50), (38, 42), (12, 4), (9, 9)])
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("shape", [(9, 9), (1, 9), (9, 1)])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_an_infinite_class_gives_what_torch_gives_up_to_every_border(value, shape, align_corners, size):
    logits = torch.randn(1, 5, *shape, generator=torch.Generator().manual_seed(18))
    logits[:, 3] = value
    expected = _reference(logits, size, align_corners)
    assert torch.equal(upsample_labels(logits, size, align_corners=align_corners), expected)


def test_a_batch_has_the_labels_of_its_frames_alone():
    logits = _blocky(3, 7, 16, 20, 11)
    alone = torch.cat([upsample_labels(frame[None], (64, 90), align_corners=False) for frame in logits])
    assert torch.equal(upsample_labels(logits, (64, 90), align_corners=False), alone)


def test_labels_do_not_depend_on_the_block_size(monkeypatch):
    logits = _blocky(2, 7, 16, 20, 12)
    expected = upsample_labels(logits, (64, 90), align_corners=False)
    monkeypatch.setattr(upsample, "_BLOCK_PIXELS", 100)
    assert torch.equal(upsample_labels(logits, (64, 90), align_corners=False), expected)
    assert torch.equal(upsample_labels(logits, (12, 90), align_corners=False), _reference(logits, (12, 90), False))


@pytest.mark.parametrize(
    ("n", "m", "align_corners"), list(itertools.product([1, 2, 7, 45], [3, 46, 360], [True, False]))
)
def test_axis_weights_are_torchs_own(n, m, align_corners):
    axis = upsample._axis(n, m, align_corners, torch.device("cpu"))
    ramp = torch.rand(n, generator=torch.Generator().manual_seed(n))
    mixed = ramp[axis.lower] * axis.weights[0] + ramp[axis.upper] * axis.weights[1]
    expected = F.interpolate(ramp.view(1, 1, n, 1), (m, 1), mode="bilinear", align_corners=align_corners).flatten()
    torch.testing.assert_close(mixed, expected, rtol=0, atol=2e-7)
    assert sorted(set(axis.pixels[:, axis.occupied].flatten().tolist())) == list(range(m))


class _LargestTensor(TorchFunctionMode):
    """Remembers the number of elements of the largest tensor that any torch function returns."""

    elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("kind", ["random", "blocky"])
def test_full_size_logits_are_never_made(kind):
    logits, (height, width) = LARGE[kind], (360, 555)
    with _LargestTensor() as largest:
        upsample_labels(logits, (height, width), align_corners=False)
    assert height * width <= largest.elements < 2 * height * width


@pytest.mark.gpu
@pytest.mark.parametrize("align_corners", [True, False])
def test_labels_on_cuda_equal_the_reference_on_cuda(align_corners):
    _assert_same_labels(_blocky(2, 19, 64, 128, 13).cuda(), (512, 1024), align_corners)


def test_works_outside_inference_mode_after_inside():
    logits = _blocky(1, 3, 5, 5, 14).requires_grad_()
    with torch.inference_mode():
        inside = upsample_labels(logits, (31, 33), align_corners=True)
    assert torch.equal(upsample_labels(logits, (31, 33), align_corners=True), inside)
