"""The files that ETC's authors published: PSPNet-18 for Cityscapes, beside what it was trained with.

Their training saves its whole wrapper: the network that learns (the student), the flow network, the teacher, and the
losses' own tensors. Their loader throws out every name that has one of those words anywhere in it, and then loads what
is left non-strictly, so a layer can go missing without a word. Here only whole parts of the wrapper are left out, and
every name and shape of the network has to fit.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor

from gsvnet.classes import CITYSCAPES
from gsvnet.errors import ModelError
from gsvnet.models.checkpoints import load_strictly
from gsvnet.models.pspnet_etc import PSPNet18ETC
from gsvnet.models.published_arseg import published_arseg_name
from gsvnet.models.segmenter import SizeRule
from gsvnet.models.spec import IMAGENET_NORMALISE, ModelSpec
from gsvnet.models.unpickle import find_weights, unpickle

PUBLISHED_ETC = ModelSpec(
    family="pspnet18etc",
    classes=CITYSCAPES,
    normalise=IMAGENET_NORMALISE,
    size_rule=SizeRule(rows=1024),
    resize="exact",
)
"""The settings that the published weights were trained for."""

_BESIDE_THE_NETWORK = ("flow", "teacher", "criterion")  # in the name of a part of the training's wrapper
_STUDENT = "student."

published_etc_name = partial(published_arseg_name, "pspnet18")
"""The published name of a parameter or buffer of `PSPNet18ETC`: those of AR-Seg's form, which came from one code."""


def load_published_etc(path: str | Path, *, num_classes: int = 19, auxiliary_heads: bool = False) -> PSPNet18ETC:
    """ETC's PSPNet-18 from a published file: bare weights or under `state_dict`, of the network alone or the wrapper.

    Raises ModelError for names and shapes that do not fit, and where two names would come to be one.
    """
    network = PSPNet18ETC(num_classes=num_classes, auxiliary_heads=True)
    load_strictly(
        network, _clean_names(find_weights(unpickle(path), path), path), source=str(path), file_name=published_etc_name
    )
    if not auxiliary_heads:
        network.drop_auxiliary_heads()
    return network.eval()


def _clean_names(weights: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The network's tensors by their names in it, without those of the wrapper's other parts."""
    cleaned: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if any(word in name.split(".")[0] for word in _BESIDE_THE_NETWORK):
            continue
        own = name.removeprefix(_STUDENT)
        if own in cleaned:
            raise ModelError(f"{path}: {_STUDENT}{own} and {own} are both there; which of them is the network?")
        cleaned[own] = tensor
    return cleaned
