from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from gsvnet.errors import SourceUnavailable, StoreError, StoreUnavailable, WorkerError
from gsvnet.labeling import sight
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.plan import PlanRule, plan_video
from gsvnet.labeling.sight import check_sight, remove_probe, write_probe
from gsvnet.labeling.tasks import ShardTask
from gsvnet.store.layout import list_committed


@pytest.fixture
def probe(tmp_path, drive):
    plan = plan_video(str(drive), rule=PlanRule(interval=5, shard_seconds=60.0, shard_frames=15))
    task = ShardTask(video=plan.video, shard=plan.shards[0], uri=str(drive))
    written = write_probe(LabelConfig(videos=(str(drive),), out=str(tmp_path / "out")), task)
    yield written
    remove_probe(written)


def test_a_worker_that_sees_output_and_video_is_let_to_work(probe):
    check_sight(pickle.loads(pickle.dumps(probe)))


def test_the_probe_is_no_label_and_is_gone_afterwards(probe):
    assert not list_committed(probe.out)
    remove_probe(probe)
    assert [path for path in Path(probe.out).rglob("*") if path.is_file()] == []
    remove_probe(probe)  # as often as one likes


def test_an_output_on_another_disk_is_one_clear_error(probe, tmp_path, monkeypatch):
    monkeypatch.setattr(sight.socket, "gethostname", lambda: "node-7")
    elsewhere = replace(probe, out=str(tmp_path / "not-mounted"))
    with pytest.raises(WorkerError, match=r"node node-7 .*not-mounted.*local path.*several nodes.*s3://"):
        check_sight(elsewhere)


def test_videos_on_a_disk_that_the_node_lacks_are_one_clear_error(probe, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):  # a mount point without its disk is an empty folder
        with pytest.raises(WorkerError, match=f"does not see the videos in .*{folder}.*s3://"):
            check_sight(replace(probe, video=str(tmp_path / folder / "a.mp4")))


def test_a_video_that_was_moved_away_stops_nobody(probe, drive):
    check_sight(replace(probe, video=str(drive.with_name("moved.mp4"))))
    check_sight(replace(probe, video="memory://moved/a.mp4"))


def _raise(error):
    def call(*arguments):
        raise error

    return call


def test_a_node_without_rights_or_packages_names_itself(probe, monkeypatch):
    monkeypatch.setattr(sight, "read_bytes", _raise(StoreError("cannot read s3://b/out: no permission")))
    with pytest.raises(WorkerError, match=r"cannot read the output: .*no permission; give every node"):
        check_sight(probe)


@pytest.mark.parametrize(
    ("function", "error"), [("read_bytes", StoreUnavailable("away")), ("stat_source", SourceUnavailable("away"))]
)
def test_an_outage_is_no_fault_of_the_node(probe, monkeypatch, function, error):
    monkeypatch.setattr(sight, function, _raise(error))
    with pytest.raises(type(error)):
        check_sight(replace(probe, video="s3://bucket/a.mp4"))


def test_credentials_of_a_probe_are_not_shown(probe):
    shown = repr(replace(probe, video="s3://k:hush@b/a.mp4", storage_options={"secret": "hush"}))
    assert "hush" not in shown
