"""Where the flow between the frames of a video comes from: a library, the codec's motion search, or a light network.

All of it is found once, when material is gathered: at a quarter of the frames' size, or on the network's own grid.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gsvnet.errors import ConfigError
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.checkpoints import load_model
from gsvnet.models.gsvnet import GSVNet
from gsvnet.training.checks import FlowSource
from gsvnet.training.clips import flow_to_grid
from gsvnet.training.pairs import flow_grid
from gsvnet.training.temporal_losses import leads_back, looks_alike
from gsvnet.video.flow import DIS
from gsvnet.video.proxy import check_proxy, trace_by_proxy


class PairFlow(Protocol):
    """A way to get the flow between frames; `name` is for people."""

    name: str

    def __call__(self, run: Tensor) -> Tensor:
        """Flow (2, h, w) float32 of the last frame of a run (T, 3, H, W) uint8 to the first, in pixels of its grid.

        run: consecutive frames, in the order of time or against it. NaN where it may not be believed.
        """
        ...


class DisFlow:
    """Dense inverse search of OpenCV between the ends of the run. everywhere: also where it does not lead back."""

    def __init__(self, *, everywhere: bool = False) -> None:
        self.name, self.everywhere = DIS.name, everywhere

    def __call__(self, run: Tensor) -> Tensor:
        """As `PairFlow` says."""
        ends = (run[i].permute(1, 2, 0).contiguous().numpy() for i in (-1, 0))
        flow, valid = (torch.from_numpy(x) for x in DIS.estimate(*ends))
        flow = flow if self.everywhere else torch.where(valid, flow, float("nan"))
        flow = flow_to_grid(flow[None], flow_grid((run.shape[-2], run.shape[-1])))
        return (flow if self.everywhere else _believe(flow, run))[0]


class ProxyFlow:
    """The motion that a small encode of the run, at half its size, finds, from frame to frame."""

    name = "motion search of x264"

    def __init__(self) -> None:
        check_proxy()

    def __call__(self, run: Tensor) -> Tensor:
        """As `PairFlow` says."""
        height, width = run.shape[-2:]
        half = [resize_image(x, (-(-height // 2), -(-width // 2)), "area").permute(1, 2, 0).numpy() for x in run]
        motion, known = trace_by_proxy(half, flow_grid((height, width)))
        flow = torch.where(torch.from_numpy(known[-1]), torch.from_numpy(motion[-1]), float("nan"))
        return _believe(flow[None], run)[0]


class LightFlow:
    """The flow network of a GSVNet between the ends of the run. everywhere: also where it does not lead back."""

    def __init__(self, model: GSVNet, *, name: str, everywhere: bool = False) -> None:
        self.name, self.everywhere, self.model = f"flow network of {name}", everywhere, model.eval()

    @torch.no_grad()
    def __call__(self, run: Tensor) -> Tensor:
        """As `PairFlow` says."""
        needs = self.model.needs(run.shape[-2], run.shape[-1])
        assert needs.frame_size is not None, "a GSVNet has a grid"
        frames = [resize_image(run[i], needs.frame_size, needs.resize) for i in (-1, 0)]
        ends = self.model.frame_normalise(torch.stack(frames))
        flow, back = self.model.propagation.estimate_flow(ends, ends.flip(0)).split(1)
        if self.everywhere:
            return flow[0]
        return _believe(torch.where(leads_back(flow, back)[:, None], flow, float("nan")), run)[0]


def make_flow(source: FlowSource, *, model: str = "default", everywhere: bool = False) -> PairFlow:
    """The flow of a name. model: of "light", as `gsvnet models` knows it or a checkpoint. everywhere: leave no gaps.

    Raises ConfigError for a model that has no flow network, and for the proxy's flow everywhere: it has gaps.
    """
    if source == "proxy":
        if everywhere:
            raise ConfigError("flow proxy: it is not known everywhere; use dis or light")
        return ProxyFlow()
    if source == "light":
        found = load_model(model)
        if not isinstance(found, GSVNet):
            raise ConfigError(f"--flow-model {model}: has no flow network; needed: a GSVNet")
        return LightFlow(found, name=model.replace("\\", "/").rpartition("/")[2], everywhere=everywhere)
    return DisFlow(everywhere=everywhere)


def _believe(flow: Tensor, run: Tensor) -> Tensor:
    """Flow (1, 2, h, w), NaN where what it fetches from the first frame has not the colour of the last one."""
    grid = (flow.shape[-2], flow.shape[-1])
    last, first = (resize_image(run[i], grid, "area")[None] for i in (-1, 0))
    return torch.where(looks_alike(last, first, flow)[:, None], flow, float("nan"))
