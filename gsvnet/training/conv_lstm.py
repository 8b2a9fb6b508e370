"""A recurrent network on maps: what a sequence leaves behind (Shi et al., "Convolutional LSTM Network", NIPS 2015)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class ConvLSTM(nn.Module):
    """Maps one after the other -> the state after the last one: `hidden` and `cell`, (B, channels, h, w) each.

    All four gates come from one 3x3 convolution over the map and what was hidden before, in the order input, forget,
    output, candidate; no peepholes, as in ETC's code.
    """

    def __init__(self, *, in_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Conv2d(in_channels + channels, 4 * channels, 3, padding=1)

    def forward(self, maps: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """`hidden` and `cell` after maps of (B, in_channels, h, w); both begin as zeros. At least one map."""
        state: tuple[Tensor, Tensor] | None = None
        for x in maps:
            state = self._step(x, state)
        assert state is not None, "no map"
        return state

    def _step(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        empty = x.new_zeros(len(x), self.channels, *x.shape[-2:])
        hidden, cell = state or (empty, empty)
        enter, keep, show, candidate = self.gates(torch.cat([x, hidden], dim=1)).chunk(4, dim=1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        return show.sigmoid() * cell.tanh(), cell
