"""Small files of an output: job record, plans, failures, what was settled, the last report, the manifest.

Whatever they hold, each reader gives what it promises or raises one of gsvnet's errors, and verify and status end.
"""

from __future__ import annotations

import io
import json
import shutil
from functools import cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gsvnet.chunks import chunk_starts, planned_keyframe
from gsvnet.classes import ClassSet
from gsvnet.labeling.plan import VideoPlan, plan_from_dict
from gsvnet.labeling.status import read_status
from gsvnet.maintenance.compaction import compact_output
from gsvnet.maintenance.config import CompactConfig, VerifyConfig
from gsvnet.maintenance.verification import verify_output
from gsvnet.store.job import list_failures, list_plans, open_job, read_job, read_plan, read_settled
from gsvnet.store.manifest import read_manifest, write_derived
from gsvnet.store.read import open_labels
from gsvnet.store.row_groups import list_row_groups
from gsvnet.viewing.run import read_run
from tests.fuzz import sound
from tests.fuzz.choices import Choices, change_json, damage
from tests.fuzz.workplace import refused, sound_output

_NAMES = ("_job.json", sound.PLAN_PATH, sound.FAILURE_PATH, "_settled/cpu.json", "_report.json")


def fuzz_one(data: bytes) -> None:
    """Damage one of the files, or put one where none belongs, and look at the output in every way."""
    choices = Choices(data)
    output = _output()
    name = choices.pick((*_NAMES, "_manifest.parquet", "_plan/other-0123456789ab.json"))
    content = _hostile_manifest(choices) if name == "_manifest.parquet" else _hostile_json(name, choices)
    output.write(name, content)
    try:
        _read(output)
        if choices.flag():
            _use(output)
    finally:
        _mend(output, name)


@cache
def _output() -> sound.Folder:
    output = sound_output("records")
    for name in _NAMES[2:]:
        output.write(name, _sound_json(name))
    with refused():
        write_derived(output.out, complete=False)
    output.write("manifest-as-it-was", (output.path / "_manifest.parquet").read_bytes())
    return output


def _mend(output: sound.Folder, name: str) -> None:
    """What was changed is sound again, and what readers added is gone."""
    if name == "_manifest.parquet":
        output.write(name, (output.path / "manifest-as-it-was").read_bytes())
    elif name in _NAMES:
        output.write(name, _sound_json(name))
    else:
        (output.path / name).unlink()
    shutil.rmtree(output.path.parent / "copy", ignore_errors=True)


def _sound_json(name: str) -> dict[str, Any]:
    stage = {"labels": 0.5}
    load = {"by_stage": stage, "at_work": stage, "cores": 0.5, "limit": "labels", "limit_share": 0.5}
    counts = {"frames": 12, "num_actors": 1, "retries": 0, "actors_lost": 0, "outages": 0, "exit_code": 0}
    times = {"wall_s": 1.0, "frames_per_s": 12.0, "times_realtime": 1.0, "stage_s": stage}
    words = {"model": "default", "device": "cpu", "precision": "fp32", "limited_by": "cores"}
    known = {
        "_job.json": sound.JOB,
        sound.PLAN_PATH: sound.PLAN,
        sound.FAILURE_PATH: sound.FAILURE,
        "_settled/cpu.json": {"batch_chunks": 4},
        "_report.json": {**counts, **times, **words, "load": load, "usage": {"gpu_hours": 0.0, "cost": None}},
    }
    return known.get(name, sound.PLAN)


def _hostile_json(name: str, choices: Choices) -> bytes:
    value: Any = _sound_json(name)
    match choices.below(8):
        case 0:
            return choices.rest()
        case 1:
            return choices.pick((b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"1e999", b"\xff", b"\xef\xbb\xbf{}"))
        case 2:
            return damage(json.dumps(value).encode(), choices)
    for _ in range(1 + choices.below(3)):
        value = change_json(value, choices)
    return json.dumps(value).encode()


def _hostile_manifest(choices: Choices) -> bytes:
    content = (_output().path / "manifest-as-it-was").read_bytes()
    if choices.flag():
        return damage(content, choices)
    entries = pq.read_table(io.BytesIO(content)).to_pylist()
    name = choices.pick(sorted(entries[0]))
    try:
        table = pa.Table.from_pylist([entry | {name: choices.json(1)} for entry in entries])
        sink = io.BytesIO()
        pq.write_table(table, sink)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return content
    return sink.getvalue()


def _read(output: sound.Folder) -> None:
    """Each record by itself."""
    out = output.out
    readers = (read_job, list_plans, list_failures, partial(read_settled, device="cpu"), read_manifest, read_run)
    for read in readers:
        with refused():
            read(out)
    for video in list_plans(out):
        with refused():
            plan = read_plan(out, video)
            if plan is not None:
                _check_plan(plan_from_dict(plan, video), video)


def _check_plan(plan: VideoPlan, video: str) -> None:
    """What is taken for granted of a plan."""
    assert plan.video.id == video
    assert plan.media_s >= 0
    assert plan.num_bytes >= 0
    assert plan.shard_motion is None or plan.shard_motion.source in ("codec", "proxy")
    assert sum(shard.num_frames for shard in plan.shards) == plan.video.num_frames
    for index, shard in enumerate(plan.shards):
        assert (shard.index, shard.video_id) == (index, video)
        assert planned_keyframe(shard, shard.first_frame, 5) == shard.first_frame
        assert chunk_starts(shard.first_frame, min(shard.num_frames, 100), 5, shard.restarts)
        reach, wide = plan.reach_of(shard), plan.widened_of(shard)
        assert reach is None or reach.first_frame <= (wide or shard).first_frame
        assert wide is None or wide.num_frames >= shard.num_frames


def _use(output: sound.Folder) -> None:
    """What commands make of all of them."""
    out = output.out
    with refused():
        json.dumps(read_status(out, now=0.0).to_dict())
    with refused():
        labels = open_labels(out)
        assert isinstance(labels.classes, ClassSet)
        list_row_groups(labels)
        labels.labels_at(sound.VIDEO, [0])
    for quick in (True, False):
        with refused():
            json.dumps(verify_output(VerifyConfig(out=out, quick=quick)).to_dict())
    with refused():
        open_job(out, {"keyframe_interval": 5}, classes=sound.CLASSES, model_hash="b" * 64)
    with refused():
        compact_output(CompactConfig(out=out, to=str(output.path.parent / "copy")))
