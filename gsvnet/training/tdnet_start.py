"""Where TDNet's training starts: N copies of one trained image network that gather a little from each other.

A short training gets nowhere from random memories. So what is gathered begins as what it should become: each place
asks for places with a similar feature, and adds a little of what others saw there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.choices import References
from gsvnet.errors import ModelError
from gsvnet.models.bisenet import Head
from gsvnet.models.pspnet import PSPNet18
from gsvnet.models.pspnet_trunk import HALVES
from gsvnet.models.segmenter import PerFrame
from gsvnet.models.spec import NUM_SUB_NETWORKS, TRUNKS, describe_model
from gsvnet.models.split import SplitNetwork
from gsvnet.models.sub_network import KEY_CHANNELS, SubNetwork
from gsvnet.models.tdnet import TDNet
from gsvnet.nn.resnet import initialise_for_training

_SELF_SCORE = 30.0  # of a place with itself, on average, where that with any other is 0 on average
_LIFT = 3.0  # standard deviations by which queries and keys are raised on their way through the leaky ReLU
_LAST_HOP, _INNER_HOP = 0.1, 0.5
_KINDS = {"pspnet18etc": "pspnet18"}  # image networks whose trunk has another name


def start_tdnet(
    image: PerFrame, *, num_sub_networks: int, size: tuple[int, int], references: References = "before"
) -> TDNet:
    """N sub-networks from one image network; `start_gathering` makes them gather from each other.

    size: (height, width) of the videos that it learns from, which gives the spatial norms their maps. Of bisenetv1
    trunk and head start as they are, values as the feature. Of pspnet18 and pspnet18etc the backbone does, and of the
    pyramid the half that each sub-network has; heads start new, for theirs are narrower. Queries, keys, hops and
    spatial norms are new in either. Raises ModelError as `find_trunk`.
    """
    kind, net = TRUNKS[find_trunk(image, num_sub_networks)], image.net
    assert isinstance(net, SplitNetwork)
    map_size = net.feature_size(*image.size_rule.keyframe_size(*size))
    subs = []
    for turn in range(num_sub_networks):
        sub = SubNetwork(
            kind(turn=turn), num_classes=len(image.classes), num_sub_networks=num_sub_networks, map_size=map_size
        )
        initialise_for_training(sub.head)
        _copy(net, sub, turn)
        subs.append(sub)
    return TDNet(
        subs,
        classes=image.classes,
        normalise=image.normalise,
        size_rule=image.size_rule,
        references=references,
        resize=image.resize,
        align_corners=image.align_corners,
    ).eval()


def find_trunk(image: PerFrame, num_sub_networks: int) -> str:
    """The name of the trunk that an image network becomes.

    Raises ModelError for networks that become none, and for numbers of sub-networks that no family has.
    """
    name = describe_model(image).family
    trunk = _KINDS.get(name, name)
    if f"td{num_sub_networks}-{trunk}" not in NUM_SUB_NETWORKS or not isinstance(image.net, SplitNetwork):
        raise ModelError(
            f"TDNet does not start with {num_sub_networks} sub-networks from {name}; it does with 4 from bisenetv1, "
            "pspnet18, and pspnet18etc"
        )
    return trunk


def _copy(net: SplitNetwork, sub: SubNetwork, turn: int) -> None:
    """Fill a sub-network's trunk, and its head where shapes allow, in place."""
    state = net.state_dict()
    if isinstance(net, PSPNet18):
        half = turn % HALVES
        state = {name: _halve(x, half) if name.startswith("pyramid.") else x for name, x in state.items()}
    sub.trunk.load_state_dict({name: state[name] for name in sub.trunk.state_dict()})
    head = getattr(net, "head", None)
    if isinstance(head, nn.Module) and _shapes(head) == _shapes(sub.head):
        sub.head.load_state_dict(head.state_dict())
    if sub.value.in_channels == sub.value.out_channels:
        nn.init.dirac_(sub.value.weight)
        _fill_bias(sub.value, 0.0)


def _halve(x: Tensor, half: int) -> Tensor:
    """A half of a convolution's, or a norm's, output channels; of what has no channels, all."""
    return x.chunk(HALVES)[half] if x.ndim else x


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in module.state_dict().items()}


@torch.no_grad()
def start_gathering(model: TDNet, images: Tensor) -> None:
    """Let the model begin, in place, about as good as the image network that it was started from.

    Queries and keys are the feature's KEY_CHANNELS main directions around its mean, at a scale where a place scores
    _SELF_SCORE with itself. Sub-networks whose features differ (halves of a pyramid) find those of the first one by
    least squares, and hops carry values over in the same way; where all features are alike that is the identity. Of
    what was carried on, half is kept at each hop and a tenth at the last. A head that is known from the image network
    is told what spatial norms take away: the mean and the spread of each channel. images: (n, 3, H, W) uint8, as the
    network reads them, to measure all of that on.
    """
    features = _see(model, images)
    stride = model.memory_stride
    places = [feature[..., ::stride, ::stride].movedim(1, -1).flatten(0, -2) for feature in features]
    means = [rows.mean(0) for rows in places]
    centred = [rows - mean for rows, mean in zip(places, means)]
    count = min(KEY_CHANNELS, centred[0].shape[1])
    variances, directions = torch.linalg.eigh(centred[0].T @ centred[0] / len(centred[0]))
    wanted = centred[0] @ directions[:, -count:]
    gain = math.sqrt(8 * _SELF_SCORE / float(variances[-count:].sum().clamp(min=1e-6)))
    for turn, feature in enumerate(features):
        sub = model.sub(turn)
        same = feature is features[0]
        matrix = directions[:, -count:] if same else _fit(centred[turn], wanted)
        for projection in (sub.query, sub.key):
            _fill_projection(projection, matrix, means[turn], (centred[turn] @ matrix).var(0, correction=0), gain)
        if isinstance(sub.head, Head):
            _fit_head(sub.head, feature, eps=sub.norm.eps)
        for j, hop in enumerate(sub.hops):
            source, target = (turn + 1 + j) % len(features), (turn + 2 + j) % len(features)
            factor = _INNER_HOP if j + 1 < len(sub.hops) else _LAST_HOP
            assert isinstance(hop, nn.Conv2d)
            if features[source] is features[target]:
                carried, shift = torch.eye(hop.in_channels), torch.zeros(())
            else:
                carried = _fit(centred[source], centred[target])
                shift = means[target] - means[source] @ carried
            hop.weight.copy_(factor * carried.T[..., None, None])
            _fill_bias(hop, factor * shift)


def _see(model: TDNet, images: Tensor) -> list[Tensor]:
    """Features (n, C, h, w) of each sub-network; the same tensor for those that see the same."""
    features: list[Tensor] = []
    firsts: list[Tensor] = []
    for turn in range(model.num_sub_networks):
        trunk = model.sub(turn).trunk
        first = trunk.extract(model.normalise(images[:1]))
        alike = [known for known, other in zip(features, firsts) if torch.equal(first, other)]
        rest = [trunk.extract(model.normalise(part)) for part in images[1:].split(4)] if not alike else []
        features.append(alike[0] if alike else torch.cat([first, *rest]))
        firsts.append(first)
    return features


def _fit(inputs: Tensor, wanted: Tensor) -> Tensor:
    """The matrix (C, K) that takes centred rows (n, C) nearest to rows (n, K), with a little ridge."""
    moments = inputs.T @ inputs
    ridge = 1e-4 * moments.diagonal().mean().clamp(min=1e-6) * torch.eye(len(moments), device=inputs.device)
    return torch.linalg.solve(moments + ridge, inputs.T @ wanted)


def _fill_projection(projection: nn.Module, matrix: Tensor, mean: Tensor, variances: Tensor, gain: float) -> None:
    """Make `projection` give gain * matrix' (x - mean), but for values far below the mean, which the ReLU shrinks."""
    assert isinstance(projection, nn.Sequential)
    first, norm, _, last = projection
    assert isinstance(first, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(last, nn.Conv2d)
    pad = (0, KEY_CHANNELS - matrix.shape[1])  # where a feature has less channels than keys
    first.weight.copy_(F.pad(matrix, pad).T[..., None, None])
    _fill_bias(first, F.pad(-(mean @ matrix), pad))
    norm.load_state_dict(norm.state_dict() | {"running_mean": 0 * norm.bias, "running_var": F.pad(variances, pad)})
    norm.weight.copy_((F.pad(variances, pad) + norm.eps).sqrt())
    norm.bias.copy_(_LIFT * norm.weight)
    last.weight.copy_(gain * torch.eye(KEY_CHANNELS)[..., None, None])
    _fill_bias(last, -gain * norm.bias)


@torch.no_grad()
def _fill_bias(conv: nn.Conv2d, values: Tensor | float) -> None:
    assert conv.bias is not None
    conv.bias.copy_(torch.as_tensor(values))


def _fit_head(head: Head, feature: Tensor, *, eps: float) -> None:
    """Make a head for features one for features whose channels were normed over each map, in place."""
    mean, spread = feature.mean((0, 2, 3)), (feature.var((2, 3), correction=0).mean(0) + eps).sqrt()
    conv, norm = head.conv_3x3.conv, head.conv_3x3.bn
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean.sub_(conv.weight.sum((2, 3)) @ mean)
    conv.weight.mul_(spread.view(1, -1, 1, 1))
