from __future__ import annotations

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gsvnet.evaluation.resize import resize_image
from gsvnet.video.frames import View, render


def _picture(height: int, width: int) -> torch.Tensor:
    """(3, H, W) uint8: soft blobs, hard edges and a little noise."""
    generator = torch.Generator().manual_seed(0)
    blobs = F.interpolate(torch.rand(1, 3, 9, 12, generator=generator), (height, width), mode="bicubic")[0] * 255
    blobs[:, height // 3 : height // 2, width // 4 : width // 2] = torch.tensor([250.0, 20.0, 90.0])[:, None, None]
    return (blobs + 8 * torch.randn(3, height, width, generator=generator)).clamp(0, 255).to(torch.uint8)


def test_whole_ratios_are_block_means():
    image = _picture(16, 24)
    means = image.float().unflatten(1, (4, 4)).unflatten(3, (6, 4)).mean((2, 4))
    assert (resize_image(image, (4, 6), "area").float() - means).abs().max() <= 0.5


def test_odd_ratios_weigh_pixels_by_their_covered_part():
    image = torch.tensor([0, 30, 240], dtype=torch.uint8).expand(3, 1, 3)
    assert resize_image(image, (1, 2), "area")[0].tolist() == [[10, 170]]


def test_the_same_size_is_the_same_image():
    image = _picture(10, 12)
    assert torch.equal(resize_image(image, (10, 12), "area"), image)


@pytest.mark.parametrize("size", [(90, 120), (270, 360), (240, 320), (120, 160), (101, 133), (540, 720), (500, 200)])
def test_area_is_what_labeling_gets_from_the_decoder(size):
    image = _picture(360, 480)[:1].expand(3, -1, -1)  # grey: of RGB input, swscale reads every other pixel's colour
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), "rgb24")
    decoder = torch.from_numpy(render(frame, View(*size))).permute(2, 0, 1)
    difference = (resize_image(image, size, "area").float() - decoder.float()).abs()
    assert difference.mean() < 0.1
    assert difference.max() <= 2


def test_exact_keeps_the_corner_pixels_and_fractions():
    image = _picture(17, 33)
    resized = resize_image(image, (5, 9), "exact")
    assert resized.dtype == torch.float32
    assert torch.equal(resized, image[:, ::4, ::4].float())
