from __future__ import annotations

import pytest
import torch

from gsvnet.nn.warp import warp, warp_as_published


def constant_flow(height: int, width: int, dx: float, dy: float) -> torch.Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, height, width)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (9, 13), (60, 80)])
def test_zero_flow_changes_nothing(size):
    source = torch.rand(1, 3, *size)
    assert torch.allclose(warp(source, constant_flow(*size, 0, 0)), source, atol=1e-5)


def test_positive_flow_fetches_from_the_right_and_below():
    source = torch.arange(12.0).view(1, 1, 3, 4)
    got = warp(source, constant_flow(3, 4, 1, 1))
    assert torch.allclose(got[..., :2, :3], source[..., 1:, 1:], atol=1e-5)


def test_outside_is_zero():
    got = warp(torch.ones(1, 2, 3, 4), constant_flow(3, 4, 2, 0))
    assert torch.allclose(got[..., :2], torch.ones(()), atol=1e-5)
    assert torch.allclose(got[..., 2:], torch.zeros(()), atol=1e-5)


def test_half_outside_is_half_as_large():
    got = warp(torch.ones(1, 1, 4, 4), constant_flow(4, 4, -0.5, 0))
    assert torch.allclose(got[..., 0], torch.tensor(0.5), atol=1e-5)
    assert torch.allclose(got[..., 1:], torch.ones(()), atol=1e-5)


def test_a_grid_of_one_row_is_left_by_vertical_flow():
    got = warp(torch.ones(1, 1, 1, 4), constant_flow(1, 4, 0, 1))
    assert torch.allclose(got, torch.zeros(()), atol=1e-5)


def test_between_pixels_it_interpolates():
    source = torch.tensor([0.0, 10.0, 20.0, 30.0]).view(1, 1, 1, 4)
    got = warp(source, constant_flow(1, 4, 0.25, 0))
    assert torch.allclose(got[0, 0, 0, :3], torch.tensor([2.5, 12.5, 22.5]), atol=1e-4)


def test_gradients_reach_the_flow():
    flow = torch.full((1, 2, 3, 4), 0.3, requires_grad=True)
    warp(torch.arange(12.0).view(1, 1, 3, 4), flow)[..., :2, :3].sum().backward()
    assert torch.allclose(flow.grad[0, 0, :2, :3], torch.ones(()), atol=1e-4)  # the ramp rises by 1 per column
    assert torch.allclose(flow.grad[0, 1, :2, :3], torch.full((), 4.0), atol=1e-4)  # and by 4 per row


def test_positions_stay_float32_under_autocast():
    source, flow = torch.rand(1, 2, 3, 250), constant_flow(3, 250, 0.37, 0)
    with torch.autocast("cpu", torch.bfloat16):
        got = warp(source.bfloat16(), flow.bfloat16())
    assert got.dtype == torch.float32
    assert torch.allclose(got, warp(source, flow), atol=0.02)


def test_the_published_sampling_is_off_by_half_a_pixel_at_the_borders():
    ramp = torch.arange(9.0)[None, None, None].expand(1, 1, 5, 9)
    out = warp_as_published(ramp, torch.zeros(1, 2, 5, 9))
    torch.testing.assert_close(out[0, 0, 2, 1:-1], torch.arange(1.0, 8) * 9 / 8 - 0.5)
    assert (out[0, 0, 0] < 0.51 * ramp[0, 0, 0].clamp(min=1) * 9 / 8).all()  # half a row is outside


def test_the_published_sampling_moves_along_the_flow():
    image = torch.zeros(1, 1, 5, 9)
    image[..., 2, 6] = 1.0
    flow = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 5, 9)
    out = warp_as_published(image, flow)[0, 0]
    assert out.argmax().item() == 2 * 9 + 4
