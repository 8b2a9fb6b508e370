"""Outputs to export: drawn maps of any classes, and a clip that was really labeled."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gsvnet
from gsvnet.classes import CAMVID, ClassSet
from gsvnet.export.commands import export
from gsvnet.export.config import ExportConfig
from gsvnet.store.codec import encode_mask, pixel_counts
from gsvnet.store.job import open_job
from gsvnet.store.layout import shard_uri
from gsvnet.store.schema import FrameRow, ShardFooter
from gsvnet.store.write import ShardWriter
from tests.video.media import write_clip

CONSUMERS = "GSVNET_CONSUMERS_PYTHON"
VIDEO = "drive-0123456789ab"


def draw_awkward() -> np.ndarray:
    """Label maps (N, 41, 61) of CamVid: what run lengths, contours and boxes may stumble over."""
    maps = np.full((8, 41, 61), 3, np.uint8)
    maps[0, :20], maps[0, 5:30, 10:40] = 0, 8
    maps[1] = 255
    maps[1, 0, :] = maps[1, -1, :] = maps[1, :, 0] = maps[1, :, -1] = 10  # touches all borders, around a hole
    maps[2, 0, 0], maps[2, -1, -1], maps[2, 20, 30] = 9, 9, 2  # single pixels
    maps[3] = 255  # nothing at all
    maps[4] = np.random.default_rng(0).integers(0, 12, (41, 61))  # noise, a twelfth of it no class
    maps[4][maps[4] == 11] = 255
    maps[5, 5:35, 5:55], maps[5, 10:30, 10:50], maps[5, 15:25, 15:45] = 5, 3, 5  # rings
    maps[6, 8:20, 8:20], maps[6, 24:36, 8:20], maps[6, 8:36, 40:52] = 1, 1, 1  # areas apart
    return maps


@pytest.fixture(scope="session")
def awkward() -> np.ndarray:
    return draw_awkward()


@pytest.fixture
def write_labels(tmp_path) -> Callable[..., str]:
    """Write label maps as one shard of a video of an output; the output."""

    def write(
        maps: Sequence[np.ndarray],
        *,
        classes: ClassSet = CAMVID,
        video: str = VIDEO,
        uri: str = "s3://videos/drive.mp4",
        lost: Collection[int] = (),
        out: str | None = None,
    ) -> str:
        out = out or str(tmp_path / "out")
        (tmp_path / "spool").mkdir(exist_ok=True)
        job = open_job(out, {"keyframe_interval": 5}, classes=classes, model_hash="a" * 64)
        footer = ShardFooter(
            job=job.fingerprint,
            video=video,
            uri=uri,
            identity="size=1000 etag=abc",
            time_base="1/12800",
            shard=0,
            first_frame=0,
            model_hash="a" * 64,
            classes=classes,
            precision="fp32",
            device="cpu",
            threads=1,
        )
        with ShardWriter(shard_uri(out, video, "000000"), footer=footer, spool_dir=tmp_path / "spool") as writer:
            for index, labels in enumerate(maps):
                is_lost = index in lost
                writer.append(
                    FrameRow(
                        frame_index=index,
                        pts=index * 512,
                        time_s=index * 0.04,
                        is_keyframe=index % 5 == 0,
                        keyframe_distance=index % 5,
                        height=labels.shape[0],
                        width=labels.shape[1],
                        status="decode_error" if is_lost else "ok",
                        pixels=None if is_lost else pixel_counts(labels, len(classes)),
                        confidence=None if is_lost else 0.75,
                        confidence_p05=None if is_lost else 0.25,
                        mask=None if is_lost else encode_mask(labels),
                    )
                )
        return out

    return write


@pytest.fixture(scope="session")
def drive(tmp_path_factory) -> Path:
    """60 frames of 72x96 pixels, 15 a second, as the common `drive`, but drawn in no time."""
    path = tmp_path_factory.mktemp("drive") / "drive.mp4"
    return write_clip(path, time_base=Fraction(1, 15), options={"x264-params": "keyint=12:bframes=2"})


@pytest.fixture(scope="session")
def street(drive, tiny_model, tmp_path_factory) -> SimpleNamespace:
    """`drive` as labeled by a real job. out: the output; video: the file; labels: opened; id: the video's."""
    out = tmp_path_factory.mktemp("street") / "out"
    config = gsvnet.LabelConfig(
        videos=(str(drive),),
        out=str(out),
        model=str(tiny_model),
        shard_frames=30,
        batch_chunks=2,
        cpus_per_actor=1,
        no_ray=True,
    )
    assert gsvnet.label(config).exit_code == 0
    labels = gsvnet.open_labels(str(out))
    return SimpleNamespace(out=str(out), video=drive, labels=labels, id=labels.videos[0])


@pytest.fixture
def run_export(tmp_path, make_console):
    """run_export(format, out, **options) -> the folder written ("to" names it) and what was said."""

    def run(form: str, out: str, *, to: str | Path | None = None, **options):
        config = ExportConfig(format=form, out=out, to=str(to or tmp_path / form), **options)
        console = make_console()
        assert export(config, console) == 0
        return config.folder, console.file.getvalue()

    return run


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    return read_files


@pytest.fixture
def consume(tmp_path):
    """consume(script, *arguments): what a script of consumers/ prints as JSON, in the consumers' own environment."""
    python = os.environ.get(CONSUMERS)
    if not python:
        pytest.skip(
            f"no consumers; name the python of a venv with tests/export/consumers/requirements.txt in {CONSUMERS}"
        )
    scripts = Path(__file__).parent / "consumers"

    def run(script: str, *arguments) -> dict:
        command = [python, str(scripts / script), *map(str, arguments)]
        environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": ""}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
