"""Memory is bounded by the batch: neither a video's length nor the number of videos adds to it.

The figures that a test prints come with `pytest -m slow -s tests/labeling/test_memory.py`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import psutil
import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.labeling import workplace
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.job import label
from gsvnet.labeling.ledger import shard_tasks
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.labeling.tasks import ShardResult
from gsvnet.labeling.worker import LabelWorkerSpec
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch
from gsvnet.synthetic import SceneConfig, write_video

HOURS, FRAMES_PER_S, SIZE = 10, 1, 32
WARM_UP_VIDEOS = 200
NUM_VIDEOS = int(os.environ.get("NUM_VIDEOS", "1000"))  # 10,000 take some minutes


class Brightness(torch.nn.Module):
    """Two classes, dark and light, of a 16x16 keyframe; the other frames get their chunk's."""

    classes = CAMVID

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(16, 16), frame_size=(8, 8))

    def segment(self, chunks):
        logits = torch.zeros(len(chunks.valid), len(self.classes), 16, 16)
        logits[:, 0] = chunks.keyframes.float().mean(1) - 128
        for position in range(chunks.valid.shape[1]):
            chunk = chunks.valid[:, position].nonzero()[:, 0]
            if len(chunk):
                yield LogitsBatch(chunk=chunk, position=torch.full_like(chunk, position), logits=logits[chunk])


def loop_video(source: Path, target: Path, *, num_frames: int) -> Path:
    """The packets of `source` (closed GOPs, no B-frames) over and over: `num_frames` frames without encoding any."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        packets = [bytes(packet) for packet in reader.demux(video=0) if packet.size]
        keys = [packet.is_keyframe for packet in av.open(str(source)).demux(video=0) if packet.size]
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for n in range(num_frames):
            packet = av.Packet(packets[n % len(packets)])
            packet.stream, packet.time_base = stream, Fraction(1, FRAMES_PER_S)
            packet.pts = packet.dts = n
            packet.duration, packet.is_keyframe = 1, keys[n % len(packets)]
            writer.mux(packet)
    return target


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """A list of one number that holds the most MB this process had resident so far, looked up every 20 ms."""
    process, peak, done = psutil.Process(), [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss / 1e6)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


@pytest.fixture
def clip(tmp_path):
    """Ten frames, the first an I-frame, no B-frames."""
    config = SceneConfig(height=SIZE, width=SIZE, seed=3)
    return write_video(tmp_path / "clip.mp4", config=config, num_frames=10, gop=10, options={"bf": "0"})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_hours_of_video_take_no_more_memory_than_one(clip, tmp_path):
    num_frames = HOURS * 3600 * FRAMES_PER_S
    video = loop_video(clip, tmp_path / "long.mp4", num_frames=num_frames)
    rule = PlanRule(interval=5, shard_seconds=1800.0, shard_frames=20_000)
    tasks = shard_tasks(str(video), plan_video(str(video), rule=rule))
    spec = LabelWorkerSpec(
        out=str(tmp_path / "out"),
        spool_dir=str(tmp_path / "spool"),
        keyframe_interval=5,
        batch_chunks=8,
        precision="fp32",
        fingerprint="f" * 64,
    )
    worker = spec.build(Brightness(), device="cpu", num_threads=1)
    began, frames, after = time.monotonic(), 0, []
    with peak_memory() as peak:
        for task, following in zip(tasks, [*tasks[1:], tasks[-1]]):
            worker.prepare(following)
            frames += worker(task).num_frames
            after.append(peak[0])
    seconds = time.monotonic() - began
    print(f"\n{frames} frames in {seconds:.0f} s; peak MB after each of {len(tasks)} shards:", *map(round, after))
    assert frames == num_frames
    assert len(tasks) >= 2 * HOURS
    assert after[-1] - after[1] < 12  # the first hour warms up; every decoded frame kept would be 110 MB


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_videos_take_little_memory_of_the_driver(clip, tiny_model, tmp_path, monkeypatch):
    """Plans, tasks, results and listings of a whole job; the labeling itself is left out. A small job warms up."""
    monkeypatch.setattr(workplace, "run_local", pretend_to_label)

    def label_copies(number: int) -> None:
        folder = tmp_path / f"videos{number}"
        folder.mkdir()
        for n in range(number):
            os.link(clip, folder / f"{n:06}.mp4")
        out = str(tmp_path / f"out{number}")
        report = label(LabelConfig(videos=(str(folder),), out=out, model=str(tiny_model), no_ray=True))
        assert (report.videos, report.shards_labeled) == (number, number)

    with peak_memory() as peak:
        label_copies(WARM_UP_VIDEOS)
        before, began, cores = peak[0], time.monotonic(), time.process_time()
        label_copies(NUM_VIDEOS)
    grown, thousands = peak[0] - before, NUM_VIDEOS / 1000
    seconds, cores = (time.monotonic() - began) / thousands, (time.process_time() - cores) / thousands
    print(f"\n{NUM_VIDEOS} videos: {grown:.0f} MB more than {WARM_UP_VIDEOS};", end=" ")
    print(f"1,000 take {seconds:.0f} s, {cores:.1f} s CPU")
    assert grown < 10 + 12 * thousands


def pretend_to_label(tasks, *, on_result, **_):
    for task in tasks:
        on_result(
            ShardResult(
                video_id=task.video.id,
                shard_index=task.shard.index,
                num_frames=task.shard.num_frames,
                num_lost=0,
                num_keyframes=1,
                num_bytes=1,
                media_s=1.0,
                seconds=dict.fromkeys(("decode", "segment", "upsample", "encode", "write", "total"), 1.0),
                published=True,
            )
        )
