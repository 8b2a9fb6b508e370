"""A keyframe network that a checkpoint names and does not hold: somebody's own, known here by its hash alone."""

from __future__ import annotations

import re

from torch import Tensor, nn

from gsvnet.errors import ModelError


class OutsideNetwork(nn.Module):
    """Stands where the keyframe network belongs until `load_model(..., keyframe_model)` puts the real one there.

    sha256: of that network and its normalisation, 64 hex digits, as `keyframe_hash` gives it.
    """

    def __init__(self, *, num_classes: int, sha256: str) -> None:
        super().__init__()
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ModelError(f"sha256 of a keyframe network is {sha256!r}; 64 hex digits needed")
        self.num_classes, self.sha256 = num_classes, sha256
        self.options = {"sha256": sha256}

    def forward(self, images: Tensor) -> Tensor:
        """Never any logits: raises ModelError."""
        raise ModelError(f"the keyframe network (sha256 {self.sha256}) is not in this checkpoint")
