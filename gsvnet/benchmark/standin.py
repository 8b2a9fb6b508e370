"""A network that costs exactly what the published GSVNet-SwiftNet costs, and labels a drawn street like a trained one.

Published weights are not at hand, and labels of random ones are noise, which is slow to upsample and to encode. So a
random SwiftNet is fitted to a few drawn frames by ridge regression, without gradients: at the pyramid and at every step
of the ladder the first channels become evidence for each class, which the next step refines. The propagation is the
trained one of the default weights, with rows of the classes that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.classes import CAMVID, CITYSCAPES, find_counterparts
from gsvnet.models.checkpoints import load_default
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.published import PUBLISHED
from gsvnet.models.spec import NormaliseSpec, build_model
from gsvnet.models.swiftnet import LadderStep, NormReluConv, SwiftNet
from gsvnet.nn.resnet import ResNet18Backbone

UNKNOWN_LOGIT = -8.0  # of classes that no drawn street has: far below the others, not so far that float32 loses digits
SHARPNESS = 8.0  # logits by which a sure pixel's class leads
_SAMPLES = 12_000  # pixels of a frame that one regression sees
_RIDGE = 0.3  # of the features' mean square
_RANDOM_RIDGE = (1.0, 1.0, 3.0, 10.0)  # times as much for random features, by unit: the finer, the more are noise
_BALANCE = 0.3  # a class of a share s of the pixels counts as if it had s to the power of 1 - this


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """Output of a fitted unit for every frame, and what to add to its first K channels to make them evidence."""

    outputs: list[Tensor]
    intercept: Tensor


@torch.no_grad()
def build_stand_in(images: Sequence[np.ndarray], truth: Sequence[np.ndarray], *, seed: int = 0) -> GSVNet:
    """GSVNet-SwiftNet-R18 for the 19 classes of Cityscapes, float32, in evaluation mode.

    images: (H, W, 3) uint8 RGB. truth: (H, W) uint8, ids of CAMVID. Both of one size; two frames are the least, eight
    spread over the clip are plenty. Sizes follow the published rule; frames are resized by area, as those of all
    networks trained here, and not by the published way, which only parity needs.
    """
    default = load_default()
    assert isinstance(default, GSVNet)
    normalise = default.frame_normalise
    mean, std = (tuple(float(x) for x in values.flatten()) for values in (normalise.mean, normalise.std))
    spec = replace(
        PUBLISHED["gsvnet-swiftnet"],
        resize="area",
        frame_normalise=NormaliseSpec(mean=mean, std=std, scale=normalise.scale, channels=normalise.channels),  # type: ignore[arg-type]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(spec)
        assert isinstance(model, GSVNet)
        assert isinstance(model.keyframe_network, SwiftNet)
        size = model.needs(*truth[0].shape).keyframe_size
        pixels = model.keyframe_normalise(torch.stack([_shrink(image, size) for image in images]))
        _fit(model.keyframe_network, pixels, one_hot_truth(truth, size))
    model.propagation = widen_propagation(default.propagation)
    return model.eval()


@torch.no_grad()
def widen_propagation(trained: Propagation) -> Propagation:
    """A propagation of Cityscapes' classes that does with CamVid's what `trained` does, in evaluation mode."""
    known = find_counterparts(CAMVID, CITYSCAPES)
    ours, theirs = list(known), list(known.values())
    wide = Propagation(num_classes=len(CITYSCAPES))
    state = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    for name, fill in (("intra.classify.weight", 0.0), ("intra.classify.bias", UNKNOWN_LOGIT)):
        rows = torch.full((len(CITYSCAPES), *state[name].shape[1:]), fill)
        rows[ours] = state[name][theirs]
        state[name] = rows
    name = "guided_filter.guide.entry.0.weight"
    columns = torch.zeros(32, len(CITYSCAPES) + 1, 3, 3)
    columns[:, [*ours, -1]] = state[name][:, [*theirs, -1]]  # the last one sees edges
    state[name] = columns
    wide.load_state_dict(state)
    return wide.eval()


def _shrink(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(3, h, w) uint8, averaged over areas, of an image (H, W, 3)."""
    planes = torch.from_numpy(image).movedim(-1, 0)[None].float()
    return F.interpolate(planes, size, mode="area")[0].round().to(torch.uint8)


def one_hot_truth(truth: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
    """(N, 19, h, w) float32 of label maps (H, W) with CamVid's ids."""
    table = torch.zeros(256, dtype=torch.long)
    for ours, theirs in find_counterparts(CAMVID, CITYSCAPES).items():
        table[theirs] = ours
    labels = table[torch.from_numpy(np.stack(truth)).long()]
    small = F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()
    return F.one_hot(small, len(CITYSCAPES)).movedim(-1, 1).float()


def _fit(network: SwiftNet, images: Tensor, truth: Tensor) -> None:
    """Fit `network` in place to normalised images (N, 3, H, W) and one-hot truth (N, 19, H, W).

    Channels 0..K-1 of every fitted unit are evidence of the K classes that occur; the next unit takes them as they are.
    """
    backbone, known = network.backbone, truth.sum((0, 2, 3)).nonzero()[:, 0]
    truth = truth[:, known]
    start_randomly(network, lambda: [network(image[None]) for image in images[:2]])
    encoded = [ResNet18Backbone.forward(backbone, image[None]) for image in images]
    pyramid, *ladder = _RANDOM_RIDGE
    runs = [partial(backbone.spp, levels[3]) for levels in encoded]
    fuse = backbone.spp.spp["spp_fuse"]
    assert isinstance(fuse, NormReluConv)
    fitted = _fit_unit(fuse, runs, truth, random_ridge=pyramid)
    for step, level, random_ridge in zip(backbone.upsample, (2, 1, 0), ladder):
        assert isinstance(step, LadderStep)
        step.bottleneck.conv.weight[: len(known)] = 0.0  # nothing is added to the evidence
        _pass_on(step.blend_conv.norm, fitted.intercept)
        runs = [partial(step, x, levels[level]) for x, levels in zip(fitted.outputs, encoded)]
        fitted = _fit_unit(step.blend_conv, runs, truth, random_ridge=random_ridge)
    _pass_on(network.logits.norm, fitted.intercept)
    runs = [partial(network.logits, x) for x in fitted.outputs]
    fitted = _fit_unit(network.logits, runs, truth, random_ridge=random_ridge)
    last = network.logits.conv
    assert last.bias is not None
    weight = last.weight[: len(known)].clone()
    last.weight.zero_()
    last.bias.fill_(UNKNOWN_LOGIT)
    last.weight[known], last.bias[known] = SHARPNESS * weight, SHARPNESS * fitted.intercept


def start_randomly(network: nn.Module, run: Callable[[], object]) -> None:
    """Random convolutions, and batch norms that know what comes out of them when `run` runs the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all images
    network.train()
    run()
    network.eval()


def _pass_on(norm: nn.BatchNorm2d, intercept: Tensor) -> None:
    """Let a batch norm add the intercept to the first K channels and leave them alone otherwise."""
    k = len(intercept)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean[:k], norm.running_var[:k] = 0.0, 1.0 - norm.eps
    norm.weight[:k], norm.bias[:k] = 1.0, intercept


def _fit_unit(
    unit: NormReluConv, runs: Sequence[Callable[[], Tensor]], truth: Tensor, *, random_ridge: float
) -> _Fitted:
    """Fit the first K output channels of a unit; each of `runs` computes the unit's output for one frame."""
    seen: list[Tensor] = []
    listener = unit.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for run in runs:
        run()
    listener.remove()
    num_classes, channels, side = truth.shape[1], unit.conv.in_channels, unit.conv.kernel_size[0]
    sampled = [sample_pixels(x[0], labels, side=side) for x, labels in zip(seen, truth)]
    features, wanted = (torch.cat(parts) for parts in zip(*sampled))
    ridge = torch.full((channels, side * side), random_ridge)
    ridge[:num_classes] = 1.0
    weight, intercept = regress(features, wanted, ridge.flatten())
    unit.conv.weight[:num_classes] = weight.T.unflatten(1, (channels, side, side))
    return _Fitted(outputs=[run() for run in runs], intercept=intercept)


def sample_pixels(x: Tensor, truth: Tensor, *, side: int) -> tuple[Tensor, Tensor]:
    """Patches (n, C * side * side) at random pixels of features (C, h, w), and the share (n, K) of each class there."""
    h, w = x.shape[1:]
    pixels = torch.randperm(h * w, generator=torch.Generator().manual_seed(0))[:_SAMPLES]
    rows, columns = pixels // w, pixels % w
    padded = F.pad(x, (side // 2,) * 4)
    patches = [padded[:, rows + dy, columns + dx] for dy in range(side) for dx in range(side)]
    shares = F.adaptive_avg_pool2d(truth, (h, w))[:, rows, columns]
    return torch.stack(patches, 1).flatten(0, 1).T, shares.T


def fit_classifier(last: nn.Conv2d, features: Sequence[Tensor], one_hot: Tensor, known: Tensor) -> None:
    """Fit a last layer of 1x1 in place to features (C, h, w) of images whose truth is `one_hot` (N, 19, H, W).

    known: (K,) int64, the classes that occur; the others win nowhere.
    """
    sampled = [sample_pixels(feature, labels, side=1) for feature, labels in zip(features, one_hot[:, known])]
    seen, wanted = (torch.cat(parts) for parts in zip(*sampled))
    weight, intercept = regress(seen, wanted, torch.ones(seen.shape[1]))
    assert last.bias is not None
    last.weight.zero_()
    last.bias.fill_(UNKNOWN_LOGIT)
    last.weight[known], last.bias[known] = SHARPNESS * weight.T[..., None, None], SHARPNESS * intercept


def regress(features: Tensor, wanted: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (F, K) and intercept (K,) of a ridge regression; rare classes count more than their share."""
    weight = wanted @ wanted.mean(0).clamp(min=1e-6) ** -_BALANCE
    weight = (weight / weight.sum())[:, None]
    centre, middle = (features * weight).sum(0), (wanted * weight).sum(0)
    features, wanted = features - centre, wanted - middle
    gram = features.T @ (features * weight)
    gram += torch.diag(_RIDGE * gram.diagonal().mean() * ridge)
    solution = torch.linalg.solve(gram, features.T @ (wanted * weight))
    return solution, middle - centre @ solution
