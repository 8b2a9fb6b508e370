"""The network of a job, and what it wants to know of videos beside their frames."""

from __future__ import annotations

from gsvnet.choices import MotionWish
from gsvnet.errors import ConfigError
from gsvnet.labeling.batching import refuse_unknown_needs
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.plan import PlanRule
from gsvnet.models.arseg import ARSeg
from gsvnet.models.checkpoints import load_model
from gsvnet.models.contract import check_on_sample
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.segmenter import FrameNeeds, VideoSegmenter
from gsvnet.models.tdnet import TDNet
from gsvnet.models.transfer import with_drift, with_ensemble, with_min_agreement, with_references
from gsvnet.video.flow import load_opencv
from gsvnet.video.proxy import check_proxy
from gsvnet.video.smoothing import check_reach

_ANY_SIZE = 720, 1280  # what kind of things a network needs does not depend on the size


def load_network(config: LabelConfig) -> VideoSegmenter:
    """The network as the job uses it. Raises ModelError where it cannot be used, ConfigError for --motion in vain, and
    MissingExtra where labels cannot be smoothed.
    """
    check_reach(config.smooth)
    if config.smooth:
        load_opencv("smooth")
    model = load_model(config.model, keyframe_model=config.keyframe_model)
    if config.drawn_on is not None:
        if config.propagation is not None and not isinstance(model, GSVNet | ARSeg | TDNet):
            raise ConfigError(f"--propagation {config.propagation}: {config.model} labels every frame by itself")
        model = with_references(model, config.drawn_on)
    if config.uncertain and not isinstance(model, GSVNet):
        raise ConfigError(f"--uncertain: {config.model} does not label frames from two sides that could be compared")
    if config.drift and config.keyframe_interval > 1:  # else no labels are carried anywhere
        model = with_drift(model)
    if config.min_agreement is not None:
        model = with_min_agreement(model, config.min_agreement)
    if config.ensemble is not None:
        model = with_ensemble(model, config.ensemble)
    needs = sample_needs(model)
    refuse_unknown_needs(needs)
    check_on_sample(model)  # workers do so too, when the output is claimed already
    if config.motion != "auto" and needs.motion_grid is None:
        raise ConfigError(f"--motion {config.motion}: the network {config.model} reads no motion; leave it out")
    if needs.motion_grid is not None:
        check_proxy()  # some video will need it
    return model


def motion_wish(config: LabelConfig, model: VideoSegmenter) -> MotionWish | None:
    """Which source of motion is wanted; None for networks that read none."""
    return None if sample_needs(model).motion_grid is None else config.motion


def plan_rule(config: LabelConfig, model: VideoSegmenter) -> PlanRule:
    """How the job's videos are planned for the network."""
    needs = sample_needs(model)
    return PlanRule(
        interval=config.keyframe_interval,
        shard_seconds=config.shard_seconds,
        shard_frames=config.shard_frames,
        motion=motion_wish(config, model),
        before=needs.before,
        after=needs.after,
        smooth=config.smooth,
    )


def sample_needs(model: VideoSegmenter) -> FrameNeeds:
    """What a network needs of a video of a common size."""
    return model.needs(*_ANY_SIZE)
