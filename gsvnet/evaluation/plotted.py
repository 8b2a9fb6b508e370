"""Results of evaluations as plots want them: read from what `gsvnet evaluate --json` wrote, checked, named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gsvnet.errors import ConfigError

_KEYS = ("dataset", "split", "model", "keyframe_interval", "avg_miou", "per_distance", "per_class")
_KINDS = ("model", "smoothed", "per_frame", "truth")  # of labels that temporal consistency is measured of


@dataclass(frozen=True, kw_only=True)
class PlottedRow:
    """Temporal consistency (TC) of one kind of labels, in percent; None where no pixel was compared.

    pooled: of all pairs of frames. per_clip: of those of each clip. per_pair: of each pair by itself, clip by clip.
    """

    pooled: float | None
    per_clip: tuple[float | None, ...]
    per_pair: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, kw_only=True)
class PlottedConsistency:
    """TC of one result. clips: their names. rows: by kind of labels, the model's own first, all of the same pairs."""

    mode: str
    flow: str
    clips: tuple[str, ...]
    rows: dict[str, PlottedRow]

    def __post_init__(self) -> None:
        for kind, row in self.rows.items():
            num_pairs = [len(pairs) for pairs in row.per_pair]
            if num_pairs != self.num_pairs or not len(self.clips) == len(num_pairs) == len(row.per_clip):
                raise ConfigError(f"consistency of {kind} is not of the clips and pairs that the others are of")

    @property
    def num_pairs(self) -> list[int]:
        """Pairs of neighbouring frames of each clip."""
        return [len(pairs) for pairs in self.rows["model"].per_pair]

    @property
    def basis(self) -> str:
        """How it was measured and on what; only TC of one basis may be compared."""
        clips = ", ".join(f"{clip} ({pairs} pairs)" for clip, pairs in zip(self.clips, self.num_pairs))
        return f"{self.mode}, {self.flow}: {clips}"


@dataclass(frozen=True, kw_only=True)
class PlottedResult:
    """One result. All scores in percent; None where no class, or not this one, occurs in truth or labels.

    model: short name, the same for all results of one model. data: dataset and split. held: mIoU by distance of
    keeping the keyframe's labels. device: where frames_per_s was taken. step_ms: from frame to frame, where known.
    num_frames: that were scored, where known. consistency: None too where its figures do not say TC pair by pair.
    """

    model: str
    data: str
    keyframe_interval: int
    avg_miou: float | None
    per_distance: tuple[float | None, ...]
    per_class: dict[str, float | None]
    held: tuple[float | None, ...] | None = None
    frames_per_s: float | None = None
    device: str | None = None
    step_ms: float | None = None
    num_frames: int | None = None
    consistency: PlottedConsistency | None = None

    def __post_init__(self) -> None:
        for what, distances in (("per_distance", self.per_distance), ("hold", self.held)):
            if distances is not None and len(distances) != self.keyframe_interval:
                raise ConfigError(
                    f"{self.model}: {what} has {len(distances)} distances, "
                    f"a keyframe interval of {self.keyframe_interval} has as many"
                )
        if self.frames_per_s is not None and self.frames_per_s <= 0:
            raise ConfigError(f"{self.model}: frames_per_s is {self.frames_per_s}; it must be > 0")


def read_results(results: Sequence[Mapping[str, Any]]) -> tuple[PlottedResult, ...]:
    """Results in the order given. Raises ConfigError for none at all, missing keys, and what cannot be compared.

    Compared are results on one split of one dataset with the same classes, each model and interval once, and those of
    one interval on as many frames.
    """
    if not results:
        raise ConfigError("there is no result to plot; give at least one")
    for number, result in enumerate(results, start=1):
        missing = [key for key in _KEYS if key not in result]
        if missing:
            raise ConfigError(
                f"result {number} of {len(results)} lacks {', '.join(missing)}; is it of gsvnet evaluate?"
            )
    names = _short_names([_full_name(result) for result in results])
    try:
        plotted = tuple(_read_result(result, names[_full_name(result)]) for result in results)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"a result is not as gsvnet evaluate writes it: {error!r}") from error
    check_alike("dataset and split", [result.data for result in plotted])
    check_alike("classes", [", ".join(sorted(result.per_class)) for result in plotted])
    pair, times = Counter((result.model, result.keyframe_interval) for result in plotted).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"{times} results are of {pair[0]} at keyframe interval {pair[1]}; give each once")
    _check_frames(plotted)
    return plotted


def by_model(results: Sequence[PlottedResult]) -> dict[str, list[PlottedResult]]:
    """Results of each model by rising keyframe interval; models in the order of their first result."""
    grouped: dict[str, list[PlottedResult]] = {}
    for result in results:
        grouped.setdefault(result.model, []).append(result)
    return {model: sorted(group, key=lambda result: result.keyframe_interval) for model, group in grouped.items()}


def name_rows(results: Sequence[PlottedResult]) -> dict[str, PlottedRow]:
    """TC by name: of one result that of every kind of labels, of several that of each one's own; of the truth last.

    All results have consistency, on one basis.
    """
    found = [(result, result.consistency.rows) for result in results if result.consistency is not None]
    if len(found) > 1:
        named = {f"{result.model}, L={result.keyframe_interval}": rows["model"] for result, rows in found}
        return named | {kind: row for kind, row in found[0][1].items() if kind == "truth"}
    [(result, rows)] = found
    names = {"model": f"keyframe every {result.keyframe_interval} frames", "per_frame": "per frame"}
    if rows["model"] == rows.get("per_frame"):  # keyframes make no difference
        rows, names = {kind: row for kind, row in rows.items() if kind != "per_frame"}, {"model": "every frame"}
    return {names.get(kind, kind): row for kind, row in rows.items()}


def check_alike(what: str, values: Sequence[str]) -> None:
    """Raises ConfigError, quoting two that differ, unless all values are the same."""
    odd = next((value for value in values if value != values[0]), None)
    if odd is not None:
        raise ConfigError(f"results of different {what} do not belong in one plot: {values[0]!r} and {odd!r}")


def _read_result(result: Mapping[str, Any], model: str) -> PlottedResult:
    hold = result.get("hold")
    return PlottedResult(
        model=model,
        data=f"{result['dataset']} {result['split']}",
        keyframe_interval=result["keyframe_interval"],
        avg_miou=result["avg_miou"],
        per_distance=tuple(result["per_distance"]),
        per_class=dict(result["per_class"]),
        held=None if hold is None else tuple(hold["per_distance"]),
        frames_per_s=result.get("frames_per_s"),
        device=result.get("speed", result).get("device"),  # of a GPU its name, too
        step_ms=result.get("step_ms"),
        num_frames=result.get("num_frames"),
        consistency=_read_consistency(result.get("consistency", {})),
    )


def _read_consistency(figures: Mapping[str, Any]) -> PlottedConsistency | None:
    if "per_pair" not in figures.get("model", {}):
        return None
    rows = {kind: figures[kind] for kind in _KINDS if kind in figures}
    return PlottedConsistency(
        mode=figures["mode"],
        flow=figures["flow"],
        clips=tuple(figures["clips"]),
        rows={
            kind: PlottedRow(
                pooled=row["miou"],
                per_clip=tuple(row["per_clip"]),
                per_pair=tuple(tuple(clip) for clip in row["per_pair"]),
            )
            for kind, row in rows.items()
        },
    )


def _check_frames(results: Sequence[PlottedResult]) -> None:
    """Refuse results of one interval on different frames; older ones may not say on how many they are."""
    first: dict[int, PlottedResult] = {}
    for result in results:
        if result.num_frames is None:
            continue
        other = first.setdefault(result.keyframe_interval, result)
        if other.num_frames != result.num_frames:
            raise ConfigError(
                f"at keyframe interval {result.keyframe_interval}, {other.model} was scored on {other.num_frames} "
                f"frames and {result.model} on {result.num_frames}; with --both-sides both are on the same ones"
            )


def _full_name(result: Mapping[str, Any]) -> str:
    """The model as it was named, with the keyframe's size over the frame's, and with how it was run where chosen."""
    scale, ways = result.get("scale"), [result.get("references"), result.get("propagation")]
    ways += [f"ensemble {result['ensemble']}"] if "ensemble" in result else []
    size = "" if scale is None else f" x{scale:g}"
    return str(result["model"]) + size + "".join(f" ({way})" for way in ways if way not in (None, "full"))


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Each name without folders and .safetensors, or as it is where two would be the same."""
    short = {name: PurePath(name).name.replace(".safetensors", "") for name in names}
    times = Counter(short.values())
    return {name: text if times[text] == 1 else name for name, text in short.items()}
