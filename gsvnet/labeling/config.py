"""Everything a labeling job can be told. The command line is generated from this dataclass."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from gsvnet.choices import Ensemble, MotionWish, Propagation, References
from gsvnet.chunks import STRETCH_FRAMES
from gsvnet.errors import ConfigError
from gsvnet.labeling.limits import LimitsConfig

USUAL_INTERVAL = 5


def _shown_as(metavar: str, *, hint: str) -> Any:
    """How the help shows an argument: what stands for its value, and what is said in place of the default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Label every frame of VIDEO... and write Parquet to --out."""

    videos: Annotated[tuple[str, ...], tyro.conf.Positional, _shown_as("VIDEO ...", hint="")] = ()
    """Videos: paths, globs, folders, any fsspec URI, or @list.txt with one of these per line."""

    out: Annotated[str, _shown_as("URI", hint="(required)")] = ""
    """Output folder or URI. One output belongs to one configuration; the same command resumes it."""

    model: str = "default"
    """A name from `gsvnet models`, a checkpoint file, or package.module:factory."""

    keyframe_model: str | None = None
    """Another keyframe network for a propagating model: a name, a file, or package.module:factory."""

    propagation: Propagation | None = None
    """forward: frames are labeled from the keyframe before them. two-sided: from the one behind them too, which keeps
    long intervals good. The same as --references before and both, for networks that propagate. Default: the network's
    own, which is forward for GSVNet."""

    references: References | None = None
    """What a frame draws on, for networks with that choice. GSVNet and AR-Seg: the keyframe before it, or both; AR-Seg
    also the nearer one. TDNet: the frames before it, the nearest ones, those on both sides, or none. Default: the
    network's own. Part of the fingerprint."""

    ensemble: Ensemble | None = None
    """For TDNet: which frames all of its sub-networks label together: none, those that begin a chunk, or all; default:
    the network's own. Part of the fingerprint."""

    motion: MotionWish = "auto"
    """Where motion comes from, for networks that read it (AR-Seg). codec: the video's own; proxy: a small encode made
    for it; auto: codec where that can be trusted, chosen per video. Part of the fingerprint for such networks."""

    keyframe_interval: int = USUAL_INTERVAL
    """Most frames per chunk: one keyframe, the rest propagated. 1 segments every frame by itself."""

    min_agreement: float | None = None
    """For GSVNet, in place of an interval: where chunks meet, at least this share of the labels should agree, such as
    0.95. The interval is chosen for every 24 frames, 1 to 12, and a cut starts a chunk. Part of the fingerprint."""

    no_drift: bool = False
    """Do not measure how far labels drift: how many of those that a chunk comes to at the next keyframe are that
    keyframe's own. Measured for GSVNet; it takes one more step of propagation per chunk. Part of the fingerprint."""

    uncertain: bool = False
    """With --propagation two-sided, also store where labels from before and from behind differ (mask_uncertain). Part
    of the fingerprint."""

    smooth: int = 0
    """Smooth labels along flow over so many frames on either side, at most 8, which takes no run of the networks: they
    flicker less. 0 leaves them as the network gives them. Needs gsvnet[smooth]. Part of the fingerprint."""

    shard_seconds: float = 60.0
    """Longest shard, in seconds of video: the unit of assignment, retry and resume, one Parquet object each."""

    shard_frames: int = 20_000
    """Longest shard, in frames."""

    num_actors: int | None = None
    """Ray actors; default: one per GPU, else one per --cpus-per-actor cores."""

    gpus_per_actor: float | None = None
    """GPUs an actor reserves, fractions allowed; default: 1 where the job runs on CUDA, else 0."""

    cpus_per_actor: int = 2
    """Threads of an actor for torch, decoding and encoding; on a CPU each labels a batch of its own. Part of the
    fingerprint."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where the cluster has GPUs. Given cuda, a worker without CUDA fails; it never falls back."""

    decoder: Literal["auto", "cpu", "nvdec"] = "cpu"
    """auto: a GPU's video engine for the videos that it can decode, else the CPU; nvdec: never the CPU. Part of the
    fingerprint: colours may differ in a level."""

    batch_chunks: int | Literal["auto"] = "auto"
    """Chunks that run through the networks as one batch; part of the fingerprint. auto: 1 on a CPU (more for
    networks that read frames beside the chunk: 4 to 8 for its next keyframe; TDNet 8 frames for each one that it looks
    at before and after), measured once per output on CUDA."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 on CPU."""

    compile: bool = False
    """Compile the networks first (torch.compile): minutes at the start of every worker, faster batches after."""

    mask_size: str = "full"
    """Size of the stored masks: full, or HEIGHTxWIDTH in pixels."""

    spool_dir: str | None = None
    """Local folder where shards are built before they appear; default: one of yours in the temporary folder."""

    demo: bool = False
    """Label a drawn street whose true labels are known, and print the mIoU against them."""

    no_ray: bool = False
    """Run in this process, without Ray: for debugging and small jobs."""

    retry_failed: bool = False
    """Try again what _failed/ lists; otherwise it stays given up."""

    array_index: int | None = None
    """Which of --array-count jobs on one output this is, from 0: each takes its own videos, chosen by their ids."""

    array_count: int | None = None
    """How many jobs share the videos."""

    gpu_hour_price: float | None = None
    """Price of one GPU hour, in any currency, for the cost in plan and report."""

    limits: LimitsConfig = field(default_factory=LimitsConfig)

    unsafe_commit: bool = False
    """Allow stores without a create-only operation; two runs at once may then overwrite each other."""

    storage_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the output's fsspec filesystem; credentials are better kept in the environment."""

    video_options: dict[str, str] = field(default_factory=dict, repr=False)
    """Options for the fsspec filesystem that the videos are read from."""

    def __post_init__(self) -> None:
        if not self.videos and not self.demo:
            raise ConfigError("no input; name at least one video, glob, folder or @list.txt, or use --demo")
        if self.videos and self.demo:
            raise ConfigError("--demo labels its own drawn video; leave the videos out")
        for flag, value, least in (
            ("--keyframe-interval", self.keyframe_interval, 1),
            ("--smooth", self.smooth, 0),
            ("--shard-frames", self.shard_frames, 1),
            ("--cpus-per-actor", self.cpus_per_actor, 1),
            ("--batch-chunks", 1 if self.batch_chunks == "auto" else self.batch_chunks, 1),
            ("--num-actors", 1 if self.num_actors is None else self.num_actors, 1),
        ):
            if value < least:
                raise ConfigError(f"{flag} {value}: at least {least}")
        if not 0 < self.shard_seconds < math.inf:
            raise ConfigError(f"--shard-seconds {self.shard_seconds}: must be positive and finite")
        if self.array_count is None and self.array_index is not None:
            raise ConfigError("--array-index and --array-count go together")
        if self.array_count is not None and self.array_count < 1:
            raise ConfigError(f"--array-count {self.array_count}: at least 1")
        if self.array_count is not None and not 0 <= (self.array_index or 0) < self.array_count:
            raise ConfigError(f"--array-index {self.array_index}: must be within 0..{self.array_count - 1}")
        if self.gpu_hour_price is not None and not 0 <= self.gpu_hour_price < math.inf:
            raise ConfigError(f"--gpu-hour-price {self.gpu_hour_price}: must be finite and at least 0")
        if self.decoder == "nvdec" and self.device == "cpu":
            raise ConfigError("--decoder nvdec needs a GPU; leave out --device cpu, or use --decoder auto")
        if self.gpus_per_actor is not None and not 0 <= self.gpus_per_actor < math.inf:
            raise ConfigError(f"--gpus-per-actor {self.gpus_per_actor}: must be finite and at least 0")
        self._check_propagation()
        _ = self.mask_height_width

    def _check_propagation(self) -> None:
        sides = {"forward": "before", "two-sided": "both"}
        if self.propagation is not None and self.references not in (None, sides[self.propagation]):
            raise ConfigError(f"--propagation {self.propagation} and --references {self.references} differ; give one")
        if self.uncertain and self.drawn_on != "both":
            raise ConfigError("--uncertain compares labels from both sides; it needs --propagation two-sided")
        if self.min_agreement is None:
            return
        if not 0 < self.min_agreement <= 1:
            raise ConfigError(f"--min-agreement {self.min_agreement:g}: above 0 and at most 1 is allowed")
        if self.keyframe_interval not in (USUAL_INTERVAL, STRETCH_FRAMES):
            raise ConfigError("--min-agreement chooses the keyframe interval; leave out --keyframe-interval")
        if self.compile:
            raise ConfigError(
                "--compile compiles for shapes that stay; with --min-agreement they change from stretch to stretch, "
                "and each would be compiled anew; leave one out"
            )
        object.__setattr__(self, "keyframe_interval", STRETCH_FRAMES)  # a network's own keyframes lie within chunks

    @property
    def drift(self) -> bool:
        """Whether it is measured how far labels drift, where that can be."""
        return not self.no_drift

    @property
    def drawn_on(self) -> References | None:
        """What a frame draws on, by either flag; None: as the network has it."""
        if self.propagation is None:
            return self.references
        return "both" if self.propagation == "two-sided" else "before"

    def check_for_labeling(self) -> None:
        """Raise ConfigError where something is missing that a plan can do without."""
        if not self.out:
            raise ConfigError("no output; give --out FOLDER or --out URI")
        if self.array_count is not None and self.array_index is None:
            raise ConfigError("--array-index and --array-count go together")

    @property
    def mask_height_width(self) -> tuple[int, int] | None:
        """(height, width) of stored masks; None: the video's own."""
        if self.mask_size == "full":
            return None
        size = parse_size(self.mask_size)
        if size is None:
            raise ConfigError(f"--mask-size {self.mask_size}: must be full or HEIGHTxWIDTH, such as 360x480")
        return size


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """What `gsvnet label` would do with the same arguments, before it is done. --out may be left out."""

    job: LabelConfig

    no_calibrate: bool = False
    """Do not label a few seconds of the most common sizes for timing: no GPU hours and no price."""

    json: bool = False
    """Print JSON instead of text."""

    def __post_init__(self) -> None:
        if self.job.demo:
            raise ConfigError("--demo draws a video of 150 frames; there is nothing to plan")


def parse_size(text: str) -> tuple[int, int] | None:
    """(height, width) in pixels of "HEIGHTxWIDTH", both at least 1; None for any other text."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    return size if min(size) >= 1 else None
