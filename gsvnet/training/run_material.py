"""What AR-Seg and TDNet are trained on, gathered: stills set in motion, drawn streets, real videos without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.models.checkpoints import read_notes
from gsvnet.training.arseg_config import TrainArsegConfig
from gsvnet.training.footage_runs import RunSource, StillRuns, VideoRuns, draw_street_runs, read_video_runs
from gsvnet.training.hold_out import describe_leak, split_stills
from gsvnet.training.material import CAMVID_SIZE
from gsvnet.training.stills import load_camvid_stills
from gsvnet.training.tdnet_config import TrainTdnetConfig
from gsvnet.uris import redact_uri

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunMaterial:
    """sources: of runs, and how often each is drawn. held_out: the part that is scored. size: (height, width) in pixels
    of all runs. data: all of it in words."""

    sources: tuple[tuple[RunSource, float], ...]
    held_out: StillRuns | None
    size: tuple[int, int]
    data: list[str]


def gather_runs(
    config: TrainArsegConfig | TrainTdnetConfig, classes: ClassSet, *, num_frames: int, because: str, report: Report
) -> RunMaterial:
    """Everything that `config` names. A kind's share is split equally among its clips.

    classes: of the network. num_frames: most of one run; because: the option that asks for so many, in words. Raises
    ModelError where labels are CamVid's and the network's classes are others, ConfigError for a video that is shorter
    than a run.
    """
    if (config.camvid or (config.synthetic_clips and not config.own_labels)) and classes.names != CAMVID.names:
        raise ModelError(
            f"--keyframe {config.keyframe}: its classes are {classes.name} ({len(classes)}); the labels "
            f"of --camvid and --synthetic-clips are {CAMVID.name} ({len(CAMVID)}); --own-labels does without the latter"
        )
    sources: list[tuple[RunSource, float]] = []
    data, size, held_out = [], CAMVID_SIZE, None
    if config.camvid is not None:
        stills = load_camvid_stills(config.camvid)
        size = (stills.labels.shape[-2], stills.labels.shape[-1])
        data.append(f"CamVid train ({len(stills)} images in motion)")
        if config.hold_out:
            stills, held = split_stills(stills, config.hold_out)
            held_out = StillRuns(held)
            data[0] += f", {len(held)} of them held out"
        sources.append((StillRuns(stills), config.still_share))
    if config.synthetic_clips:
        report(f"drawing {config.synthetic_clips} clips of {config.synthetic_frames} frames")
        drives = draw_street_runs(config.synthetic_clips, config.synthetic_frames, size, seed=config.seed)
        if config.own_labels:
            drives = [VideoRuns(drive.frames, None, size=size) for drive in drives]
        sources += [(drive, config.synthetic_share / len(drives)) for drive in drives]
        data.append(f"drawn streets ({config.synthetic_clips} clips of {config.synthetic_frames} frames)")
    uris = expand_inputs(config.unlabelled)
    for uri in uris:
        video = read_video_runs(uri, size, max_frames=config.video_frames, threads=max(1, config.threads))
        name = redact_uri(uri).rstrip("/").rpartition("/")[2]
        if len(video.frames) < num_frames:
            raise ConfigError(f"{name}: {len(video.frames)} frames; {because} asks for more")
        sources.append((video, config.video_share / len(uris)))
        data.append(f"{name} ({len(video.frames)} frames, without labels)")
    return RunMaterial(sources=tuple(sources), held_out=held_out, size=size, data=data)


def warn_of_leak(config: TrainArsegConfig | TrainTdnetConfig, console: Console) -> None:
    """Say so where the network of --keyframe was trained on what is held out."""
    if config.hold_out and (leak := describe_leak(read_notes(config.keyframe)[1], config.hold_out)):
        console.print(f"warning: --keyframe {config.keyframe.name} {leak}", soft_wrap=True)
