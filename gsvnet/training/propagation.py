"""Train GSVNet's propagation with a frozen keyframe network: every step of a clip is scored, not only the last."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.classes import IGNORE
from gsvnet.errors import ConfigError
from gsvnet.models.gsvnet import Propagation, with_gain
from gsvnet.models.segmenter import Normalise
from gsvnet.training.clips import Clip
from gsvnet.training.schedule import cosine_with_warmup


class ClipSource(Protocol):
    """Anything that clips can be drawn from."""

    def draw(self, num_frames: int, generator: np.random.Generator) -> Clip:
        """One clip of `num_frames` frames."""
        ...


@dataclass(frozen=True, kw_only=True)
class PropagationTraining:
    """One run. num_frames: most frames per clip, the keyframe included; clips of 2..num_frames are drawn.

    Learning rates as in the authors' recipe differ by part: the flow network learns slowest.
    """

    steps: int = 900
    batch_size: int = 4
    num_frames: int = 6
    learning_rate: float = 2e-3
    flow_learning_rate: float = 5e-4
    weight_decay: float = 5e-4
    warmup_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.num_frames < 2:
            raise ConfigError("steps and batch_size must be at least 1, num_frames at least 2")


def train_propagation(
    propagation: Propagation,
    sources: Sequence[tuple[ClipSource, float]],
    *,
    normalise: Normalise,
    class_weights: Tensor,
    config: PropagationTraining,
    folder: Path,
    on_step: Callable[[dict], None] = lambda record: None,
    log_every: int = 20,
) -> Propagation:
    """Train in place. sources: clips and how often each is drawn (shares need not sum to 1).

    Loss: class-weighted cross-entropy of every propagated frame at twice the grid. The keyframe's logits are given.
    One JSON line per `log_every` steps goes to `folder`/log.jsonl.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(config.seed)
    shares = np.array([share for _, share in sources], float)
    optimiser = torch.optim.AdamW(_parameter_groups(propagation, config), weight_decay=config.weight_decay)
    peaks = [group["lr"] for group in optimiser.param_groups]
    propagation.train()
    losses: list[float] = []
    started = time.monotonic()
    for step in range(config.steps):
        factor = cosine_with_warmup(step, config.steps, config.warmup_steps)
        for group, peak in zip(optimiser.param_groups, peaks):
            group["lr"] = peak * factor
        num_frames = int(generator.integers(2, config.num_frames + 1))
        drawn = generator.choice(len(sources), size=config.batch_size, p=shares / shares.sum())
        clips = [sources[i][0].draw(num_frames, generator) for i in drawn]
        loss = clip_loss(propagation, clips, normalise=normalise, class_weights=class_weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(propagation.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % log_every == 0:
            seconds = time.monotonic() - started
            record = {"step": step + 1, "loss": float(np.mean(losses[-log_every:])), "seconds": seconds}
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(record | ({"config": asdict(config)} if step < log_every else {})) + "\n")
            on_step(record)
    return propagation.eval()


def clip_loss(
    propagation: Propagation, clips: Sequence[Clip], *, normalise: Normalise, class_weights: Tensor
) -> Tensor:
    """Mean over frames 1..T-1 of the weighted cross-entropy at twice the grid; () float32."""
    frames = normalise(torch.stack([clip.frames for clip in clips]))  # (B, T, 3, h, w)
    num_frames, (h, w) = frames.shape[1], frames.shape[-2:]
    targets = torch.stack([_halve(clip.targets, (2 * h, 2 * w)) for clip in clips]).long()
    current, previous = frames[:, 1:].flatten(0, 1), frames[:, :-1].flatten(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        flows = propagation.estimate_flow(current, previous).unflatten(0, (-1, num_frames - 1))
        intras = propagation.intra(current).float().unflatten(0, (-1, num_frames - 1))
    state = with_gain(torch.stack([clip.keyframe_logits for clip in clips]))
    losses = []
    for t in range(1, num_frames):
        with torch.autocast("cpu", torch.bfloat16):
            state = propagation.step(state, flows[:, t - 1], intras[:, t - 1])
        logits = F.interpolate(state[:, :-1], (2 * h, 2 * w), mode="bilinear", align_corners=False)
        losses.append(F.cross_entropy(logits, targets[:, t], weight=class_weights, ignore_index=IGNORE))
    return torch.stack(losses).mean()


def _halve(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (T, H, W) at another size, nearest."""
    if tuple(labels.shape[-2:]) == size:
        return labels
    return F.interpolate(labels[:, None], size, mode="nearest-exact")[:, 0]


def _parameter_groups(propagation: Propagation, config: PropagationTraining) -> list[dict]:
    flow = list(propagation.flow.parameters())
    known = {id(p) for p in flow}
    rest = [p for p in propagation.parameters() if id(p) not in known]
    return [{"params": flow, "lr": config.flow_learning_rate}, {"params": rest, "lr": config.learning_rate}]
