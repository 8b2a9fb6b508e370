"""`gsvnet train`: gather the material, train, and write one checkpoint that says how it was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from rich.console import Console

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError, ModelError
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.models.checkpoints import content_hash, load_checkpoint, read_notes, save_checkpoint
from gsvnet.models.gsvnet import GSVNet, Propagation
from gsvnet.models.segmenter import PerFrame, SizeRule
from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model, describe_model
from gsvnet.nn.resnet import initialise_for_training
from gsvnet.training.clips import StillClips, VideoClips
from gsvnet.training.config import TrainConfig, TrainKeyframeConfig, TrainPropagationConfig
from gsvnet.training.keyframe import KeyframeTraining, train_keyframe
from gsvnet.training.notes import claim_folder, describe_training, find_folder
from gsvnet.training.pictures import ClipSample, draw_clips, draw_stills, pick_clips, pick_stills
from gsvnet.training.propagation import LOG_EVERY, PropagationTraining, train_propagation
from gsvnet.training.record import TrainingRecord
from gsvnet.training.sources import (
    draw_street_stills,
    make_still_clips,
    make_street_clips,
    make_video_clips,
    mix_by_grid,
)
from gsvnet.training.stills import Stills, class_weights, load_camvid_stills
from gsvnet.training.teacher import load_teacher
from gsvnet.training.unlabelled import read_unlabelled
from gsvnet.video.source import redact_uri

Report = Callable[[str], None]

CAMVID_NORMALISE = NormaliseSpec(mean=(0.4119, 0.4251, 0.4327), std=(0.2741, 0.2851, 0.2828))
CAMVID_SIZE = (360, 480)
CAMVID_SIZE_RULE = SizeRule(rows=360, strides=(4,))


def train(config: TrainConfig, *, console: Console | None = None) -> None:
    """Train what `config` says and write `config.out`. console: where progress is shown; default: nowhere.

    A rerun of the same command goes on where the last one stopped. Raises ConfigError, before training starts, for
    missing or wrong files and for a folder that belongs to another command.
    """
    console = console or Console(quiet=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    if isinstance(config, TrainKeyframeConfig):
        _train_keyframe(config, console)
    else:
        _train_propagation(config, console)
    console.print(f"wrote {config.out}; use it with --model {config.out}")


def _train_keyframe(config: TrainKeyframeConfig, console: Console) -> None:
    device, model = _choose_device(config.device), _start_keyframe_network(config)
    folder = find_folder(config)
    stills, unlabelled, data = _gather_stills(config, model.size_rule, console.print)
    teacher = None
    if config.teacher is not None:
        teacher = load_teacher(config.teacher, model.classes, (stills.labels.shape[-2], stills.labels.shape[-1]))
    training = KeyframeTraining(
        epochs=config.epochs,
        batch_size=config.batch_size,
        crop=config.crop_size,
        scales=config.scales,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        weight_temper=config.weight_temper,
        distillation=config.distillation,
        warmup_steps=config.warmup_steps,
        precision=config.precision,
        seed=config.seed,
        threads=config.threads,
    )
    record: TrainingRecord[torch.nn.Module] = TrainingRecord(
        folder,
        unit="epoch",
        total=config.epochs,
        title=f"{config.out.name}: training material",
        console=console,
        draw=partial(draw_stills, stills=pick_stills(stills), model=model),
    )
    claim_folder(folder, config)
    with record:
        network = train_keyframe(
            model.net,
            stills,
            num_classes=len(model.classes),
            normalise=model.normalise,
            config=training,
            folder=folder,
            device=device,
            teacher=teacher,
            unlabelled=unlabelled,
            on_epoch=record.add,
            on_save=record.look,
        )
    model.net = network
    notes = describe_training(config, f"{config.family} trained on {', '.join(data)}", data)
    if config.teacher is not None:
        notes["teacher"] = read_notes(config.teacher)[1]
    save_checkpoint(config.out, model, notes=notes)


def _start_keyframe_network(config: TrainKeyframeConfig) -> PerFrame:
    """CamVid's model with random weights, or with those of --init."""
    if config.init is None:
        spec = ModelSpec(
            family=config.family,
            classes=CAMVID,
            normalise=CAMVID_NORMALISE,
            size_rule=CAMVID_SIZE_RULE,
            align_corners=False,
        )
        model = build_model(spec)
        initialise_for_training(model)
    else:
        model = load_checkpoint(config.init)
        found = describe_model(model)
        if found.family != config.family or found.classes.names != CAMVID.names:
            raise ModelError(
                f"{config.init} holds {found.family} with {found.classes.name} classes; "
                f"needed: {config.family} with {CAMVID.name} classes"
            )
    assert isinstance(model, PerFrame)
    return model


def _gather_stills(
    config: TrainKeyframeConfig, rule: SizeRule, report: Report
) -> tuple[Stills, list[Stills], list[str]]:
    """Labelled stills, those for the teacher alone, and what they are in words.

    Where nothing is labelled, the first of the others stands in.
    """
    parts, data = [], []
    if config.camvid is not None:
        parts.append(load_camvid_stills(config.camvid))
        data.append(f"CamVid train ({len(parts[0])} images)")
    if config.synthetic_scenes:
        report(f"drawing {config.synthetic_scenes} streets")
        height, width = parts[0].labels.shape[-2:] if parts else CAMVID_SIZE
        parts.append(draw_street_stills(config.synthetic_scenes, (height, width), seed=config.seed))
        data.append(f"drawn streets ({len(parts[-1])} images)")
    labelled = [parts[0].joined(parts[1]) if len(parts) == 2 else parts[0]] if parts else []
    unlabelled = []
    for path, stills in read_unlabelled(config.unlabelled, rule, step=config.unlabelled_step):
        unlabelled.append(stills)
        data.append(f"{redact_uri(path).rstrip('/').rpartition('/')[2]} ({len(stills)} images, without labels)")
    report(f"training on {', '.join(data)}")
    stills, *others = labelled + unlabelled
    return stills, others, data


def _train_propagation(config: TrainPropagationConfig, console: Console) -> None:
    device, model = _choose_device(config.device), _start_propagation(config)
    uris = expand_inputs(config.video)
    folder = find_folder(config)
    model.eval().to(device)
    sources, data = _gather_clips(config, uris, model, console.print)
    targets = [s.stills.labels if isinstance(s, StillClips) else s.targets for s, _ in sources]
    training = PropagationTraining(
        steps=config.steps,
        batch_size=config.batch_size,
        num_frames=config.frames,
        learning_rate=config.learning_rate,
        flow_learning_rate=config.flow_learning_rate,
        warmup_steps=config.warmup_steps,
        distillation=config.distillation,
        last_steps=config.last_steps,
        precision=config.precision,
        seed=config.seed,
    )
    record: TrainingRecord[Propagation] = TrainingRecord(
        folder,
        unit="step",
        total=config.steps,
        every=LOG_EVERY,
        title=f"{config.out.name}: training material",
        console=console,
        draw=partial(draw_clips, samples=_pick_samples(config, [source for source, _ in sources]), model=model),
    )
    claim_folder(folder, config)
    with record:
        train_propagation(
            model.propagation,
            mix_by_grid(sources),
            normalise=model.frame_normalise,
            class_weights=class_weights(
                torch.cat([t.flatten() for t in targets]), len(model.classes), temper=config.weight_temper
            ),
            config=training,
            folder=folder,
            align_corners=model.align_corners,
            device=device,
            on_step=record.add,
            on_save=record.look,
        )
    summary = f"{describe_model(model).family}, propagation trained on {', '.join(data)}"
    _, keyframe_notes = read_notes(config.keyframe)
    keyframe = {"sha256": content_hash(model.keyframe_network.cpu()), "notes": keyframe_notes}
    save_checkpoint(config.out, model, notes=describe_training(config, summary, data) | {"keyframe": keyframe})


def _start_propagation(config: TrainPropagationConfig) -> GSVNet:
    """The keyframe network of --keyframe with a new propagation, or with that of --init."""
    keyframe = load_checkpoint(config.keyframe)
    network = keyframe.keyframe_network if isinstance(keyframe, GSVNet) else keyframe.net
    spec = describe_model(keyframe)
    family = spec.family if spec.family.startswith("gsvnet-") else f"gsvnet-{spec.family}"
    frame_normalise = spec.frame_normalise or spec.normalise
    model = build_model(replace(spec, family=family, frame_normalise=frame_normalise, resize="area"))
    assert isinstance(model, GSVNet)
    model.keyframe_network.load_state_dict(network.state_dict())
    if config.init is not None:
        start = load_checkpoint(config.init)
        if not isinstance(start, GSVNet) or start.classes.names != model.classes.names:
            raise ModelError(f"--init {config.init}: must hold a GSVNet with {model.classes.name} classes")
        model.propagation.load_state_dict(start.propagation.state_dict())
    return model


def _gather_clips(
    config: TrainPropagationConfig, uris: list[str], model: GSVNet, report: Report
) -> tuple[list[tuple[StillClips | VideoClips, float]], list[str]]:
    """All clips with their shares, and what they are in words. A kind's share is split equally among its clips."""
    sources: list[tuple[StillClips | VideoClips, float]] = []
    data, size = [], CAMVID_SIZE
    if config.camvid is not None:
        stills = load_camvid_stills(config.camvid)
        size = (stills.labels.shape[-2], stills.labels.shape[-1])
        report(f"labeling {len(stills)} stills of CamVid train")
        sources.append((make_still_clips(stills, model), config.still_share))
        data.append(f"CamVid train ({len(stills)} images in motion)")
    if config.synthetic_clips:
        report(f"drawing {config.synthetic_clips} clips of {config.synthetic_frames} frames")
        clips = make_street_clips(config.synthetic_clips, config.synthetic_frames, size, model, seed=config.seed)
        sources += [(clip, config.synthetic_share / config.synthetic_clips) for clip in clips]
        data.append(f"drawn streets ({config.synthetic_clips} clips of {config.synthetic_frames} frames)")
    for uri in uris:
        clip = make_video_clips(uri, model, max_frames=config.video_frames, threads=max(1, config.threads))
        report(f"labeled {len(clip.frames)} frames of {redact_uri(uri)}")
        sources.append((clip, config.video_share / len(uris)))
        data.append(f"{redact_uri(uri).rpartition('/')[2]} ({len(clip.frames)} frames, without labels)")
    return sources, data


def _pick_samples(config: TrainPropagationConfig, sources: list[StillClips | VideoClips]) -> list[ClipSample]:
    """A clip of the first source of each kind, in the order in which they were gathered."""
    kinds = ["still in motion"] * (config.camvid is not None) + ["drawn street"] * config.synthetic_clips
    kinds += ["video"] * (len(sources) - len(kinds))
    firsts: dict[str, StillClips | VideoClips] = {}
    for kind, source in zip(kinds, sources):
        firsts.setdefault(kind, source)
    return pick_clips(firsts, config.frames)


def _choose_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no CUDA here")
    return device
