"""Train TDNet's sub-networks together: from runs of N frames, through all memories (Hu et al., CVPR 2020, section 3.3).

The authors let one sub-network label per step. Here each labels as many of a step's runs, so that every part learns in
every step, and each trunk sees all of its frames at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.errors import ConfigError
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.models.tdnet import TDNet
from gsvnet.nn.spatial_norm import SpatialLayerNorm
from gsvnet.nn.upsample import upsample_labels
from gsvnet.training import parallel
from gsvnet.training.checks import LabelLoss
from gsvnet.training.footage_runs import RunSource
from gsvnet.training.hold_out import in_evaluation_mode
from gsvnet.training.schedule import check_recipe, make_optimiser
from gsvnet.training.steps import LOG_EVERY, Course, run_steps
from gsvnet.training.tdnet_loss import TdnetLoss, build_auxiliary_heads, choose_rows, label_both, look
from gsvnet.training.tdnet_runs import RunBatch, RunRecipe, draw_runs
from gsvnet.training.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class TdnetTraining:
    """One run. batch_size: runs of N frames per step, of all processes together, a multiple of N.

    Learning rates are peaks, of trunks, values and heads, and of what is about others' frames (queries, keys, hops,
    norm maps) or new: linear warm-up over `warmup_steps`, then cosine to zero. loss, every_frame: of `TdnetLoss`. The
    weights of its parts are the authors': alone, auxiliary, distillation, and in the latter that of what is made of a
    frame alone. optimiser: as in `make_optimiser`. precision: "bf16" (autocast) or "fp32".
    """

    steps: int = 400
    batch_size: int = 8
    learning_rate: float = 3e-4
    gathering_learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    loss: LabelLoss = "cross-entropy"
    every_frame: bool = False
    alone_weight: float = 0.5
    auxiliary_weight: float = 0.1
    distillation: float = 1.0
    alone_distillation: float = 0.5
    optimiser: str = "adamw"
    precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise ConfigError(f"steps {self.steps} and batch_size {self.batch_size}: at least 1 and 2")
        check_recipe(self.optimiser, self.precision)

    @property
    def parts(self) -> dict[str, float]:
        """The parts of the loss by name, and how much each counts."""
        return {
            "gathered_loss": 1.0,
            "alone_loss": self.alone_weight,
            "auxiliary_loss": self.auxiliary_weight,
            "distillation_loss": self.distillation,
        }


def train_tdnet(
    model: TDNet,
    sources: Sequence[tuple[RunSource, float]],
    *,
    recipe: RunRecipe,
    class_weights: Tensor,
    config: TdnetTraining,
    folder: Path,
    teacher: Teacher | None = None,
    held_out: RunBatch | None = None,
    on_step: Callable[[dict], None] = lambda record: None,
    on_save: Callable[[int, TDNet], None] = lambda step, model: None,
    log_every: int = LOG_EVERY,
    save_every: int = 100,
    device: str = "cpu",
) -> TDNet:
    """The model, trained in place; in eval mode.

    sources: of runs whose frames are all labelled, and how often each is drawn. Log, state and resuming are as in
    `run_steps`; on_save may look at the model, in eval mode. held_out: runs that are scored whenever the training is
    both logged and kept, as `held_out_miou` (0..1) and, of each frame by its sub-network alone,
    `held_out_miou_alone`. Raises ConfigError when the folder holds a run with another configuration, and for a batch
    that the sub-networks cannot share evenly.
    """
    check_turns(config.batch_size, model.num_sub_networks)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    trained = nn.ModuleDict({"model": model, "auxiliary": build_auxiliary_heads(model)}).to(device)
    auxiliary = trained["auxiliary"]
    assert isinstance(auxiliary, nn.ModuleList)
    groups = _parameter_groups(model, auxiliary, config)
    loss_of = parallel.share_gradients(
        TdnetLoss(
            model,
            auxiliary,
            class_weights.to(device),
            loss=config.loss,
            every_frame=config.every_frame,
            teacher=None if teacher is None else teacher.to(device),
            alone_distillation=config.alone_distillation,
            bf16=config.precision == "bf16",
        )
    )
    places = range(config.batch_size)[parallel.own_share()]

    def loss_at(step: int) -> Tensor:
        parallel.seed_dropout(config.seed, step)
        return loss_of(draw_runs(sources, recipe, step, places).to(device))

    run_steps(
        Course(
            folder=folder,
            config=config,
            name="trained",
            trained=trained,
            optimiser=make_optimiser(config.optimiser, groups),
            peaks=[group["lr"] for group in groups],
            rate=config.learning_rate,
            steps=config.steps,
            warmup_steps=config.warmup_steps,
            parts=config.parts,
            log_every=log_every,
            save_every=save_every,
            device=device,
        ),
        loss_at,
        score=None if held_out is None else lambda: score_runs(model, held_out, device=device),
        on_step=on_step,
        on_save=lambda step: on_save(step, model.eval()),
    )
    return model.eval()


def check_turns(batch_size: int, num_sub_networks: int) -> None:
    """Raises ConfigError for a batch of runs of which not every sub-network labels as many, in each process."""
    count = num_sub_networks * parallel.num_processes()
    if batch_size % count:
        raise ConfigError(
            f"batch size {batch_size}: must be a multiple of {count}, so that each of {num_sub_networks} sub-networks "
            f"takes as many turns in each of {count // num_sub_networks} processes"
        )


@torch.no_grad()
def label_runs(model: TDNet, runs: RunBatch, *, device: str = "cpu") -> tuple[np.ndarray, np.ndarray]:
    """Labels (B, H, W) uint8 of the last frame of each run, at the size of its targets: gathered, and alone.

    model: in eval mode.
    """
    count, size = model.num_sub_networks, (runs.targets.shape[-2], runs.targets.shape[-1])
    labels = np.zeros((2, len(runs), *size), np.uint8)
    for first in range(0, len(runs), count):  # whole cycles, so that turns stay what they are
        part = runs.pick(slice(first, first + count)).to(device)
        seen = look(model, part.images)
        for turn in range(len(part)):
            both = torch.cat(label_both(model, seen, turn, choose_rows(turn, count, every_frame=False)))
            labels[:, first + turn] = upsample_labels(both, size, align_corners=model.align_corners).cpu().numpy()
    return labels[0], labels[1]


def score_runs(model: TDNet, runs: RunBatch, *, device: str = "cpu") -> dict[str, float]:
    """held_out_miou in 0..1 of the last frames of runs, and held_out_miou_alone, without what others saw."""
    scores = {}
    with in_evaluation_mode(model):
        for name, labels in zip(("held_out_miou", "held_out_miou_alone"), label_runs(model, runs, device=device)):
            confusion = ConfusionMatrix(len(model.classes))
            confusion.update(runs.targets[:, -1].numpy(), labels)
            scores[name] = confusion.miou()
    return scores


def _parameter_groups(model: TDNet, auxiliary: nn.ModuleList, config: TdnetTraining) -> list[dict]:
    """By rate and by decay: of convolutions alone, never of norms, biases, and the maps of spatial norms."""
    subs = [model.sub(turn) for turn in range(model.num_sub_networks)]
    known = nn.ModuleList([nn.ModuleList([sub.trunk, sub.value, sub.head]) for sub in subs])
    others = nn.ModuleList([nn.ModuleList([sub.query, sub.key, sub.hops, sub.norm]) for sub in subs] + [auxiliary])
    groups = []
    for modules, rate in ((known, config.learning_rate), (others, config.gathering_learning_rate)):
        maps = {id(p) for part in modules.modules() if isinstance(part, SpatialLayerNorm) for p in part.parameters()}
        decays = [p for p in modules.parameters() if p.ndim > 1 and id(p) not in maps]
        free = [p for p in modules.parameters() if p.ndim <= 1 or id(p) in maps]
        groups.append({"params": decays, "lr": rate, "weight_decay": config.weight_decay})
        groups.append({"params": free, "lr": rate, "weight_decay": 0.0})
    return groups
