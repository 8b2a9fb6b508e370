"""A user's videos as material for `gsvnet adapt`: what is trained on, what is held out, and clips of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gsvnet.errors import ConfigError, VideoError
from gsvnet.evaluation.footage import Footage, open_footage, see_frames, spread_runs
from gsvnet.models.gsvnet import GSVNet
from gsvnet.nn.blocks import resize
from gsvnet.nn.upsample import upsample_labels
from gsvnet.training.adapt_config import AdaptConfig
from gsvnet.training.clips import StillClips, VideoClips
from gsvnet.training.stills import Stills
from gsvnet.uris import redact_uri

Report = Callable[[str], None]
Runs = list[tuple[int, int]]

STILL_EVERY = 8  # frames; so many stills say all that a video shows
STILL_SHARE = 0.5  # of the clips: stills in motion beside the video itself
RUN_FRAMES = 32  # enough for clips of 6 frames at three times the speed, few enough to see many places of a long video


@dataclass(frozen=True, kw_only=True)
class Material:
    """One video, cut in time. Runs [first, stop) of frames: to train on, then to report on; either may be empty."""

    footage: Footage
    training: Runs
    held_out: Runs

    @property
    def name(self) -> str:
        """The file's name, without folder and credentials."""
        return redact_uri(self.footage.uri).rpartition("/")[2]


def cut_videos(uris: Sequence[str], config: AdaptConfig, report: Report) -> list[Material]:
    """Every usable video, cut into what is trained on and, at its end, what is held out.

    Where the end is too short to report on, it is left out. Raises ConfigError when nothing is left to train or to
    report on.
    """
    materials = []
    for uri in uris:
        try:
            material = _cut_video(open_footage(uri), config)
        except VideoError as error:
            report(f"left out: {error}")
            continue
        materials.append(material)
        if not material.held_out:
            report(f"{material.name}: its end is too short for a report at keyframe interval {config.interval}")
    if not any(material.training for material in materials):
        raise ConfigError(f"no video has the {config.frames} frames of a clip to train on; see --frames, --hold-out")
    if not any(material.held_out for material in materials):
        raise ConfigError(
            f"no video leaves {config.interval} frames to report on; use a larger --hold-out than {config.hold_out}, "
            f"or a smaller --interval than {config.interval}"
        )
    return materials


def _cut_video(footage: Footage, config: AdaptConfig) -> Material:
    total = footage.num_frames
    border = round(total * (1 - config.hold_out))
    runs = spread_runs(0, border, num_frames=config.frames_per_video, run_frames=max(RUN_FRAMES, config.frames))
    held_out = spread_runs(
        border, total, num_frames=config.frames_per_video, run_frames=max(RUN_FRAMES, 3 * config.interval)
    )
    return Material(
        footage=footage,
        training=[(first, stop) for first, stop in runs if stop - first >= config.frames],
        held_out=[(first, stop) for first, stop in held_out if stop - first >= config.interval],
    )


def label_clips(
    model: GSVNet, materials: Sequence[Material], config: AdaptConfig, device: str, report: Report
) -> list[tuple[VideoClips | StillClips, float]]:
    """Clips of all training runs, drawn as often as they have frames, and of stills from them that are set in motion.

    The video shows how things really move, but not where to; of a still in motion the flow is known.
    """
    clips: list[tuple[VideoClips | StillClips, float]] = []
    for material in materials:
        for first, stop in material.training:
            video, stills = _see_run(
                model, material.footage, first, stop, device=device, threads=max(1, config.threads)
            )
            if len(video.frames) >= config.frames:
                clips.append((video, float(len(video.frames)) * (1 - STILL_SHARE)))
                clips.append((stills, float(len(video.frames)) * STILL_SHARE))
        report(f"labeled {sum(stop - first for first, stop in material.training)} frames of {material.name}")
    if not clips:
        raise ConfigError(f"no {config.frames} frames in a row can be decoded")
    return clips


def _see_run(
    model: GSVNet, footage: Footage, first_frame: int, stop_frame: int, *, device: str, threads: int
) -> tuple[VideoClips, StillClips]:
    """The run as it is, and every so many frames of it as stills.

    Targets are the keyframe network's labels, of the video at twice the grid, as the loss reads them.
    """
    frames, logits, targets = [], [], []
    images, labels = [], []
    seen = see_frames(model, footage, first_frame=first_frame, stop_frame=stop_frame, device=device, threads=threads)
    for part in seen:
        h, w = part.frames.shape[-2:]
        frames.append(part.frames.round().to(torch.uint8).cpu())
        logits.append(resize(part.logits, (h, w), align_corners=model.align_corners).half().cpu())
        targets.append(upsample_labels(part.logits, (2 * h, 2 * w), align_corners=model.align_corners).cpu())
        picked = slice(-sum(map(len, frames[:-1])) % STILL_EVERY, None, STILL_EVERY)
        size = (part.keyframes.shape[-2], part.keyframes.shape[-1])
        images.append(part.keyframes[picked].round().to(torch.uint8).cpu())
        labels.append(upsample_labels(part.logits[picked], size, align_corners=model.align_corners).cpu())
    video = VideoClips(torch.cat(frames), torch.cat(logits), torch.cat(targets))
    stills = Stills(images=torch.cat(images), labels=torch.cat(labels), sequences=("",) * sum(map(len, images)))
    return video, StillClips(stills, video.logits[::STILL_EVERY], grid=video.grid, align_corners=model.align_corners)


def describe_data(materials: Sequence[Material]) -> list[str]:
    """What is trained on, in words."""
    return [
        f"{material.name} ({sum(stop - first for first, stop in material.training)} frames, without labels)"
        for material in materials
        if material.training
    ]
