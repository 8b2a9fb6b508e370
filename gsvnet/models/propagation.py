"""What carries GSVNet's labels from one frame to the next: flow, intra features, guided spatially-varying convolution.

The parts of `gsvnet.models.gsvnet`, which names the paper, has its figure, and says where the authors' code differs.
All run on the propagation grid. Shapes: N frames, C classes, h w the grid. A *state* is (N, C + 1, h, w) float32:
logits, gain.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.nn.best_class import best_class
from gsvnet.nn.blocks import conv_norm, resize
from gsvnet.nn.warp import warp

FLOW_UNIT_PX = 0.25  # the flow network counts in quarter pixels of the grid
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # (dy, dx) of taps 1..8
SELF_TAP, DEAD_TAP, INTRA_TAP, NUM_TAPS = 0, 9, 10, 11


class LightFlow(nn.Module):
    """Optical flow between two frames, estimated on a quarter of the grid."""

    def __init__(self) -> None:
        super().__init__()
        leaky = nn.LeakyReLU(0.1, inplace=True)
        self.conv1 = conv_norm(6, 32, stride=2, activation=leaky)
        self.conv2 = conv_norm(32, 64, stride=2, activation=leaky)
        self.dilated = nn.ModuleList(conv_norm(64, 64, dilation=d, activation=leaky) for d in (1, 2, 4, 8))
        self.merge = conv_norm(256, 64, kernel=1, activation=leaky)
        self.to_flow = nn.Conv2d(64, 2, 3, padding=1)

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """Frames (N, 3, h, w), normalised -> flow current -> previous, (N, 2, ceil(h/4), ceil(w/4)), quarter pixels.

        (dx, dy); the values count in pixels of the *full* grid (h, w), so enlarging the map does not rescale them.
        """
        x = self.conv2(self.conv1(torch.cat([current, previous], dim=1)))
        views = [dilated(x) for dilated in self.dilated]
        for wider in range(1, len(views)):
            views[wider] = views[wider] + views[wider - 1]
        return self.to_flow(self.merge(torch.cat(views, dim=1)) + x)


class IntraNetwork(nn.Module):
    """A crude segmentation of the current frame by itself: what propagation cannot know."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.first = conv_norm(3, 32, activation=nn.ReLU(inplace=True))
        self.second = conv_norm(32, 32, activation=nn.ReLU(inplace=True))
        self.classify = nn.Conv2d(32, num_classes, 3, padding=1)
        self.apply(_initialise_xavier)

    def forward(self, frame: Tensor) -> Tensor:
        """Frame (N, 3, h, w), normalised -> logits (N, C, h, w)."""
        return self.classify(self.second(self.first(frame)))


class GuidingNetwork(nn.Module):
    """How much each pixel trusts each of the 11 taps (10 without intra): a small encoder-decoder with one skip."""

    def __init__(self, *, num_classes: int, intra: bool = True) -> None:
        super().__init__()
        self.entry = conv_norm(num_classes + 1 if intra else 1, 32, activation=nn.ReLU(inplace=True))
        self.to_half = conv_norm(32, 64, stride=2, activation=nn.ReLU(inplace=True))
        self.to_quarter = conv_norm(64, 128, stride=2, activation=nn.ReLU(inplace=True))
        self.from_quarter = conv_norm(128, 64, activation=nn.ReLU(inplace=True))
        self.from_half = conv_norm(64, 32, activation=nn.ReLU(inplace=True))
        self.to_taps = conv_norm(
            32, NUM_TAPS if intra else INTRA_TAP, activation=nn.ReLU(inplace=True)
        )  # intra's is the last
        self.apply(_initialise_xavier)

    def forward(self, intra: Tensor | None, edges: Tensor) -> Tensor:
        """Crude logits (N, C, h, w) and edges (N, 1, h, w) -> taps (N, 11, h, w), not negative, not normalised.

        Enlarges to the skip's size and not by 2, so any grid works; on multiples of 4 the numbers are the same.
        """
        full = self.entry(edges if intra is None else torch.cat([intra, edges.to(intra.dtype)], dim=1))
        half = self.to_half(full)
        x = self.to_quarter(half)
        x = self.from_quarter(resize(x, half.shape[-2:]))
        x = self.from_half(resize(x, full.shape[-2:]))
        return self.to_taps(full + x)


def find_edges(logits: Tensor) -> Tensor:
    """1 where the label map's 8-neighbour Laplacian is not zero, else 0: (N, 1, h, w) float32.

    Class ids are the heights, as published: responses can cancel (a one-pixel strip of 2 between 1 and 3 is no
    edge), and beyond the border lies class 0. Integer arithmetic, so exact in every precision.
    """
    ids = F.pad(best_class(logits)[:, None].to(torch.int16), (1, 1, 1, 1))
    rows = ids[..., :-2, :] + ids[..., 1:-1, :] + ids[..., 2:, :]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    return (box != 9 * ids[..., 1:-1, 1:-1]).float()


class GuidedFilter(nn.Module):
    """Guided spatially-varying 1x1 convolution over shifted copies of the warped state and the crude logits."""

    def __init__(self, *, num_classes: int, intra: bool = True) -> None:
        super().__init__()
        self.guide = GuidingNetwork(num_classes=num_classes, intra=intra)

    def weigh(self, intra: Tensor | None, edges: Tensor) -> Tensor:
        """Tap weights (N, 11, h, w) float32; they sum to 1, or are all 0 where the guide turned every tap off."""
        taps = self.guide(intra, edges).float()  # 1e-9 is zero in half precision, and 0 / 0 is not a number
        taps = taps.contiguous()  # one plane per tap: `filter` reads them one after the other
        return taps / (taps.sum(dim=1, keepdim=True) + 1e-9)

    def filter(self, warped: Tensor, intra: Tensor | None, weights: Tensor) -> Tensor:
        """Weighted sum of the taps, (N, K, h, w) float32; one weight for all channels of a pixel.

        warped, intra: (N, K, h, w), any number of channels. The stack of 11 maps is never built: a shift is a slice of
        the zero-padded map. The dead tap counts in the weights' sum and adds nothing here.
        """
        h, w = warped.shape[-2:]
        with torch.autocast(warped.device.type, enabled=False):
            padded = F.pad(warped, (1, 1, 1, 1))
            out = weights[:, SELF_TAP, None] * warped
            for tap, (dy, dx) in enumerate(NEIGHBOURS, start=1):
                out.addcmul_(weights[:, tap, None], padded[..., 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w])
            return out if intra is None else out.addcmul_(weights[:, INTRA_TAP, None], intra)

    def forward(self, warped: Tensor, intra: Tensor | None) -> Tensor:
        """Warped state (N, C + 1, h, w) float32 and crude logits (N, C, h, w) -> state (N, C + 1, h, w) float32."""
        weights = self.weigh(intra, find_edges(warped[:, :-1]))
        return self.filter(warped, None if intra is None else with_gain(intra), weights)


def with_gain(logits: Tensor) -> Tensor:
    """State (N, C + 1, h, w) float32 of fresh logits (N, C, h, w): nothing has scaled them yet, so the gain is 1."""
    return F.pad(logits.float(), (0, 0, 0, 0, 0, 1), value=1.0)


class Propagation(nn.Module):
    """One step of GSVNet, from the previous frame's state to the current frame's.

    `estimate_flow` and `glance` see images only, so a caller who holds many frames runs them once over all of them;
    only `step` depends on what came before. intra: False leaves the intra network out.
    """

    def __init__(self, *, num_classes: int, intra: bool = True) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.flow = LightFlow()
        self.intra = IntraNetwork(num_classes=num_classes) if intra else None
        self.guided_filter = GuidedFilter(num_classes=num_classes, intra=intra)

    @property
    def options(self) -> dict[str, bool]:
        """JSON-ready constructor arguments that differ from the defaults, num_classes aside."""
        return {} if self.intra is not None else {"intra": False}

    def estimate_flow(self, current: Tensor, previous: Tensor) -> Tensor:
        """Flow current -> previous, (N, 2, h, w) float32, (dx, dy) in pixels of the frames' grid."""
        return resize(self.flow(current, previous).float(), current.shape[-2:]) * FLOW_UNIT_PX

    def glance(self, current: Tensor) -> Tensor | None:
        """Crude logits (N, C, h, w) float32 of normalised frames (N, 3, h, w); None without intra features."""
        return None if self.intra is None else self.intra(current).float().contiguous()

    def step(self, state: Tensor, flow: Tensor, intra: Tensor | None) -> Tensor:
        """The current frame's state from the previous one's, its flow (N, 2, h, w) and what `glance` gave."""
        return self.guided_filter(warp(state, flow), intra)

    def forward(self, state: Tensor, previous: Tensor, current: Tensor) -> Tensor:
        """One whole step: state (N, C + 1, h, w) and normalised frames (N, 3, h, w) -> state."""
        return self.step(state, self.estimate_flow(current, previous), self.glance(current))


def _initialise_xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
