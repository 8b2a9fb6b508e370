from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

import gsvnet
from gsvnet.labeling.job import failure_record, fingerprint_fields, pending_tasks, plan_videos
from gsvnet.labeling.limits import LimitsConfig
from gsvnet.labeling.tasks import ShardFailure
from gsvnet.models.checkpoints import load_model
from gsvnet.store.layout import list_committed

QUIET = Console(quiet=True)


def test_the_fingerprint_knows_what_decides_about_labels_and_nothing_else(label_config, tiny_model):
    model = load_model(str(tiny_model))
    base = fingerprint_fields(label_config(), model)
    decides = {
        "keyframe_interval": 3,
        "shard_seconds": 1.0,
        "shard_frames": 7,
        "cpus_per_actor": 2,
        "batch_chunks": 3,
        "precision": "bf16",
        "compile": True,
        "mask_size": "36x48",
    }
    for name, value in decides.items():
        assert fingerprint_fields(label_config(**{name: value}), model) == base | {name: value}
    does_not = {
        "num_actors": 7,
        "gpus_per_actor": 0.5,
        "limits": LimitsConfig(max_attempts=9),
        "spool_dir": "x",
        "videos": ("other",),
    }
    assert fingerprint_fields(label_config(**does_not), model) == base
    json.dumps(base)


def test_pending_are_the_shards_without_labels_in_order(label_config):
    config = label_config()
    gsvnet.label(config)
    plans, unusable = plan_videos(config.videos, config, console=QUIET)
    assert unusable == []
    committed = list_committed(config.out)
    assert pending_tasks(plans, committed) == ([], len(committed))
    [video] = {video for video, _ in committed}
    tasks, num_skipped = pending_tasks(plans, committed - {(video, "000004"), (video, "000001")})
    assert ([task.shard.index for task in tasks], num_skipped) == ([1, 4], len(committed) - 2)


def test_videos_that_cannot_be_used_do_not_stop_the_others(label_config, drive, tmp_path):
    config = label_config()
    missing = str(tmp_path / "missing.mp4")
    plans, [failure] = plan_videos([missing, str(drive)], config, console=QUIET)
    assert list(plans) == [str(drive)]
    assert (failure.error, failure.shard_index, failure.attempts) == ("VideoNotFound", None, 1)
    assert failure.message.startswith(missing)


def test_a_video_named_twice_is_labeled_once(label_config, drive):
    report = gsvnet.label(label_config(videos=(str(drive), f"{drive.parent}/../{drive.parent.name}/{drive.name}")))
    assert (report.videos, report.frames) == (1, 60)


def test_failure_records_name_video_and_shard_without_credentials():
    failure = ShardFailure(video_id="a-1", shard_index=12, error="DecodeError", message="it broke", attempts=2)
    record = failure_record(failure, "s3://key:hush@bucket/a.mp4?token=hush")
    assert (record.uri, record.shard, record.attempts) == ("s3://bucket/a.mp4", "000012", 2)


def test_the_report_file_is_the_report(label_config):
    config = label_config()
    report = gsvnet.label(config)
    stored = json.loads((Path(config.out) / "_report.json").read_text())
    assert stored == json.loads(json.dumps(report.to_dict()))
    assert (stored["frames"], stored["shards_in_output"], stored["exit_code"]) == (60, 7, 0)


def test_bad_arguments_leave_no_output(label_config):
    config = label_config(model="nope")
    with pytest.raises(gsvnet.ConfigError):
        gsvnet.label(config)
    assert not Path(config.out).exists()
