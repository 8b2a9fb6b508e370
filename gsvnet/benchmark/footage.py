"""The clip that everything is measured on: a drawn drive with known labels, encoded as a dash cam would."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gsvnet.classes import CAMVID, IGNORE, ClassSet, find_counterparts
from gsvnet.errors import MissingExtra
from gsvnet.synthetic.scene import SceneConfig, StreetScene

BITS_PER_PIXEL = 0.18  # 47 kB a frame at 1024x2048; Udacity's drives have 0.18, Cityscapes by x264's defaults too


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What to draw and how to encode it. A frame takes a second to draw: `drawn` frames are played to and fro.

    height, width: pixels, even. frames: of the clip. gop: frames from one I-frame to the next.
    """

    height: int = 1024
    width: int = 2048
    frames: int = 48
    drawn: int = 24
    fps: int = 30
    gop: int = 30
    seed: int = 3

    @property
    def stem(self) -> str:
        """File name without suffix; another clip has another one."""
        size = f"{self.height}x{self.width}-{self.frames}of{self.drawn}"
        return f"street-{size}-{self.fps}hz-gop{self.gop}-{BITS_PER_PIXEL}bpp-seed{self.seed}-v1"

    def drawn_index(self, frame: int) -> int:
        """Which drawn frame is shown: 0, 1, ..., drawn - 1, drawn - 2, ..., 1, 0, 1, ..."""
        period = max(1, 2 * (self.drawn - 1))
        return min(frame % period, period - frame % period)


def cache_folder() -> Path:
    """The folder of clips and stand-in weights: this user's, in the temporary folder; made if absent."""
    folder = Path(tempfile.gettempdir()) / f"gsvnet-benchmark-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def prepare_clip(config: ClipConfig, folder: Path) -> Path:
    """The clip's file in `folder`, drawn unless it is there; its truth lies beside it. Complete or absent.

    H.264 as dash cams write it: no B-frames, a constant bit rate of BITS_PER_PIXEL.
    """
    path = folder / f"{config.stem}.mp4"
    if not path.is_file():
        images, labels = draw_frames(config, range(config.drawn))
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            truth, video = Path(unfinished) / "truth.npz", Path(unfinished) / path.name
            np.savez_compressed(truth, labels=labels, shown=[config.drawn_index(i) for i in range(config.frames)])
            _encode(video, (images[config.drawn_index(i)] for i in range(config.frames)), config)
            truth.replace(_truth_path(path))
            video.replace(path)
    return path


def draw_frames(config: ClipConfig, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Drawn frames: images (n, H, W, 3) uint8 RGB and true labels (n, H, W) uint8, ids of CAMVID."""
    scene = StreetScene(SceneConfig(height=config.height, width=config.width, fps=config.fps, seed=config.seed))
    images = np.empty((len(indices), config.height, config.width, 3), np.uint8)
    labels = np.empty(images.shape[:3], np.uint8)
    for i, index in enumerate(indices):
        images[i], labels[i] = scene.image(index), scene.labels(index)
    return images, labels


def read_truth(video: Path, classes: ClassSet, frames: Sequence[int]) -> np.ndarray | None:
    """True labels (len(frames), H, W) uint8, ids of `classes` (255: none of them); None for a video not drawn here."""
    path = _truth_path(video)
    if not path.is_file():
        return None
    with np.load(path) as file:
        labels = file["labels"][file["shown"][list(frames)]]
    return truth_table(classes)[labels]


def truth_table(classes: ClassSet) -> np.ndarray:
    """Lookup (256,) uint8 from ids of CAMVID, as the street is drawn, to those of `classes`; 255 where none is."""
    table = np.full(256, IGNORE, np.uint8)
    for target, source in find_counterparts(CAMVID, classes).items():
        if table[source] == IGNORE:
            table[source] = target
    return table


def describe_clip(video: Path) -> dict[str, Any]:
    """JSON-ready facts of a video: height, width, frames, fps, I-frames, bytes per frame, whether it was drawn here."""
    av = _av()
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        packets = [(p.size, p.is_keyframe) for p in container.demux(stream) if p.size]
        return {
            "height": stream.height,
            "width": stream.width,
            "frames": len(packets),
            "fps": float(stream.average_rate),
            "codec": stream.codec_context.name,
            "i_frames": sum(is_sync for _, is_sync in packets),
            "bytes_per_frame": round(sum(size for size, _ in packets) / len(packets)),
            "drawn": _truth_path(video).is_file(),
        }


def _truth_path(video: Path) -> Path:
    return video.with_suffix(".truth.npz")


def _encode(path: Path, images: Iterable[np.ndarray], config: ClipConfig) -> None:
    av = _av()
    bit_rate = int(BITS_PER_PIXEL * config.height * config.width * config.fps)
    limits = {"maxrate": str(bit_rate), "bufsize": str(bit_rate)}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        options = {"preset": "veryfast", "bf": "0", "sc_threshold": "0", **limits}
        stream = container.add_stream("libx264", rate=config.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
        stream.gop_size, stream.bit_rate = config.gop, bit_rate
        for packet in chain.from_iterable(map(stream.encode, chain(_as_frames(av, images), [None]))):
            container.mux(packet)


def _as_frames(av: ModuleType, images: Iterable[np.ndarray]) -> Iterator[Any]:
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = number
        yield frame


def _av() -> ModuleType:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingExtra("av", "label") from error
