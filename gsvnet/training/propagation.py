"""Train GSVNet's propagation with a frozen keyframe network: every step of a clip is scored, not only the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from gsvnet.errors import ConfigError
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import Normalise
from gsvnet.training import parallel
from gsvnet.training.clip_loss import ClipLoss
from gsvnet.training.clips import Clip
from gsvnet.training.hold_out import score_clips
from gsvnet.training.schedule import check_recipe, make_optimiser
from gsvnet.training.steps import LOG_EVERY, Course, run_steps


class ClipSource(Protocol):
    """Anything that clips of one grid can be drawn from."""

    def draw(self, num_frames: int, generator: np.random.Generator) -> Clip:
        """One clip of `num_frames` frames."""
        ...


@dataclass(frozen=True, kw_only=True)
class PropagationTraining:
    """One run. num_frames: most frames per clip, the keyframe included; clips of 2..num_frames are drawn.

    Learning rates as in the authors' recipe differ by part: the flow network learns slowest. Both are peaks: linear
    warm-up over `warmup_steps`, then cosine to zero. distillation, flow_supervision, last_steps: of `ClipLoss`; the
    authors' recipe is 10 / number of classes, 0 and 2. precision: "bf16" (autocast) or "fp32".
    """

    steps: int = 900
    batch_size: int = 4
    num_frames: int = 6
    learning_rate: float = 2e-3
    flow_learning_rate: float = 5e-4
    weight_decay: float = 5e-4
    warmup_steps: int = 50
    distillation: float = 0.0
    flow_supervision: float = 0.0
    last_steps: int = 0
    optimiser: str = "adamw"
    precision: str = "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.num_frames < 2:
            raise ConfigError(
                f"steps {self.steps} and batch_size {self.batch_size} must be at least 1, "
                f"num_frames {self.num_frames} at least 2"
            )
        if min(self.distillation, self.flow_supervision, self.last_steps) < 0:
            raise ConfigError(
                f"distillation {self.distillation}, flow_supervision {self.flow_supervision} and "
                f"last_steps {self.last_steps}: at least 0"
            )
        check_recipe(self.optimiser, self.precision)


def train_propagation(
    propagation: Propagation,
    sources: Sequence[tuple[ClipSource, float]],
    *,
    normalise: Normalise,
    class_weights: Tensor,
    config: PropagationTraining,
    folder: Path,
    align_corners: bool = False,
    on_step: Callable[[dict], None] = lambda record: None,
    on_save: Callable[[int, Propagation], None] = lambda step, propagation: None,
    held_out: Sequence[Clip] = (),
    log_every: int = LOG_EVERY,
    save_every: int = 100,
    device: str = "cpu",
) -> Propagation:
    """Train in place. sources: clips and how often each is drawn (shares need not sum to 1); one source per batch.

    Loss: `ClipLoss`; the keyframe's logits are given, and align_corners is their corner convention. Clips that carry no
    teacher are learned from their targets alone. One JSON line per `log_every` steps, and one at the end, goes to
    `folder`/log.jsonl and to `on_step`. Every `save_every` steps and at the end the run is kept in `folder`/state.pt,
    and `on_save` may look at the propagation, in eval mode; a rerun with the same folder goes on there and ends with
    the weights of an undisturbed run. held_out: clips that the propagation is scored on whenever it is both logged and
    kept, as `held_out_miou` (0..1) of the record. Raises ConfigError when the folder holds a run with another
    configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    propagation.to(device).train()
    normalise.to(device)
    parallel.check_batch_size(config.batch_size)
    optimiser = make_optimiser(config.optimiser, _parameter_groups(propagation, config))
    peaks = [config.flow_learning_rate, config.learning_rate]

    def score() -> dict[str, float]:
        miou = score_clips(propagation, held_out, normalise=normalise, align_corners=align_corners)
        return {"held_out_miou": miou}

    loss_of = parallel.share_gradients(
        ClipLoss(
            propagation,
            normalise,
            class_weights.to(device),
            distillation=config.distillation,
            flow_supervision=config.flow_supervision,
            last_steps=config.last_steps,
            align_corners=align_corners,
            bf16=config.precision == "bf16",
        )
    )
    run_steps(
        Course(
            folder=folder,
            config=config,
            name="propagation",
            trained=propagation,
            optimiser=optimiser,
            peaks=peaks,
            rate=config.learning_rate,
            steps=config.steps,
            warmup_steps=config.warmup_steps,
            parts={"loss": 1.0},
            log_every=log_every,
            save_every=save_every,
            device=device,
        ),
        lambda step: loss_of(draw_batch(sources, config, step, share=parallel.own_share())),
        score=score if held_out else None,
        on_step=on_step,
        on_save=lambda step: on_save(step, propagation.eval()),
    )
    return propagation.eval()


def draw_batch(
    sources: Sequence[tuple[ClipSource, float]], config: PropagationTraining, step: int, *, share: slice = slice(None)
) -> list[Clip]:
    """Clips of one length from one source, so that they stack: other sources may have other grids.

    What is drawn follows from the seed, the step, and a clip's place in the batch. share: the places that are wanted.
    """
    generator = np.random.default_rng([config.seed, step])
    shares = np.array([share for _, share in sources], float)
    num_frames = int(generator.integers(2, config.num_frames + 1))
    source = sources[int(generator.choice(len(sources), p=shares / shares.sum()))][0]
    places = range(config.batch_size)[share]
    return [source.draw(num_frames, np.random.default_rng([config.seed, step, 1 + place])) for place in places]


def _parameter_groups(propagation: Propagation, config: PropagationTraining) -> list[dict]:
    flow = list(propagation.flow.parameters())
    known = {id(p) for p in flow}
    rest = [p for p in propagation.parameters() if id(p) not in known]
    decay = config.weight_decay
    return [
        {"params": flow, "lr": config.flow_learning_rate, "weight_decay": decay},
        {"params": rest, "lr": config.learning_rate, "weight_decay": decay},
    ]
