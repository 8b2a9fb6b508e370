"""What decides about the labels of a job, beside the weights of its model."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict

from gsvnet.errors import ModelError
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.network import motion_wish, sample_needs
from gsvnet.models.calibration import calibration_of
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.segmenter import FrameNeeds, VideoSegmenter
from gsvnet.models.spec import describe_model

FRAMES_AROUND = "frames_around"


def fingerprint_fields(config: LabelConfig, model: VideoSegmenter) -> dict:
    """What the labels depend on beside the model itself, by the name of the flag where there is one."""
    wish = motion_wish(config, model)
    smooth = {"smooth": config.smooth} if config.smooth else {}
    around = frames_around(model)
    return (
        _propagation_fields(config, model)
        | ({} if wish is None else {"motion": wish})
        | ({FRAMES_AROUND: around} if any(around) else {})
        | smooth
        | {
            "model_settings": describe_settings(model),
            "keyframe_interval": config.keyframe_interval,
            "shard_seconds": config.shard_seconds,
            "shard_frames": config.shard_frames,
            "cpus_per_actor": config.cpus_per_actor,
            "decoder": config.decoder,
            "batch_chunks": config.batch_chunks,
            "precision": config.precision,
            "compile": config.compile,
            "mask_size": config.mask_size,
        }
    )


def _propagation_fields(config: LabelConfig, model: VideoSegmenter) -> dict:
    """How GSVNet's labels are carried, and what is told of it, where that is not as usual; nothing of others."""
    if not isinstance(model, GSVNet):
        return {}
    return (
        ({"propagation": "two-sided"} if model.references == "both" else {})
        | ({} if config.drift else {"drift": False})
        | ({"uncertain": True} if config.uncertain else {})
        | ({} if config.min_agreement is None else {"min_agreement": config.min_agreement})
    )


def frames_around(model: VideoSegmenter) -> list[int]:
    """How many frames before and after a batch the network looks at; plans depend on it."""
    needs = sample_needs(model)
    return [needs.before, needs.after]


def describe_settings(model: VideoSegmenter) -> dict:
    """Sizes, strides and resize kind: of a known family its whole description, else what it reads of common sizes, and
    the options of its own that it tells.
    """
    try:
        return describe_model(model).to_dict()  # type: ignore[arg-type]
    except ModelError:
        told = getattr(model, "options", None)  # of a network that is not ours it may be anything
        options = told if isinstance(told, dict) and _is_plain(told) else {}
        needs = {f"{h}x{w}": _describe_needs(model.needs(h, w)) for h, w in ((360, 640), (720, 1280), (1080, 1920))}
        calibration = calibration_of(model)
        return (
            needs
            | {"network": _hash_structure(model)}
            | ({"options": options} if options else {})
            | ({} if calibration is None else {"calibration": calibration.to_dict()})
        )


def _hash_structure(model: VideoSegmenter) -> str:
    """sha256 of what a network's weights do not say and its parts tell of themselves: strides, dilations, modes."""
    parts = re.sub("0x[0-9a-f]+", "", repr(model))  # addresses, where a part tells of a function
    return hashlib.sha256(f"{parts} {getattr(model, 'align_corners', None)}".encode()).hexdigest()


def _is_plain(options: dict) -> bool:
    """Whether all are values that a checkpoint could hold."""
    return all(isinstance(k, str) and isinstance(v, bool | int | float | str) for k, v in options.items())


def _describe_needs(needs: FrameNeeds) -> dict:
    """All needs that labels depend on; of motion nothing but that it is not read, as before its grid could be told."""
    described = asdict(needs)
    del described["basis"]  # what rows say of keyframes
    for name in ("next_frame", "every_keyframe"):  # of a network without them nothing was said before they were there
        if not described[name]:
            del described[name]
    return described | {"motion": described.pop("motion_grid") or False}
