"""Models from files: our own checkpoints (one safetensors file each), the shipped default, your own factory.

A checkpoint holds the tensors and a JSON text `gsvnet` in the file's metadata: the format version and a `ModelSpec`,
which says how to rebuild the network around them. Loading reads data and never runs code from a file. Layouts of
published files are in `published.py`.
"""

from __future__ import annotations

import importlib
import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gsvnet.errors import GsvnetError, ModelError
from gsvnet.models.arseg import ARSeg
from gsvnet.models.content_hash import content_hash
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.outside import OutsideNetwork
from gsvnet.models.segmenter import PerFrame, VideoSegmenter
from gsvnet.models.spec import FAMILIES, ModelSpec, StoredModel, build_model, describe_model
from gsvnet.models.transfer import image_network_of
from gsvnet.nn.confidence import Calibration

FORMAT_VERSION = 1
DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"


def save_checkpoint(path: str | Path, model: nn.Module, *, notes: dict | None = None, half: bool = True) -> None:
    """Write `model` as one safetensors file, complete or not at all; the same model gives the same bytes.

    notes: JSON-ready remarks (data, recipe, scores), kept beside the spec. half: store weights of two and more
    dimensions in float16; vectors (batch norms, biases) and weights that float16 cannot hold stay float32. Auxiliary
    heads are left out, and so is a calibration: it was measured before whatever the model is saved for
    (`write_calibrated` keeps one).
    """
    spec = replace(describe_model(model), calibration=None)
    with torch.device("meta"):
        names = sorted(build_model(spec).state_dict())
    state = model.state_dict()
    _write_checkpoint(Path(path), spec, notes or {}, {name: _to_disk(state[name], half=half) for name in names})


def write_calibrated(source: str | Path, path: str | Path, calibration: Calibration, *, notes: dict) -> None:
    """Write the checkpoint `source` with a calibration, complete or not at all; its tensors and notes stay as they are.

    notes: how the calibration was measured, JSON-ready; kept as "calibration" beside the other notes.
    """
    spec, other_notes, tensors = _read_checkpoint(Path(source))
    _write_checkpoint(Path(path), replace(spec, calibration=calibration), other_notes | {"calibration": notes}, tensors)


def load_checkpoint(path: str | Path) -> StoredModel:
    """The network of one of our own checkpoints, float32, in evaluation mode. Raises ModelError if it is refused."""
    spec, _, tensors = _read_checkpoint(Path(path))
    sketch = _sketch(spec, str(path))
    wanted = {name: tuple(tensor.shape) for name, tensor in sketch.state_dict().items()}
    check_tensors(tensors, wanted, source=str(path), network=type(sketch).__name__)
    model = build_model(spec)
    load_strictly(model, tensors, source=str(path))
    return model.eval()


def _sketch(spec: ModelSpec, source: str) -> StoredModel:
    """The network of a spec without memory for its tensors: a file may ask for any size."""
    try:
        with torch.device("meta"):
            return build_model(spec)
    except (ModelError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise ModelError(f"{source}: no network can be built as it says: {told}") from error


def read_notes(path: str | Path) -> tuple[ModelSpec, dict]:
    """What a checkpoint says about itself: its spec, and the notes that were saved with it."""
    spec, notes, _ = _read_checkpoint(Path(path))
    return spec, notes


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    file_name: Callable[[str], str] = lambda name: name,
) -> None:
    """Fill every parameter and buffer of `module` from `tensors`, in place, or change nothing.

    file_name: from a name in the module to its name in the file. Raises ModelError, in the file's words, for missing
    and unexpected names and for shapes that differ.
    """
    wanted = {file_name(name): tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    check_tensors(tensors, wanted, source=source, network=type(module).__name__)
    module.load_state_dict({name: tensors[file_name(name)] for name in module.state_dict()}, strict=True)


def check_tensors(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int]], *, source: str, network: str
) -> None:
    """Raises ModelError for names that are missing or not `wanted` (name -> shape), and for shapes that differ."""
    problems = [f"missing {name}" for name in wanted if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, the network has {tuple(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != tuple(shape)
    ]
    if problems:
        shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        raise ModelError(f"{source} does not fit {network}: {shown}")


def load_default() -> VideoSegmenter:
    """The checkpoint that ships with the package."""
    if not DEFAULT_WEIGHTS.is_file():
        raise ModelError(f"the default weights are not installed ({DEFAULT_WEIGHTS}); give a checkpoint with --model")
    return load_checkpoint(DEFAULT_WEIGHTS)


MODELS: dict[str, Callable[[], VideoSegmenter]] = {"default": load_default}


def load_model(name: str, keyframe_model: str | None = None) -> VideoSegmenter:
    """A model by name ("default"), by path of a checkpoint, or from your own `package.module:factory`.

    A factory is called without arguments and returns a VideoSegmenter; only names typed by the user get here, never
    names out of a file. keyframe_model: another model whose image network replaces the keyframe network; a checkpoint
    that holds a propagation alone needs the one that it was trained for. Raises ModelError for anything that does not
    fit.
    """
    model = _find_model(name)
    if keyframe_model is not None:
        model = _replace_keyframe_network(model, _find_model(keyframe_model))
    if isinstance(model, GSVNet) and isinstance(model.keyframe_network, OutsideNetwork):
        raise ModelError(
            f"{keyframe_model or name} holds a propagation alone; name the keyframe network that it was trained for "
            f"(sha256 {model.keyframe_network.sha256[:12]}...) as keyframe model"
        )
    return model


def keyframe_hash(model: GSVNet | ARSeg) -> str:
    """sha256 (64 hex digits) of a model's keyframe network and its normalisation: what its logits follow from."""
    normalise = model.normalise if isinstance(model, ARSeg) else model.keyframe_normalise
    return content_hash(nn.ModuleDict({"network": model.keyframe_network, "normalise": normalise}))


def without_keyframe_network(model: GSVNet) -> GSVNet:
    """The same model with the hash of its keyframe network in place of the network; any GSVNet can be stored so."""
    own = image_network_of(model)
    own.net = OutsideNetwork(num_classes=len(model.classes), sha256=keyframe_hash(model))
    return _with_keyframe_network(model, own)


def _find_model(name: str) -> VideoSegmenter:
    if name in MODELS:
        return MODELS[name]()
    if re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", name):
        return _call_factory(name)
    if Path(name).is_file():
        return load_checkpoint(name)
    family = f"{name} is a family of networks, not a trained one. " if name in FAMILIES else ""
    raise ModelError(
        f"unknown model {name!r}. {family}Give a name ({', '.join(MODELS)}), "
        "the path of a .safetensors checkpoint, or package.module:factory"
    )


def _call_factory(name: str) -> VideoSegmenter:
    module_name, factory_name = name.split(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"cannot import model factory {name!r}: {error}") from error
    try:
        model = factory()
    except GsvnetError:
        raise
    except Exception as error:
        file, line = traceback.extract_tb(error.__traceback__)[-1][:2]
        raise ModelError(f"{name} raised {type(error).__name__}: {error} ({Path(file).name}, line {line})") from error
    if not isinstance(model, VideoSegmenter):
        wrap = "; wrap it: gsvnet.models.segmenter.PerFrame(net, classes=..., normalise=Normalise(mean=..., std=...))"
        hint = wrap if isinstance(model, nn.Module) else ""
        raise ModelError(f"{name} returned {type(model).__name__}, which is no VideoSegmenter{hint}")
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} returned {type(model).__name__}, which is no torch.nn.Module")
    return model.eval()


def _replace_keyframe_network(model: VideoSegmenter, keyframe_model: VideoSegmenter) -> GSVNet:
    """`model`'s propagation on top of `keyframe_model`'s image network, with that network's sizes and normalisation."""
    if not isinstance(model, GSVNet):
        raise ModelError(f"a keyframe model needs a GSVNet to propagate it, not {type(model).__name__}")
    if not isinstance(keyframe_model, GSVNet | PerFrame | ARSeg):
        kind = type(keyframe_model).__name__
        raise ModelError(f"a keyframe model is a PerFrame, a GSVNet or an ARSeg, not {kind}")
    if keyframe_model.classes.names != model.classes.names:
        raise ModelError(
            f"keyframe model's classes ({keyframe_model.classes.name}: {', '.join(keyframe_model.classes.names)}) "
            f"are not the model's ({model.classes.name}: {', '.join(model.classes.names)})"
        )
    replaced = _with_keyframe_network(model, image_network_of(keyframe_model))
    if isinstance(model.keyframe_network, OutsideNetwork):
        _check_pair(model, replaced, wanted=model.keyframe_network.sha256)
    return replaced


def _with_keyframe_network(model: GSVNet, source: PerFrame) -> GSVNet:
    """`model` with another keyframe network, its sizes, normalisation and corner convention."""
    return GSVNet(
        source.net,
        model.propagation,
        classes=model.classes,
        keyframe_normalise=source.normalise,
        frame_normalise=model.frame_normalise,
        size_rule=model.size_rule,
        keyframe_size_rule=source.size_rule,
        resize=model.resize,
        align_corners=source.align_corners,
    ).eval()


def _check_pair(model: GSVNet, paired: GSVNet, *, wanted: str) -> None:
    """Refuse a keyframe network other than the one that the propagation was trained for."""
    found = keyframe_hash(paired)
    if found != wanted:
        raise ModelError(
            f"the keyframe model has sha256 {found[:12]}...; this propagation was trained for {wanted[:12]}...; "
            "use that network, or run `gsvnet adapt` for this one"
        )
    for name in ("keyframe_size_rule", "align_corners"):
        if getattr(paired, name) != getattr(model, name):
            raise ModelError(
                f"the keyframe model's {name} is {getattr(paired, name)}; this propagation was trained with "
                f"{getattr(model, name)}"
            )


def _to_disk(tensor: Tensor, *, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not half or tensor.ndim < 2 or not tensor.is_floating_point():
        return tensor
    halved = tensor.half()
    return halved if bool(halved.isfinite().all()) else tensor


def _write_checkpoint(path: Path, spec: ModelSpec, notes: dict, tensors: dict[str, Tensor]) -> None:
    about = json.dumps({"format_version": FORMAT_VERSION, "model": spec.to_dict(), "notes": notes})
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    safetensors.torch.save_file(tensors, unfinished, metadata={"gsvnet": about})
    unfinished.replace(path)


def _read_checkpoint(path: Path) -> tuple[ModelSpec, dict, dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("gsvnet", "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
    except OSError as error:
        raise ModelError(f"cannot read checkpoint {path}: {error}") from error
    except safetensors.SafetensorError as error:
        raise ModelError(
            f"{path} is no safetensors file ({error}); turn published files into one with: gsvnet convert"
        ) from error
    about = _parse_about(text, path)
    if about.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path} is no gsvnet checkpoint of format {FORMAT_VERSION}: it says {about.get('format_version')!r}"
        )
    if "model" not in about:
        raise ModelError(f"{path} does not say which model it holds: its gsvnet metadata has no entry 'model'")
    notes = about.get("notes", {})
    if not isinstance(notes, dict):
        raise ModelError(f"{path}: its notes are no JSON mapping but {notes!r:.40}")
    try:
        return ModelSpec.from_dict(about["model"]), notes, tensors
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _parse_about(text: str, path: Path) -> dict:
    """The JSON text in a checkpoint's metadata as a mapping."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its gsvnet metadata is no JSON ({error})") from error
    if not isinstance(about, dict):
        raise ModelError(f"{path}: its gsvnet metadata is no JSON mapping but {text[:40]!r}")
    return about
