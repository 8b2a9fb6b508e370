"""Accuracy of motion over 1 to 11 frames where it is exactly known: `python -m tests.video.measure_motion`.

Median and 90 %: of the difference to the true motion, in pixels of the full frame, over cells of 8x8 pixels that are
said to be known and whose target is in sight. known: share of the cells whose target is in sight. far: share of known
cells that are off by over 4 pixels. unseen: share of known cells whose target is out of sight (covered, or outside).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from gsvnet.video.motion import read_motion, trace_to_keyframe, trace_to_next_keyframe
from gsvnet.video.proxy import trace_by_proxy
from tests.video.moving import Moving, draw, encode, halve

LENGTH = 12
Traced = tuple[np.ndarray, np.ndarray]

CODECS = {
    "x264 ref=1 bf=0": ("libx264", {"bf": "0", "refs": "1", "preset": "medium"}, 1),
    "x264 default": ("libx264", {"preset": "medium"}, 8),
    "mpeg4": ("mpeg4", {"qscale": "4"}, 1),
}


@dataclass(frozen=True)
class Score:
    """Of one source at one distance. median, p90: pixels; the others are shares."""

    median: float
    p90: float
    known: float
    far: float
    unseen: float


def grid_of(moving: Moving) -> tuple[int, int]:
    """Rows and columns of cells of 8x8 pixels."""
    height, width = moving.images[0].shape[:2]
    return -(-height // 8), -(-width // 8)


def score(moving: Moving, t: int, s: int, motion: np.ndarray, known: np.ndarray) -> Score:
    """How well motion (2, gh, gw) in cells from frame t to frame s is known."""
    height, width = moving.images[0].shape[:2]
    unit = np.array((width / known.shape[1], height / known.shape[0]))[:, None, None]
    centres = (np.indices(known.shape)[::-1] + 0.5) * unit - 0.5
    true, seen = moving.truth(t, s, centres)
    error = np.hypot(*(motion * unit - true))[known & seen]
    median, p90 = np.percentile(error, (50, 90)) if len(error) else (np.nan, np.nan)
    far = float((error > 4).mean()) if len(error) else np.nan
    unseen = float((known & ~seen).sum() / max(1, known.sum()))
    return Score(float(median), float(p90), float(known[seen].mean()), far, unseen)


def trace_codec(moving: Moving, name: str, folder: Path, *, to_next: bool = False) -> Traced:
    codec, options, max_distance = CODECS[name]
    path = folder / f"{moving.name}-{len(moving.images[0])}-{name.replace(' ', '-')}.mkv"
    if not path.exists():
        encode(path, moving.images, codec, options)
    fields = list(read_motion(str(path), max_distance=max_distance))
    if to_next:
        return trace_to_next_keyframe(fields[:LENGTH], fields[LENGTH], *grid_of(moving))
    return trace_to_keyframe(fields[:LENGTH], *grid_of(moving))


def trace_proxy(moving: Moving, *, half: bool, to_next: bool = False) -> Traced:
    images = halve(moving.images) if half else list(moving.images)
    if not to_next:
        return trace_by_proxy(images[:LENGTH], grid_of(moving))
    motion, known = trace_by_proxy(images[LENGTH::-1], grid_of(moving))
    return motion[:0:-1], known[:0:-1]


def sources(moving: Moving, folder: Path, *, to_next: bool) -> dict[str, Callable[[], Traced]]:
    shape = (LENGTH, *grid_of(moving))
    found: dict[str, Callable[[], Traced]] = {
        name: lambda name=name: trace_codec(moving, name, folder, to_next=to_next) for name in CODECS
    }
    found["proxy, half size"] = lambda: trace_proxy(moving, half=True, to_next=to_next)
    found["proxy, full size"] = lambda: trace_proxy(moving, half=False, to_next=to_next)
    found["no motion"] = lambda: (np.zeros((LENGTH, 2, *shape[1:]), np.float32), np.ones(shape, bool))
    return found


def measure(moving: Moving, folder: Path, *, to_next: bool) -> None:
    """Print a row per source."""
    for name, trace in sources(moving, folder, to_next=to_next).items():
        motion, known = trace()
        cells = []
        for distance in (1, 6, 11):
            t, s = (LENGTH - distance, LENGTH) if to_next else (distance, 0)
            at = score(moving, t, s, motion[t], known[t])
            cells.append(f"{at.median:5.2f} {at.p90:6.2f} {at.known:5.0%} {at.far:4.0%} {at.unseen:4.0%}")
        print(f"{name:18}| " + " | ".join(cells))


def measure_time(moving: Moving, folder: Path) -> None:
    """Print what the proxy and tracing cost beside one decode of the same frames and beside convolutions."""
    import torch

    images = halve(moving.images[:LENGTH])
    path = encode(folder / "time.mp4", images, options={"bf": "0", "refs": "1"})
    image, kernel = torch.zeros(1, 64, 90, 120), torch.zeros(64, 64, 3, 3)

    def decode() -> None:
        with av.open(path) as container:
            container.streams.video[0].thread_type = "NONE"
            for frame in container.decode(video=0):
                frame.to_ndarray(format="rgb24")

    def convolve() -> None:  # 0.4 GMAC each
        for _ in range(7):
            torch.nn.functional.conv2d(image, kernel, padding=1)

    fields = list(read_motion(path, max_distance=1))
    work: dict[str, Callable[[], object]] = {
        "one decode": decode,
        "proxy": lambda: trace_by_proxy(images, grid_of(moving)),
        "trace to keyframe": lambda: trace_to_keyframe(fields, *grid_of(moving)),
        "trace to next keyframe": lambda: trace_to_next_keyframe(fields[:-1], fields[-1], *grid_of(moving)),
        "2.8 GMAC of convolution, one thread": convolve,
    }
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(9):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    size = f"{images[0].shape[0]}x{images[0].shape[1]}"
    for name, s in best.items():
        print(f"{size}, {LENGTH} frames, {name}: {1000 * s:.1f} ms, {s / best['one decode']:.2f} decodes")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["360x480", "540x960"], help="height x width")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in arguments.sizes:
            height, width = map(int, size.split("x"))
            for kind in ("pan", "zoom", "street"):
                moving = draw(kind, height, width, LENGTH + 1)
                for to_next in (False, True) if kind != "street" else (False,):
                    print(f"\n{kind} {size}, to {'next' if to_next else 'its'} keyframe; at 1 | 6 | 11 frames:")
                    print("median, 90 % px, known, far, unseen")
                    measure(moving, folder, to_next=to_next)
            print()
            measure_time(draw("pan", height, width, LENGTH + 1), folder)


if __name__ == "__main__":
    main()
