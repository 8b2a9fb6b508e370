"""What the subcommands of `gsvnet evaluate` can be told. The command line is generated from these."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gsvnet.choices import Ensemble, References
from gsvnet.errors import ConfigError
from gsvnet.evaluation.drawn_config import ClipOptions, DrawnOptions

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Variant = Literal["full", "hold", "motion", "flow", "filter", "fusion", "alone"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The model, how it is run, and where the numbers go."""

    model: str = "default"
    """A name from `gsvnet models`, a checkpoint file, or package.module:factory."""

    keyframe_interval: int | None = None
    """Most frames per chunk: distances 0 .. interval - 1 from the keyframe; default: 5, or 1 for TDNet, which has none.
    It labels each frame once, and on a clip the interval says only which frames: from the one with this number on."""

    scale: float | None = None
    """Keyframe input size over the frame size that the model works at, such as 0.75; default: the model's own."""

    references: References | None = None
    """Default: the model's own. Of GSVNet and AR-Seg: the keyframes that a frame draws on; both (and AR-Seg's nearest)
    take one after it. Of TDNet: the frames that it draws on, before it or on both sides; none: each sub-network by
    itself."""

    ensemble: Ensemble | None = None
    """Of TDNet: frames that all sub-networks label, not only the one whose turn it is; default: the model's own."""

    propagation: Variant = "full"
    """full: as the model has it. For ablations, on the same keyframes: hold (nothing moves), motion (warped by the
    codec's); of GSVNet flow (warped by the model's flow, no filter), filter (no motion); of AR-Seg fusion (no motion),
    alone (the small frames' network, no fusion)."""

    device: Device = "auto"
    """auto: CUDA if there is one."""

    precision: Precision = "auto"
    """auto: as in labeling, bf16 on CUDA, fp32 on CPU."""

    batch_chunks: int = 4
    """Chunks that run through the networks as one batch."""

    json: Path | None = None
    """Also write the numbers to this file."""

    def __post_init__(self) -> None:
        for flag, value in (("--keyframe-interval", self.keyframe_interval), ("--batch-chunks", self.batch_chunks)):
            if value is not None and value < 1:
                raise ConfigError(f"{flag} {value}: at least 1")
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ConfigError(f"--json {self.json}: there is no folder {self.json.parent}")
        if self.json is not None and self.json.is_dir():
            raise ConfigError(f"--json {self.json}: is a folder; name a file")


@dataclass(frozen=True, kw_only=True)
class MoreFigures:
    """What is measured and drawn beside mIoU."""

    consistency: bool = False
    """Also temporal consistency (TC): of the truth where every frame has one, per frame, and at the interval."""

    consistency_mode: Literal["sound", "etc"] = "sound"
    """sound: where optical flow is valid. etc: the arithmetic behind ETC's published figures."""

    smooth: int = 0
    """With --consistency, also of the labels smoothed along flow over so many frames on either side, as `gsvnet label
    --smooth` does it; and, of smoothed labels and of those that they come from, the mIoU over all labelled frames."""

    calibration: bool = False
    """Also how far the model's confidence is from the share of pixels that are right (ECE), of frames, pixels and
    classes; with and without the model's calibration, if it has one (`gsvnet calibrate`)."""

    cost: bool = False
    """Also parameters, multiply-accumulates and frames/s, on frames of the data's size."""

    plots: Path | None = None
    """Folder for plots as PNG and SVG; with --consistency also of that, pair by pair."""

    def __post_init__(self) -> None:
        if self.plots is not None and self.plots.exists() and not self.plots.is_dir():
            raise ConfigError(f"--plots {self.plots}: is a file; name a folder")


@dataclass(frozen=True, kw_only=True)
class EvaluateCamvidConfig:
    """Score a model on CamVid: per frame on test, at every distance from the keyframe on the val clip."""

    root: Path
    """Folder with images/<split>, labels/<split>, index.csv, classes.json; frames/<sequence> if you have all images."""

    split: Literal["test", "val"] = "test"
    """test: images a second apart, at distance 0 only unless frames/ is there. val: a clip, at every distance."""

    both_sides: bool = False
    """Score only frames with a keyframe on both sides at every distance, as is done for models that read both: so they
    and others are scored on the same frames."""

    motion_video: str | None = None
    """The split as a video (path or URI), frame i of it is the i-th image: its codec's motion is read, by AR-Seg and
    --propagation motion. Default for AR-Seg: motion by an encoder run over each chunk."""

    run: RunOptions = field(default_factory=RunOptions)
    more: MoreFigures = field(default_factory=MoreFigures)

    def __post_init__(self) -> None:
        if self.run.propagation == "motion" and self.motion_video is None:
            raise ConfigError("--propagation motion needs --motion-video VIDEO")
        if self.more.cost and self.run.propagation == "motion":
            raise ConfigError("--cost: not measured with --propagation motion, whose vectors come with decoding")


@dataclass(frozen=True, kw_only=True)
class EvaluateCityscapesConfig:
    """Score a model on Cityscapes: the labelled frame of every snippet, at every distance from the keyframe."""

    root: Path
    """Folder with leftImg8bit_sequence and gtFine; files are found by their names anywhere below it."""

    split: Literal["val", "train"] = "val"
    """Only files below a folder of this name are used."""

    run: RunOptions = field(default_factory=RunOptions)
    more: MoreFigures = field(default_factory=MoreFigures)

    def __post_init__(self) -> None:
        if self.run.propagation == "motion":
            raise ConfigError("--propagation motion needs the video's codec; Cityscapes' images have none")


@dataclass(frozen=True, kw_only=True)
class EvaluateCostConfig:
    """Measure what a model costs: parameters, multiply-accumulates, frames/s.

    --model may also name a published family, such as gsvnet-swiftnet: random weights cost the same.
    """

    size: str = "1024x2048"
    """Size of the video, HEIGHTxWIDTH in pixels."""

    seconds: float = 10.0
    """How long to run for the frames/s; 0: not at all."""

    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ConfigError(f"--seconds {self.seconds}: at least 0")
        _ = self.height_width

    @property
    def height_width(self) -> tuple[int, int]:
        """(height, width) of the video in pixels."""
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", self.size)
        if match is None:
            raise ConfigError(f"--size {self.size}: must be HEIGHTxWIDTH, such as 1024x2048")
        return int(match[1]), int(match[2])


@dataclass(frozen=True, kw_only=True)
class EvaluatePlotConfig:
    """Draw results side by side: accuracy against throughput and distance, consistency over time, and by class."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="JSON ...", help_behavior_hint="")]
    """Files that `gsvnet evaluate --json` wrote, on one split of one dataset."""

    out: Path
    """Folder to write PNG and SVG to."""


@dataclass(frozen=True, kw_only=True)
class EvaluateDrawnConfig:
    """Score a model on drawn streets, whose labels are exact, at every distance from the keyframe."""

    drawn: DrawnOptions = field(default_factory=DrawnOptions)
    run: RunOptions = field(default_factory=RunOptions)
    more: MoreFigures = field(default_factory=MoreFigures)

    def __post_init__(self) -> None:
        if self.run.propagation == "motion":
            raise ConfigError("--propagation motion needs the video's codec; drawn images have none")


@dataclass(frozen=True, kw_only=True)
class EvaluateDriftConfig:
    """Show how well drift, which needs no truth, tells which chunks truth says lost most."""

    every: int = 1
    """Chunks begin at every so many-th frame; they overlap where that is less than the keyframe interval."""

    plots: Path | None = None
    """Folder for a plot as PNG and SVG."""

    clips: ClipOptions = field(default_factory=ClipOptions)
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"--every {self.every}: at least 1")


@dataclass(frozen=True, kw_only=True)
class EvaluateAsLabeledConfig:
    """Score labels as a job writes them, each frame once, at fixed keyframe intervals and at those a model chooses."""

    intervals: tuple[int, ...] = (1, 2, 3, 4, 5, 8, 12)
    """Fixed keyframe intervals; 1 is always among them."""

    min_agreement: tuple[float, ...] = ()
    """Least agreements by which the model chooses its intervals, as `gsvnet label --min-agreement` does it."""

    plots: Path | None = None
    """Folder for a plot as PNG and SVG."""

    clips: ClipOptions = field(default_factory=ClipOptions)
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        if self.run.keyframe_interval is not None:
            raise ConfigError("--keyframe-interval: name the keyframe intervals with --intervals")


EvaluateConfig = (
    EvaluateCamvidConfig
    | EvaluateCityscapesConfig
    | EvaluateDrawnConfig
    | EvaluateDriftConfig
    | EvaluateAsLabeledConfig
    | EvaluateCostConfig
    | EvaluatePlotConfig
)


@dataclass(frozen=True, kw_only=True)
class DiffConfig:
    """How far two sets of labels of the same videos agree: two models, two intervals, a copy and its source."""

    out1: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT1")]
    """Output folder or URI; its labels stand in for the truth."""

    out2: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT2")]
    """Output folder or URI to compare with it."""

    every: int = 1
    """Compare frames whose index is a multiple of this."""

    video: tuple[str, ...] = ()
    """Only these videos: id, stem, URI or file name; default: all that both have."""

    worst: int = 5
    """Frames to list where they agree least."""

    max_differing: float | None = None
    """Exit with code 1 if a larger share of the pixels differs, 0 to 1, or if one output has videos or frames with
    labels that the other lacks. 0: all labels are equal. For the same labels on other hardware, such as 0.0001."""

    frames: Path | None = None
    """Parquet file to write, one row per compared frame: video, frame_index, agreement."""

    json: bool = False
    """Print JSON."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the outputs' fsspec filesystem; credentials are better kept in the environment."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.worst < 0:
            raise ConfigError(f"--every {self.every}: at least 1; --worst {self.worst}: at least 0")
        if self.max_differing is not None and not 0 <= self.max_differing <= 1:
            raise ConfigError(f"--max-differing {self.max_differing:g}: a share of the pixels, from 0 to 1")
