"""TDNet as its authors run it: a loop over single frames that keeps lists, on the modules of ours.

What our way is compared with, for speed and for equal labels. The hop's convolution stands behind the attention, over
all places of the frame that asks, and the attention is two matrix products with a softmax between, as published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gsvnet.models.sub_network import KEY_CHANNELS
from gsvnet.models.tdnet import TDNet


def stream_labels(model: TDNet, images: Iterable[Tensor]) -> Iterator[Tensor]:
    """Logits (C, h, w) of each image (3, H, W) of one video from its first frame on, in pixels as the model reads them.

    The state is that of one video: queries, keys and values of the N - 1 frames before. Until there are so many, frames
    are labeled by their sub-network alone. `model.references` and `ensemble` do not count. To be run without gradients.
    """
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for index, image in enumerate(images):
        sub = model.sub(index)
        feature = sub.trunk.extract(model.normalise(image[None]))
        query, value = sub.query(feature), sub.value(feature)
        if len(keys) < model.num_sub_networks - 1:
            yield sub.label(value)[0]
        else:
            carried = values[0]
            for asking, key, hop, own in zip((*queries[1:], query), keys, sub.hops, (*values[1:], value), strict=True):
                carried = own + hop(_attend(asking, key, carried))
            yield sub.label(carried)[0]
        memory = sub.remember(feature, stride=model.memory_stride)
        for kept, new in ((queries, memory.query), (keys, memory.key), (values, memory.value)):
            kept.append(new)
            del kept[: -(model.num_sub_networks - 1)]


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(1, D, h, w): softmax(q k / 8) v."""
    asking, keys, held = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
    likeness = torch.bmm(asking, keys.transpose(1, 2)) / KEY_CHANNELS**0.5
    return torch.bmm(likeness.softmax(2), held).transpose(1, 2).unflatten(2, query.shape[-2:])
