"""From the planes of a decoded frame to RGB at the size that a network reads, in torch: for frames that lie on a GPU.

On a CPU swscale does this (`frames.py`). Here are the same steps as arithmetic: each plane is averaged to the wanted
size (box filter, ratios need not be whole), then comes the matrix of ITU-R BT.601 or BT.709. Against swscale's fixed
point: no difference at the frame's own size (x86), at most one level in at most 3 % of the values at others;
`tests/video/test_planes.py` holds both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from gsvnet.video.frames import View

if TYPE_CHECKING:
    from torch import Tensor

_LEFT_OF_CENTRE = 0.25  # 4:2:0 chroma lies on every second luma column, between luma rows; in chroma pixels


@dataclass(frozen=True, kw_only=True)
class Colours:
    """How to read luma and chroma. red, blue: their shares of luma (BT.601: 0.299, 0.114; BT.709: 0.2126, 0.0722)."""

    red: float
    blue: float
    full_range: bool

    @property
    def black(self) -> int:
        """Luma of black."""
        return 0 if self.full_range else 16

    @property
    def luma_gain(self) -> float:
        """Levels of RGB per level of luma."""
        return 1.0 if self.full_range else 255 / 219

    @property
    def red_gain(self) -> float:
        """Levels of red per level of red chroma."""
        return 2 * (1 - self.red) * (1.0 if self.full_range else 255 / 224)

    @property
    def blue_gain(self) -> float:
        """Levels of blue per level of blue chroma."""
        return 2 * (1 - self.blue) * (1.0 if self.full_range else 255 / 224)

    @property
    def green_gains(self) -> tuple[float, float]:
        """Levels of green per level of blue and of red chroma."""
        green = 1 - self.red - self.blue
        return -self.blue_gain * self.blue / green, -self.red_gain * self.red / green


def render_planes(luma: Tensor, chroma: Tensor, view: View, colours: Colours, rotation: int = 0) -> Tensor:
    """RGB image (height, width, 3) in 0..255 on the planes' device: uint8 for "area", float32 for "exact".

    luma: (H, W) uint8. chroma: (H / 2, W / 2, 2) uint8, blue then red (NV12). rotation: degrees counterclockwise, a
    multiple of 90, that bring the stored frame upright.
    """
    import torch

    if view.resize == "exact":
        full_size = _to_rgb(luma, chroma, luma.shape[0], luma.shape[1], colours)
        upright = torch.rot90(full_size, rotation // 90).permute(2, 0, 1)[None].float()
        resized = torch.nn.functional.interpolate(
            upright, size=(view.height, view.width), mode="bilinear", align_corners=True
        )
        return resized[0].permute(1, 2, 0)
    turned = rotation in (90, 270)
    height, width = (view.width, view.height) if turned else (view.height, view.width)
    return torch.rot90(_to_rgb(luma, chroma, height, width, colours), rotation // 90)


def _to_rgb(luma: Tensor, chroma: Tensor, height: int, width: int, colours: Colours) -> Tensor:
    import torch

    if (height, width) == tuple(luma.shape):
        return _to_rgb_plainly(luma, chroma, colours)
    y = (_resize(luma.float(), height, width) - colours.black) * colours.luma_gain
    blue, red = (_resize(chroma[..., i].float() - 128, height, width, shift=_LEFT_OF_CENTRE) for i in range(2))
    r, b = y + colours.red_gain * red, y + colours.blue_gain * blue
    g = y + colours.green_gains[0] * blue + colours.green_gains[1] * red
    return torch.stack([r, g, b], dim=-1).round().clamp(0, 255).to(torch.uint8)


def _to_rgb_plainly(luma: Tensor, chroma: Tensor, colours: Colours) -> Tensor:
    """At the frame's own size: chroma pixels repeated, every product rounded down, as swscale's plain conversion."""
    import torch

    blue, red = ((chroma[..., i].int() - 128).repeat_interleave(2, 0).repeat_interleave(2, 1) for i in range(2))
    y = _times(luma.int() - colours.black, colours.luma_gain)
    r, b = y + _times(red, colours.red_gain), y + _times(blue, colours.blue_gain)
    g = y + _times(blue, colours.green_gains[0]) + _times(red, colours.green_gains[1])
    return torch.stack([r, g, b], dim=-1).clamp(0, 255).to(torch.uint8)


def _times(values: Tensor, gain: float) -> Tensor:
    return (values * (8 * round(gain * 8192))) >> 16


def _resize(plane: Tensor, height: int, width: int, shift: float = 0.0) -> Tensor:
    """A plane (H, W) float at another size: averages when shrinking, bilinear when enlarging."""
    rows = _weights(plane.shape[0], height, 0.0, plane.device)
    columns = _weights(plane.shape[1], width, shift, plane.device)
    return rows @ (plane @ columns.T)


@lru_cache(maxsize=32)
def _weights(num_in: int, num_out: int, shift: float, device: object) -> Tensor:
    """(num_out, num_in) float32: the share of each input pixel in each output pixel. shift: of the input, in pixels."""
    import torch

    ratio = num_in / num_out
    places = torch.arange(num_in, dtype=torch.float64)
    if ratio > 1:
        start = (torch.arange(num_out, dtype=torch.float64) * ratio + shift)[:, None]
        shares = (torch.minimum(start + ratio, places + 1) - torch.maximum(start, places)).clamp(min=0)
    else:
        centre = ((torch.arange(num_out, dtype=torch.float64) + 0.5) * ratio + shift - 0.5).clamp(0, num_in - 1)
        shares = (1 - (centre[:, None] - places).abs()).clamp(min=0)
    return (shares / shares.sum(1, keepdim=True)).float().to(device)  # type: ignore[call-overload]
