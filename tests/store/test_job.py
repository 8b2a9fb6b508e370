"""One output, one fingerprint; plans and failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from gsvnet.classes import CAMVID, CITYSCAPES
from gsvnet.errors import ConfigError, CorruptLabels, OutputConflict, StoreError
from gsvnet.store.job import (
    FailureRecord,
    fingerprint,
    list_failures,
    list_plans,
    open_job,
    read_job,
    read_plan,
    read_settled,
    remove_failure,
    write_failure,
    write_plan,
    write_settled,
)

FIELDS = {"keyframe_interval": 5, "mask_size": "full", "strides": (8, 4)}
FAILURE = FailureRecord(video="v", uri="v.mp4", shard="000001", error="DecodeError", message="bad", attempts=2)


@pytest.fixture(params=["local", "memory"])
def out(request, tmp_path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def start(out: str, fields=FIELDS, classes=CAMVID, model_hash="a" * 64):
    return open_job(out, fields, classes=classes, model_hash=model_hash)


def test_fingerprint_depends_on_values_and_not_on_order():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_a_new_output_gets_a_record_that_reads_back(out):
    job = start(out)
    assert read_job(out) == job
    assert (job.classes, job.model_hash) == (CAMVID, "a" * 64)
    assert job.fields["strides"] == [8, 4]


def test_the_same_settings_resume(out):
    assert start(out) == start(out)


def test_other_settings_are_refused_by_flag_name_with_both_values(out):
    start(out)
    with pytest.raises(OutputConflict) as caught:
        start(out, {**FIELDS, "keyframe_interval": 3, "mask_size": "360x640", "precision": "bf16"})
    message = str(caught.value)
    assert "--keyframe-interval: 5 in the output, 3 now" in message
    assert "--mask-size: full in the output, 360x640 now" in message
    assert "--precision: not set in the output, bf16 now" in message
    assert "strides" not in message


def test_another_model_is_refused(out):
    start(out)
    with pytest.raises(OutputConflict, match=r"--model: aaa.* in the output, bbb.* now"):
        start(out, model_hash="b" * 64)
    with pytest.raises(OutputConflict, match=r"camvid \(11 classes\) in the output, cityscapes \(19 classes\) now"):
        start(out, classes=CITYSCAPES)


def test_a_refused_job_changes_nothing(out):
    before = start(out)
    with pytest.raises(OutputConflict):
        start(out, {})
    assert read_job(out) == before


def test_jobs_that_start_at_once_agree(out):
    with ThreadPoolExecutor(8) as pool:
        assert len({job.fingerprint for job in pool.map(lambda _: start(out), range(8))}) == 1


def test_labels_without_a_record_are_not_adopted(tmp_path, write_shard):
    write_shard(str(tmp_path / "out"))
    (tmp_path / "out" / "_job.json").unlink()
    with pytest.raises(ConfigError, match=r"no _job\.json"):
        start(str(tmp_path / "out"))


def test_leftovers_of_dead_writers_are_swept_when_a_job_resumes(tmp_path, write_shard):
    path = Path(write_shard(str(tmp_path / "out")))
    writer = "from pathlib import Path; from gsvnet.store.temporary import create_temporary; import os, sys; "
    dies = "create_temporary(Path(sys.argv[1])); os._exit(0)"
    subprocess.run([sys.executable, "-c", writer + dies, str(path.parent)], check=True)
    assert len(list(path.parent.iterdir())) == 2
    open_job(str(tmp_path / "out"), {"keyframe_interval": 5}, classes=CAMVID, model_hash="a" * 64)
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_with_other_files_may_become_an_output(tmp_path):
    (tmp_path / "README").touch()
    start(str(tmp_path))


def test_an_output_below_a_file_is_a_config_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be used.*cannot write"):
        start(str(tmp_path / "file" / "out"))


@pytest.mark.skipif(os.geteuid() != 0, reason="drops to another user, which needs root")
@pytest.mark.parametrize("resume", [False, True])
def test_a_read_only_output_is_a_config_error(tmp_path, resume):
    out = tmp_path / "out"
    out.mkdir()
    if resume:
        start(str(out))
    for folder in (out, *out.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    code = f"""
import os
import pyarrow
from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError
from gsvnet.store.job import open_job
os.setuid(65534)
try: open_job({str(out)!r}, {FIELDS!r}, classes=CAMVID, model_hash="a" * 64)
except ConfigError as error: print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be used: cannot write" in result.stdout


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fields": 3, "fingerprint": "x"}', "not json"])
def test_a_damaged_record_is_said(tmp_path, content):
    (tmp_path / "_job.json").write_text(content)
    with pytest.raises(CorruptLabels, match=r"_job\.json"):
        start(str(tmp_path))
    with pytest.raises(CorruptLabels):
        read_job(str(tmp_path))


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    start(str(tmp_path))
    record = json.loads((tmp_path / "_job.json").read_text())
    record["fields"]["schema_version"] = 99
    (tmp_path / "_job.json").write_text(json.dumps(record))
    with pytest.raises(StoreError, match="schema version 99"):
        read_job(str(tmp_path))


def test_a_folder_that_is_no_output_is_said(out):
    with pytest.raises(StoreError, match="no output"):
        read_job(out)


def test_the_first_plan_of_a_video_stays(out):
    assert write_plan(out, "v", {"shards": [[0, 10]]}) == {"shards": [[0, 10]]}
    assert write_plan(out, "v", {"shards": [[0, 20]]}) == {"shards": [[0, 10]]}
    assert read_plan(out, "v") == {"shards": [[0, 10]]}
    assert read_plan(out, "w") is None
    assert list_plans(out) == ["v"]


def test_failures_are_listed_until_labels_exist(out):
    whole = replace(FAILURE, video="w", shard=None)
    write_failure(out, FAILURE)
    write_failure(out, whole)
    assert list_failures(out) == [FAILURE, whole]
    assert list_failures(out, committed={("v", "000001")}) == [whole]
    assert list_failures(out, committed={("v", "000000"), ("w", "000001")}, complete_videos={"w"}) == [FAILURE]


def test_the_first_failure_stays_until_it_is_removed(out):
    write_failure(out, FAILURE)
    write_failure(out, replace(FAILURE, message="again"))
    assert list_failures(out) == [FAILURE]
    remove_failure(out, FAILURE)
    remove_failure(out, FAILURE)
    assert list_failures(out) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": None},
        {"classes": None},
        {"classes": {"name": "x", "names": ["a"], "colours": [[0, 0, 300]]}},
        {"classes": {"name": "x", "names": "ab", "colours": [[0, 0, 0], [1, 1, 1]]}},
        {"model_hash": None},
        {"keyframe_interval": "five"},
    ],
    ids=lambda changes: f"{changes!s:.40}",
)
def test_a_record_without_what_readers_need_is_damaged(tmp_path, changes):
    start(str(tmp_path))
    record = json.loads((tmp_path / "_job.json").read_text())
    fields = {name: value for name, value in (record["fields"] | changes).items() if value is not None}
    (tmp_path / "_job.json").write_text(json.dumps(record | {"fields": fields}))
    with pytest.raises(CorruptLabels, match=r"_job\.json is no job record"):
        read_job(str(tmp_path))


@pytest.mark.parametrize("compacted", [[], "x", {"files": "many"}, {"files": 10**12}, {"files": -1}])
def test_a_copy_of_impossible_size_is_damaged(tmp_path, compacted):
    start(str(tmp_path))
    record = json.loads((tmp_path / "_job.json").read_text())
    (tmp_path / "_job.json").write_text(json.dumps(record | {"compacted": compacted}))
    with pytest.raises(CorruptLabels, match="is no job record"):
        read_job(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a": 1e999}', b'{"a": NaN}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\xff"}']
)
def test_what_is_no_json_is_damaged(tmp_path, content):
    for name in ("_plan/v.json", "_failed/v/000001.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptLabels, match="is not JSON"):
        read_plan(str(tmp_path), "v")
    with pytest.raises(CorruptLabels, match="is not JSON"):
        list_failures(str(tmp_path))


@pytest.mark.parametrize(
    "change", [{"video": ["v"]}, {"shard": []}, {"shard": 1}, {"attempts": "2"}, {"more": 1}], ids=str
)
def test_a_failure_of_other_values_is_damaged(tmp_path, change):
    write_failure(str(tmp_path), FAILURE)
    path = tmp_path / "_failed" / "v" / "000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorruptLabels, match="is no failure record"):
        list_failures(str(tmp_path))


def test_texts_that_are_no_utf8_are_kept_as_valid_json(tmp_path):
    failure = replace(FAILURE, uri="\udcff.mp4", message="caf\u00e9 \ud800")
    write_failure(str(tmp_path), failure)
    content = (tmp_path / "_failed" / "v" / "000001.json").read_bytes()
    assert json.loads(content.decode("utf-8"))["uri"] == "\udcff.mp4"
    assert list_failures(str(tmp_path)) == [failure]


@pytest.mark.parametrize("content", ["{}", '{"batch_chunks": 0}', '{"batch_chunks": "4"}', '{"batch_chunks": true}'])
def test_what_was_settled_is_a_number_of_chunks(tmp_path, content):
    (tmp_path / "_settled").mkdir()
    (tmp_path / "_settled" / "cuda.json").write_text(content)
    with pytest.raises(CorruptLabels, match=r"_settled/cuda\.json: batch_chunks is"):
        read_settled(str(tmp_path), "cuda")
    with pytest.raises(CorruptLabels, match="settles it anew"):
        write_settled(str(tmp_path), "cuda", {"batch_chunks": 4})
