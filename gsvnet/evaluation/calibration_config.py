"""What `gsvnet calibrate` can be told. The command line is generated from this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gsvnet.errors import ConfigError
from gsvnet.evaluation.config import Device, Precision


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """Measure on labelled data how often a network is right when it is how sure, and keep that in its checkpoint.

    Labels stay as they are; only the columns of confidence change. Use data that it was not trained on, and judge the
    result on other data yet: gsvnet evaluate camvid --root FOLDER --calibration --model OUT.
    """

    model: str = "default"
    """The checkpoint to calibrate: a name from `gsvnet models`, or a file."""

    out: Path
    """The .safetensors file to write: the same network with its calibration."""

    camvid: Path | None = None
    """Folder of CamVid, as in `gsvnet evaluate camvid`."""

    cityscapes: Path | None = None
    """Folder of Cityscapes, as in `gsvnet evaluate cityscapes`."""

    split: str | None = None
    """Default: test of CamVid, val of Cityscapes."""

    keyframe_interval: int = 12
    """Confidence is measured at distances 0 .. interval - 1 from the keyframe, where the data allows it."""

    drawn_clips: int = 12
    """Where the data's images do not follow each other in time: so many drawn streets show what changes with the
    distance from the keyframe, for networks of CamVid's classes. 0: nothing is assumed to change."""

    json: Path | None = None
    """Also write the numbers to this file."""

    plots: Path | None = None
    """Folder for a reliability plot as PNG and SVG."""

    device: Device = "auto"
    """auto: CUDA if there is one."""

    precision: Precision = "auto"
    """auto: as in labeling, bf16 on CUDA, fp32 on CPU."""

    batch_chunks: int = 4
    """Chunks that run through the networks as one batch."""

    def __post_init__(self) -> None:
        if (self.camvid is None) == (self.cityscapes is None):
            raise ConfigError("give one of --camvid and --cityscapes: the labelled data to measure on")
        for flag, value, least in (
            ("--keyframe-interval", self.keyframe_interval, 1),
            ("--drawn-clips", self.drawn_clips, 0),
            ("--batch-chunks", self.batch_chunks, 1),
        ):
            if value < least:
                raise ConfigError(f"{flag} {value}: at least {least}")
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise ConfigError(f"--json {self.json}: there is no folder {self.json.parent}")
        if self.out.suffix != ".safetensors" or self.out.is_dir():
            raise ConfigError(f"--out {self.out}: name a .safetensors file")
        if Path(self.model).resolve() == self.out.resolve():
            raise ConfigError(f"--out {self.out}: is the network itself, and would be lost; write another file")
        for flag, folder in (("--out", self.out.parent), ("--plots", self.plots)):
            if folder is not None and folder.exists() and not folder.is_dir():
                raise ConfigError(f"{flag}: {folder} is a file, where a folder is needed")
