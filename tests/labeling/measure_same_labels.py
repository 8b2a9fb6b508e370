"""How far labels differ where they may: `python -m tests.labeling.measure_same_labels [VIDEO ...] --out FOLDER`.

Each row labels the same videos twice with the default weights, and is a line of a Markdown table. Without videos a
street is drawn. Rows that need a GPU are left out where there is none, and it is said so.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import av
import torch
from rich.console import Console

import gsvnet
from gsvnet.evaluation.config import DiffConfig
from gsvnet.evaluation.label_diff import diff
from gsvnet.labeling.config import LabelConfig
from gsvnet.synthetic import SceneConfig, write_video
from gsvnet.video.nvdec import render_on_device

PLAIN = {"device": "cpu", "precision": "fp32", "cpus_per_actor": 1, "batch_chunks": 1, "no_ray": True}
TWO_SIDED = {"propagation": "two-sided"}
CUDA = {"device": "cuda", "batch_chunks": 8}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Labels with `changes` to a plain job against those with `against`; in_torch: pictures are made by planes.py."""

    name: str
    changes: dict
    against: dict = field(default_factory=dict)
    in_torch: bool = False


ROWS = (
    Row(name="2 threads per actor, against 1", changes={"cpus_per_actor": 2}),
    Row(name="2 chunks per batch, against 1", changes={"batch_chunks": 2}),
    Row(name="8 chunks per batch, against 1", changes={"batch_chunks": 8}),
    Row(name="two-sided: 8 chunks per batch, against 1", changes={**TWO_SIDED, "batch_chunks": 8}, against=TWO_SIDED),
    Row(name="pictures made in torch, as after NVDEC, against swscale", changes={}, in_torch=True),
    Row(name="bf16, against fp32", changes={"precision": "bf16"}),
    Row(name="`--compile`, against none", changes={"compile": True}),
)
CUDA_ROWS = (
    Row(name="CUDA, against CPU, both fp32", changes=CUDA),
    Row(name="CUDA bf16, against CPU fp32", changes={**CUDA, "precision": "bf16"}),
    Row(name="CUDA: NVDEC, against decoding on the CPU", changes={**CUDA, "decoder": "nvdec"}, against=CUDA),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--out", type=Path, required=True, help="folder that is not there yet")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    videos = arguments.videos or [str(draw_street(arguments.out / "street.mp4"))]
    print("| labels | pixels that differ | share | frames with any | worst frame |\n|---|---|---|---|---|", flush=True)
    for row in (*ROWS, *(CUDA_ROWS if torch.cuda.is_available() else ())):
        if arguments.only in row.name:
            print(measure(row, videos, arguments.out), flush=True)
    if not torch.cuda.is_available():
        print("not run, no CUDA here:", "; ".join(row.name for row in CUDA_ROWS))


def draw_street(path: Path, *, num_frames: int = 60, size: tuple[int, int] = (360, 480)) -> Path:
    return write_video(path, config=SceneConfig(height=size[0], width=size[1], seed=5), num_frames=num_frames)


def measure(row: Row, videos: list[str], folder: Path) -> str:
    """The line of the row."""
    first = label(videos, folder, **row.against)
    with pictures_in_torch() if row.in_torch else nullcontext():
        second = label(videos, folder, name="-in-torch" if row.in_torch else "", **row.changes)
    found = compare(first, second)
    worst = max((1 - frame["agreement"] for frame in found["worst_frames"]), default=0.0)
    differing, pixels = found["pixels_differing"], found["pixels"]
    frames = f"{found['frames'] - found['frames_equal']} of {found['frames']}"
    shares = " | ".join((f"{100 * differing / pixels:.2g} %", frames, f"{100 * worst:.2g} %"))
    return f"| {row.name} | {differing:,} of {pixels:,} | {shares} |"


def label(videos: list[str], folder: Path, *, name: str = "", **changes: object) -> str:
    """An output in `folder`; the same settings are labeled once."""
    settings = PLAIN | changes
    words = "-".join(f"{key}={settings[key]}" for key in sorted(settings))
    out = folder / (words.replace("/", "_") + name)
    report = gsvnet.label(LabelConfig(videos=tuple(videos), out=str(out), **settings))  # type: ignore[arg-type]
    assert report.exit_code == 0, report.failures
    return str(out)


def compare(first: str, second: str, *, max_differing: float | None = None) -> dict:
    """What `gsvnet diff FIRST SECOND --json` prints, and its exit code."""
    console = Console(file=io.StringIO(), soft_wrap=True)
    code = diff(DiffConfig(out1=first, out2=second, json=True, max_differing=max_differing), console)
    return {**json.loads(console.file.getvalue()), "exit_code": code}  # type: ignore[attr-defined]


@contextmanager
def pictures_in_torch() -> Iterator[None]:
    """Frames that were decoded on the CPU become pictures by the arithmetic that follows NVDEC."""

    def render(frame: av.VideoFrame, views, rotation: int = 0):
        planes = frame.reformat(format="nv12")
        planes.colorspace, planes.color_range = frame.colorspace, frame.color_range
        return render_on_device(planes, views, rotation)

    with mock.patch("gsvnet.video.decode.render_views", render):
        yield


if __name__ == "__main__":
    main()
