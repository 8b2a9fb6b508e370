from __future__ import annotations

import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError, SourceChanged, StoreError, StoreRefused, WorkerError
from gsvnet.labeling.ledger import shard_tasks
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.labeling.tasks import ShardTask
from gsvnet.labeling.worker import LabelWorkerSpec
from gsvnet.models.checkpoints import load_model
from gsvnet.models.content_hash import content_hash
from gsvnet.models.segmenter import Normalise, PerFrame
from gsvnet.store.schema import parse_footer
from tests.outputs import assert_equal_rows


@pytest.fixture
def spec(tmp_path):
    return LabelWorkerSpec(
        out=str(tmp_path / "out"),
        spool_dir=str(tmp_path / "spool"),
        keyframe_interval=5,
        batch_chunks=2,
        precision="auto",
        fingerprint="f" * 64,
    )


@pytest.fixture
def model(tiny_model):
    return load_model(str(tiny_model))


@pytest.fixture
def tasks(drive):
    rule = PlanRule(interval=5, shard_seconds=60.0, shard_frames=15)
    return shard_tasks(str(drive), plan_video(str(drive), rule=rule))


def test_a_shard_becomes_one_object_and_a_small_record(spec, model, tasks):
    result = spec.build(model, device="cpu", num_threads=1)(tasks[0])
    [written] = Path(spec.out).rglob("*.parquet")
    assert written.name == "000000.parquet"
    assert (result.num_frames, result.num_lost, result.num_keyframes) == (15, 0, 3)
    assert (result.num_bytes, result.published) == (written.stat().st_size, True)
    assert result.media_s == pytest.approx(1.0)  # 15 frames at 15 a second
    assert {"decode", "segment", "upsample", "encode", "write", "total"} <= set(result.seconds)
    assert len(pickle.dumps(result)) < 2_000
    assert list(Path(spec.spool_dir).iterdir()) == []


def test_a_shard_that_is_there_already_costs_nothing_and_counts_as_planned(spec, model, tasks, monkeypatch):
    worker = spec.build(model, device="cpu", num_threads=1)
    worker(tasks[0])
    [written] = Path(spec.out).rglob("*.parquet")
    before = written.stat()
    monkeypatch.setattr(worker, "_rows", None)  # no frame is labeled
    worker.prepare(tasks[0])  # what was decoded ahead is thrown away
    result = worker(tasks[0])
    assert (result.published, result.num_frames, result.num_keyframes, result.num_bytes) == (False, 15, 0, 0)
    assert result.media_s == pytest.approx(1.0)
    assert worker.frames_done == 0
    assert (written.stat().st_mtime_ns, written.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    monkeypatch.undo()
    assert worker(tasks[1]).published
    worker.close()


def test_a_shard_that_another_run_publishes_meanwhile_is_left_as_it_is(spec, model, tasks, monkeypatch):
    worker = spec.build(model, device="cpu", num_threads=1)
    worker(tasks[0])
    [written] = Path(spec.out).rglob("*.parquet")
    before = written.stat()
    monkeypatch.setattr("gsvnet.labeling.worker.has_object", lambda *arguments: False)
    result = worker(tasks[0])
    assert (result.published, result.num_frames, result.num_keyframes, result.num_bytes) == (False, 15, 3, 0)
    assert (written.stat().st_mtime_ns, written.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_worker_that_may_not_look_labels_all_the_same(spec, model, tasks, monkeypatch):
    def refuse(*arguments):
        raise StoreRefused("403")

    monkeypatch.setattr("gsvnet.labeling.worker.has_object", refuse)
    assert spec.build(model, device="cpu", num_threads=1)(tasks[0]).published


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_video_that_changes_is_an_error_and_no_label(spec, model, tasks, tmp_path, monkeypatch, when):
    copy = tmp_path / "drive.mp4"
    copy.write_bytes(Path(tasks[0].uri).read_bytes())
    plan = plan_video(str(copy), rule=PlanRule(interval=5, shard_seconds=60.0, shard_frames=60))
    task = ShardTask(video=plan.video, shard=plan.shards[0], uri=str(copy))
    worker = replace(spec, batch_chunks=1).build(model, device="cpu", num_threads=1)
    if when == "before":
        copy.write_bytes(copy.read_bytes() + b"more")
    else:
        rows = worker._rows
        monkeypatch.setattr(worker, "_rows", lambda *a: (touched(copy, row) for row in rows(*a)))
    with pytest.raises(SourceChanged, match=r"was planned \(was .* is .*\)|another output"):
        worker(task)
    assert list(Path(spec.out).rglob("*.parquet")) == []


def touched(path: Path, row):
    path.touch()
    return row


def test_a_shard_with_fewer_frames_than_planned_is_not_published(spec, model, tasks):
    worker = spec.build(model, device="cpu", num_threads=1)
    task = replace(tasks[0], shard=replace(tasks[0].shard, num_frames=16))
    with pytest.raises(StoreError, match="15 rows were written, 16 expected"):
        worker(task)
    assert list(Path(spec.out).rglob("*.parquet")) == []
    assert worker(tasks[1]).published  # the worker goes on


def test_a_closed_worker_has_no_decoder_open(spec, model, tasks):
    worker = spec.build(model, device="cpu", num_threads=1)
    worker.prepare(tasks[1])
    worker(tasks[0])
    worker.close()
    assert not any(thread.name == "gsvnet-decode" for thread in threading.enumerate())


class HandsOn(nn.Conv2d):
    """Hands its images on in itself, and waits, as a slower network would: another thread's may come in between."""

    def forward(self, x):
        self.skip = x
        time.sleep(0.02)
        return super().forward(x) + 9 * self.skip[:, torch.arange(11) % 3]


def test_a_network_that_keeps_features_in_itself_is_not_run_in_two_threads(spec, tasks):
    torch.manual_seed(0)
    normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    own = PerFrame(HandsOn(3, 11, 1), classes=CAMVID, normalise=normalise).eval()
    found = []
    for num_threads in (1, 2):
        worker = replace(spec, out=f"{spec.out}{num_threads}").build(own, device="cpu", num_threads=num_threads)
        worker(tasks[0])
        worker.close()
        found += [
            pq.read_table(path, columns=["frame_index", "pixels", "mask"])
            for path in Path(f"{spec.out}{num_threads}").rglob("*.parquet")
        ]
    assert_equal_rows(*found)


def test_threads_are_those_of_the_job_even_if_the_process_says_otherwise(spec, model, tasks):
    before = torch.get_num_threads()
    try:
        worker = spec.build(model, device="cpu", num_threads=1)
        torch.set_num_threads(2)
        worker(tasks[0])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_worker_reports_the_hash_of_the_model_it_has(spec, model):
    assert spec.build(model, device="cpu", num_threads=1).model_hash == content_hash(model)


def test_a_spool_folder_that_cannot_be_made_is_a_config_error(spec, model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose another --spool-dir"):
        replace(spec, spool_dir=str(tmp_path / "file" / "spool")).build(model, device="cpu", num_threads=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_never_replaced_by_the_cpu_in_silence(spec, model):
    with pytest.raises(WorkerError, match="sees no CUDA device"):
        spec.build(model, device="cuda", num_threads=1)


def test_a_batch_out_of_memory_runs_in_halves_and_the_footer_says_so(spec, model, tasks, monkeypatch):
    whole = type(model).segment

    def short_of_memory(network, chunks):
        for output in whole(network, chunks):
            yield output
            if len(chunks.valid) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model), "segment", short_of_memory)
    result = spec.build(model, device="cpu", num_threads=1)(tasks[0])
    assert (result.num_frames, result.num_keyframes, result.published) == (15, 3, True)
    assert result.notes == ("2 chunks at a time were out of memory; 1 from now on",)
    [written] = Path(spec.out).rglob("*.parquet")
    assert parse_footer(pq.read_metadata(written).metadata, "x")[0].backed_off_to == 1


def test_a_footer_says_nothing_of_memory_that_sufficed(spec, model, tasks):
    spec.build(model, device="cpu", num_threads=1)(tasks[0])
    [written] = Path(spec.out).rglob("*.parquet")
    assert b"gsvnet.backed_off_to" not in pq.read_metadata(written).metadata


def test_credentials_in_a_spec_are_not_shown(spec):
    assert "hush" not in repr(replace(spec, storage_options={"secret": "hush"}, video_options={"key": "hush"}))
