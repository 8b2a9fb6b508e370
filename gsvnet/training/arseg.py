"""Train AR-Seg's frame network and fusion with a frozen keyframe network ("feature similarity training", section 3.4).

The classifier is the keyframe network's own and stays as it is, so a fused feature that comes near the keyframe
network's feature of the same frame gets its labels too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.errors import ConfigError
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.segmenter import Normalise
from gsvnet.models.split import SplitNetwork
from gsvnet.nn.upsample import upsample_labels
from gsvnet.training import parallel
from gsvnet.training.arseg_pairs import ArsegPairs
from gsvnet.training.checks import LabelLoss
from gsvnet.training.hold_out import in_evaluation_mode
from gsvnet.training.losses import label_loss
from gsvnet.training.schedule import check_recipe, make_optimiser
from gsvnet.training.steps import LOG_EVERY, Course, run_steps

_BATCH_PAIRS = 8


@dataclass(frozen=True, kw_only=True)
class ArsegTraining:
    """One run over pairs that are there. batch_size: of all processes together.

    Learning rates are peaks, of the network and of the fusion: linear warm-up over `warmup_steps`, then cosine to zero.
    loss, feature_weight: of `ArsegLoss`. fused: False trains the frame network alone, its classifier too. optimiser: as
    in `make_optimiser`. precision: "bf16" (autocast of the network) or "fp32".
    """

    epochs: int = 6
    batch_size: int = 8
    learning_rate: float = 3e-4
    fusion_learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    loss: LabelLoss = "cross-entropy"
    feature_weight: float = 1.0
    fused: bool = True
    optimiser: str = "adamw"
    precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ConfigError(f"epochs {self.epochs} and batch_size {self.batch_size}: at least 1 and 2")
        check_recipe(self.optimiser, self.precision)


class ArsegLoss(nn.Module):
    """Both losses of a batch of pairs: of the labels, and of the fused feature against the wanted one.

    fusion: None trains the frame network alone. align_corners: corner convention of the logits.
    """

    def __init__(
        self,
        frame_network: SplitNetwork,
        fusion: CrossResolutionFusion | None,
        normalise: Normalise,
        weights: Tensor,
        *,
        loss: LabelLoss = "cross-entropy",
        align_corners: bool = False,
        bf16: bool = True,
    ) -> None:
        super().__init__()
        self.frame_network, self.fusion, self.normalise = frame_network, fusion, normalise
        self.loss, self.align_corners, self.bf16 = loss, align_corners, bf16
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor

    def forward(self, pairs: ArsegPairs) -> Tensor:
        """(2,) float32: `label_loss` of the fused logits, and the mean squared error of the fused feature."""
        pixels = self.normalise(pairs.images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.bf16):
            low = self.frame_network.extract(pixels).float()
        feature, apart = low, low.new_zeros(())
        if self.fusion is not None and pairs.brought is not None and pairs.wanted is not None:
            feature = self.fusion(pairs.brought.float(), low)
            apart = F.mse_loss(feature, pairs.wanted.float())
        logits = self.frame_network.classify(feature)
        targets = pairs.targets.long()
        return torch.stack(
            [label_loss(self.loss, logits, targets, self.weights, align_corners=self.align_corners), apart]
        )


def train_arseg(
    model: ARSeg,
    pairs: ArsegPairs,
    *,
    class_weights: Tensor,
    config: ArsegTraining,
    folder: Path,
    held_out: ArsegPairs | None = None,
    on_step: Callable[[dict], None] = lambda record: None,
    on_save: Callable[[int, ARSeg], None] = lambda step, model: None,
    log_every: int = LOG_EVERY,
    save_every: int = 100,
    device: str = "cpu",
) -> ARSeg:
    """The model, whose frame network and fusion were trained in place; in eval mode.

    pairs: of this process, drawn by this model. One JSON line per `log_every` steps, and one at the end, goes to
    `folder`/log.jsonl and to `on_step`. Every `save_every` steps and at the end the run is kept in `folder`/state.pt,
    and `on_save` may look at the model, in eval mode; a rerun with the same folder goes on there and ends with the
    weights of an undisturbed run. held_out: pairs that are scored whenever the run is both logged and kept, as
    `held_out_miou` (0..1) and, of the low resolution alone, `held_out_miou_unfused`. Raises ConfigError when the
    folder holds a run with another configuration and for less pairs than one batch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.to(device)
    trained = choose_trained(model, fused=config.fused)
    steps, batch_size = count_steps(len(pairs), config), config.batch_size // parallel.num_processes()
    optimiser = make_optimiser(config.optimiser, _parameter_groups(model, config))
    peaks = [config.learning_rate, config.learning_rate, config.fusion_learning_rate][: len(optimiser.param_groups)]
    loss_of = parallel.share_gradients(
        ArsegLoss(
            model.frame_network,
            model.fusion if config.fused else None,
            model.normalise,
            class_weights.to(device),
            loss=config.loss,
            align_corners=model.align_corners,
            bf16=config.precision == "bf16",
        )
    )

    def loss_at(step: int) -> Tensor:
        parallel.seed_dropout(config.seed, step)
        return loss_of(_pick_batch(pairs, config, step, batch_size).to(device))

    run_steps(
        Course(
            folder=folder,
            config=config,
            name="trained",
            trained=trained,
            optimiser=optimiser,
            peaks=peaks,
            rate=config.learning_rate,
            steps=steps,
            warmup_steps=config.warmup_steps,
            parts={"label_loss": 1.0, "feature_loss": config.feature_weight},
            log_every=log_every,
            save_every=save_every,
            device=device,
        ),
        loss_at,
        score=None if held_out is None else lambda: score_pairs(model, held_out, fused=config.fused, device=device),
        on_step=on_step,
        on_save=lambda step: on_save(step, model.eval()),
    )
    return model.eval()


def count_steps(num_pairs: int, config: ArsegTraining) -> int:
    """Steps of a run where each process has `num_pairs` pairs. Raises ConfigError for less than one batch of them."""
    parallel.check_batch_size(config.batch_size)
    own_batch = config.batch_size // parallel.num_processes()
    if num_pairs < own_batch:
        raise ConfigError(f"{num_pairs} pairs do not fill one batch of {own_batch}")
    return config.epochs * (num_pairs // own_batch)


def choose_trained(model: ARSeg, *, fused: bool) -> nn.Module:
    """The parts of the model that learn, as one module; everything else is frozen, in eval mode.

    With fusion the classifier of the frame network, which is the keyframe network's, is frozen too.
    """
    network = model.frame_network
    model.eval().requires_grad_(False)
    if not fused:
        network.requires_grad_(True)
        return nn.ModuleDict({"frame_network": network})
    network.requires_grad_(True)
    for name in network.classifiers:
        network.get_submodule(name).requires_grad_(False)
    model.fusion.requires_grad_(True)
    return nn.ModuleDict({"frame_network": network, "fusion": model.fusion})


@torch.no_grad()
def label_pairs(model: ARSeg, pairs: ArsegPairs, *, fused: bool, device: str = "cpu") -> np.ndarray:
    """Labels (N, H, W) uint8 of pairs, at the size of their targets, as the model gives them; it is in eval mode."""
    labels = []
    for first in range(0, len(pairs), _BATCH_PAIRS):
        part = pairs.pick(range(first, min(first + _BATCH_PAIRS, len(pairs)))).to(device)
        feature = model.frame_network.extract(model.normalise(part.images))
        if fused and part.brought is not None:
            feature = model.fusion(part.brought.float(), feature)
        logits = model.frame_network.classify(feature)
        size = (pairs.targets.shape[-2], pairs.targets.shape[-1])
        labels.append(upsample_labels(logits, size, align_corners=model.align_corners).cpu().numpy())
    return np.concatenate(labels)


def score_pairs(model: ARSeg, pairs: ArsegPairs, *, fused: bool, device: str = "cpu") -> dict[str, float]:
    """held_out_miou in 0..1 of pairs, and with fusion held_out_miou_unfused, of the low resolution alone."""
    scores = {}
    with in_evaluation_mode(model):
        for name, with_fusion in (("held_out_miou", fused), *([("held_out_miou_unfused", False)] if fused else [])):
            confusion = ConfusionMatrix(len(model.classes))
            confusion.update(pairs.targets.numpy(), label_pairs(model, pairs, fused=with_fusion, device=device))
            scores[name] = confusion.miou()
    return scores


def _pick_batch(pairs: ArsegPairs, config: ArsegTraining, step: int, batch_size: int) -> ArsegPairs:
    """This process's pairs of a step: each epoch goes through all of them in an order of its own."""
    epoch, i = divmod(step, len(pairs) // batch_size)
    order = np.random.default_rng([config.seed, epoch, parallel.rank()]).permutation(len(pairs))
    return pairs.pick(order[i * batch_size : (i + 1) * batch_size])


def _parameter_groups(model: ARSeg, config: ArsegTraining) -> list[dict]:
    """Decay the network's convolutions only; norms, biases and the fusion stay free."""
    learned = [p for p in model.frame_network.parameters() if p.requires_grad]
    rate = config.learning_rate
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "lr": rate, "weight_decay": config.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
    ]
    if config.fused:
        fusion = list(model.fusion.parameters())
        groups.append({"params": fusion, "lr": config.fusion_learning_rate, "weight_decay": 0.0})
    return groups
