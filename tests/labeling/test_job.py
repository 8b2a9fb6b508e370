from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console
from torch import nn

import gsvnet
from gsvnet.errors import NoSpace, SourceUnavailable, StoreRefused, StoreUnavailable
from gsvnet.labeling.failures import failure_record, failure_recorder
from gsvnet.labeling.fingerprint import describe_settings, fingerprint_fields
from gsvnet.labeling.limits import LimitsConfig
from gsvnet.labeling.network import load_network
from gsvnet.labeling.planning import in_share
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure
from gsvnet.models.calibration import set_calibration
from gsvnet.models.checkpoints import load_model
from gsvnet.models.segmenter import FrameNeeds
from gsvnet.nn.confidence import Calibration
from gsvnet.store.job import list_failures
from gsvnet.video.source import video_id
from tests.tiny_arseg import build_arseg
from tests.tiny_gsvnet import build_gsvnet
from tests.tiny_tdnet import build_tdnet


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


def test_the_fingerprint_of_a_network_without_motion_says_nothing_of_it(label_config, tiny_model):
    fields = fingerprint_fields(label_config(motion="proxy"), load_model(str(tiny_model)))
    assert "motion" not in fields
    class_like = nn.Module()
    class_like.needs = lambda height, width: FrameNeeds(keyframe_size=(height, width))
    described = {"keyframe_size": (360, 640), "frame_size": None, "resize": "area", "motion": False}
    described |= {"before": 0, "after": 0, "next_keyframe": False}
    assert describe_settings(class_like)["360x640"] == described  # as outputs of your own networks have it


def test_what_a_network_of_your_own_tells_of_its_options_is_in_the_fingerprint():
    """Nearest and both read the same frames, and so do all ensembles."""
    kinds = [("both", "none"), ("nearest", "none"), ("both", "all")]
    described = [json.dumps(describe_settings(build_tdnet(*kind))) for kind in kinds]
    assert len(set(described)) == 3


def test_the_fingerprint_knows_whether_drift_is_measured_also_where_sides_are_compared(label_config, tiny_model):
    measured = label_config(model=str(tiny_model), propagation="two-sided", uncertain=True)
    not_measured = replace(measured, no_drift=True)
    fields, fewer = (fingerprint_fields(config, load_network(config)) for config in (measured, not_measured))
    assert fewer == fields | {"drift": False}


def test_the_calibration_of_a_network_of_your_own_is_in_the_fingerprint():
    network = build_gsvnet()  # its keyframe network is of no known family
    plain = describe_settings(network)
    set_calibration(network, Calibration(slope=0.5))
    assert describe_settings(network) == plain | {"calibration": Calibration(slope=0.5).to_dict()}


def test_for_a_network_that_reads_motion_it_knows_where_that_comes_from(label_config):
    proxy, auto = (fingerprint_fields(label_config(motion=m), build_arseg())["motion"] for m in ("proxy", "auto"))
    assert (proxy, auto) == ("proxy", "auto")


def test_videos_that_cannot_be_used_do_not_stop_the_others(label_config, drive, tmp_path):
    missing = str(tmp_path / "missing.mp4")
    report = gsvnet.label(label_config(videos=(missing, str(drive))))
    [failure] = report.failures
    assert (report.exit_code, report.videos, report.frames) == (3, 1, 60)
    assert (failure.error, failure.shard_index, failure.attempts) == ("VideoNotFound", None, 1)
    assert failure.message.startswith(missing)


def test_what_was_given_up_stays_so_until_told_otherwise(label_config, drive, tmp_path):
    late = tmp_path / "late.mp4"
    config = label_config(videos=(str(late), str(drive)))
    gsvnet.label(config)
    shutil.copy(drive, late)
    again = gsvnet.label(config)
    assert (again.exit_code, again.shards_labeled, again.failures, again.failed_earlier) == (3, 0, (), 1)
    told = gsvnet.label(replace(config, retry_failed=True))
    assert (told.exit_code, told.shards_labeled, told.failed_earlier) == (0, 7, 0)
    assert not list((Path(config.out) / "_failed").rglob("*.json"))
    assert (Path(config.out) / "_SUCCESS").exists()


def test_a_video_that_was_replaced_and_put_back_after_it_was_labeled_is_no_failure(label_config, drive, tmp_path):
    video, kept = tmp_path / "street.mp4", tmp_path / "kept.mp4"
    shutil.copy2(drive, video)
    shutil.copy2(drive, kept)
    config = label_config(videos=(str(video),))
    assert gsvnet.label(config).exit_code == 0
    video.write_bytes(video.read_bytes() + b"more")
    changed = [gsvnet.label(config) for _ in range(2)]
    assert [(r.exit_code, r.failures[0].error) for r in changed] == 2 * [(3, "SourceChanged")]
    kept.replace(video)
    again = gsvnet.label(config)
    assert (again.exit_code, again.shards_skipped, again.failed_earlier) == (0, 7, 0)
    assert (Path(config.out) / "_SUCCESS").exists()


@pytest.mark.parametrize(
    "limits", [{"partial_ok": True}, {"max_failed_fraction": 0.125}, {"max_failed_fraction": 1.0}], ids=str
)
def test_failures_that_are_allowed_exit_with_0_but_are_no_success(label_config, drive, tmp_path, limits):
    config = label_config(videos=(str(tmp_path / "missing.mp4"), str(drive)), limits=LimitsConfig(**limits))
    report = gsvnet.label(config)
    assert (report.exit_code, report.num_failed) == (0, 1)
    assert not (Path(config.out) / "_SUCCESS").exists()
    assert gsvnet.label(replace(config, limits=LimitsConfig(max_failed_fraction=0.1))).exit_code == 3


def test_jobs_of_an_array_share_the_videos_and_the_last_one_finishes_the_output(label_config, media, tmp_path):
    paths = [tmp_path / f"{n}.mp4" for n in range(100)]
    of_each = [[path for path in paths if in_share(video_id(str(path)), index, 2)] for index in (0, 1)]
    videos = tuple(str(media.write_clip(path, num_frames=12)) for path in (*of_each[0][:2], *of_each[1][:4]))
    config = label_config(videos=videos)
    first, second = (replace(config, array_count=2, array_index=index) for index in (0, 1))
    reports = [gsvnet.label(first)]
    assert not (Path(config.out) / "_manifest.parquet").exists()
    reports.append(gsvnet.label(second))
    assert [report.videos for report in reports] == [2, 4]
    assert sum(report.frames for report in reports) == 72
    assert (Path(config.out) / "_SUCCESS").exists()
    assert len(gsvnet.open_labels(config.out).videos) == 6


def test_a_video_named_twice_is_labeled_once(label_config, drive):
    report = gsvnet.label(label_config(videos=(str(drive), f"{drive.parent}/../{drive.parent.name}/{drive.name}")))
    assert (report.videos, report.frames) == (1, 60)


def test_a_new_video_out_of_reach_takes_the_success_of_an_array_away(label_config, drive, tmp_path, monkeypatch):
    config = label_config(array_index=0, array_count=1)
    gsvnet.label(config)
    success = Path(config.out) / "_SUCCESS"
    assert success.exists()
    monkeypatch.setattr("gsvnet.labeling.planning.RETRY_AFTER_S", ())
    monkeypatch.setattr("gsvnet.labeling.planning.stored_or_new_plan", Mock(side_effect=SourceUnavailable("down")))
    report = gsvnet.label(replace(config, videos=(str(tmp_path / "new.mp4"),)))
    assert (report.exit_code, report.videos_unreachable) == (3, 1)
    assert not success.exists()


def test_failure_records_name_video_and_shard_without_credentials():
    failure = ShardFailure(video_id="a-1", shard_index=12, error="DecodeError", message="it broke", attempts=2)
    record = failure_record(failure, "s3://key:hush@bucket/a.mp4?token=hush")
    assert (record.uri, record.shard, record.attempts) == ("s3://bucket/a.mp4", "000012", 2)


@pytest.fixture
def record(label_config):
    """record(error): a shard is given up for it; the error classes in _failed/ afterwards."""

    def _record(error):
        config, progress = label_config(), JobProgress(console=Console(quiet=True))
        give_up = failure_recorder(config, {"a-1": "a.mp4"}, progress)
        give_up(ShardFailure(video_id="a-1", shard_index=0, error=error, message="no", attempts=3))
        assert progress.num_failed == 1
        return [failure.error for failure in list_failures(config.out)]

    return _record


@pytest.mark.parametrize("error", ["SourceUnavailable", "StoreUnavailable", "StoreRefused", "NoSpace"])
def test_outages_and_full_disks_are_no_verdict_on_a_shard(record, error):
    assert record(error) == []
    assert record("DecodeError") == ["DecodeError"]


def test_a_failure_that_cannot_be_recorded_stops_a_job_only_where_the_output_refuses(record, monkeypatch):
    def fail_with(error):
        monkeypatch.setattr("gsvnet.labeling.failures.write_failure", Mock(side_effect=error))

    fail_with(StoreUnavailable("503"))
    assert record("DecodeError") == []
    fail_with(StoreRefused("403"))
    with pytest.raises(StoreRefused):
        record("DecodeError")


def test_the_report_file_is_the_report(label_config):
    config = label_config()
    report = gsvnet.label(config)
    stored = json.loads((Path(config.out) / "_report.json").read_text())
    assert stored == json.loads(json.dumps(report.to_dict()))
    assert (stored["frames"], stored["shards_in_output"], stored["exit_code"]) == (60, 7, 0)


def test_what_stops_a_job_is_raised_once_the_run_is_reported(label_config, monkeypatch):
    def no_space(*_, **__):
        raise NoSpace("2 GB are free")

    monkeypatch.setattr("gsvnet.labeling.worker.ShardWriter.__enter__", no_space)
    config = label_config()
    with pytest.raises(NoSpace, match="2 GB are free"):
        gsvnet.label(config)
    stored = json.loads((Path(config.out) / "_report.json").read_text())
    assert (stored["stopped"], stored["exit_code"], stored["frames"], stored["shards_planned"]) == (True, 1, 0, 7)
    assert not list(Path(config.out).glob("_failed/**/*.json"))


def test_more_videos_take_the_success_away_until_they_are_labeled(label_config, media, tmp_path, monkeypatch):
    config = label_config()
    gsvnet.label(config)
    success = Path(config.out) / "_SUCCESS"
    assert success.exists()
    seen = []
    monkeypatch.setattr("gsvnet.labeling.worker.ShardWorker.prepare", lambda *_: seen.append(success.exists()))
    more = media.write_clip(tmp_path / "more.mp4")
    gsvnet.label(replace(config, videos=(*config.videos, str(more))))
    assert set(seen) == {False}
    assert success.exists()


def test_bad_arguments_leave_no_output(label_config):
    config = label_config(model="nope")
    with pytest.raises(gsvnet.ConfigError):
        gsvnet.label(config)
    assert not Path(config.out).exists()
