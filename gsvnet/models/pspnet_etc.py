"""PSPNet-18 as ETC trains it (Liu et al., "Efficient Semantic Video Segmentation with Per-frame Inference", ECCV 2020).

Of AR-Seg's form it differs in two things: only the second convolution of a block is dilated, and the head has 256
channels. All that is about time is in how it is trained: `gsvnet.training.temporal_losses` and `frame_relations`.
"""

from __future__ import annotations

from gsvnet.models.pspnet import PSPNet18


class PSPNet18ETC(PSPNet18):
    """PSPNet-18: normalised RGB (N, 3, H, W) -> raw logits (N, num_classes, ceil(H/8), ceil(W/8)).

    auxiliary_heads: also build the head on the third stage, which published files hold and training wants.
    """

    feature_channels = 256
    dilations = (((1, 2), (1, 2)), ((1, 4), (1, 4)))
