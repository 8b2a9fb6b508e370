"""The same rows, every column to the last bit, however the work is cut, shared out, interrupted and decoded.

Every way to label gets every kind of change; a sample of them runs by default, the others with `-m slow`. At equal
threads per actor and equal --batch-chunks nothing else may decide about labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gsvnet
from gsvnet.labeling import worker
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.ray.cluster import connect
from tests.outputs import assert_equal_rows, rows_of, shards_of

NUM_FRAMES, SIZE = 61, (96, 128)
CUTS = (7, 13, 29)  # frames per shard
TWO_SIDED = {"propagation": "two-sided", "uncertain": True}
WAYS = {
    "every frame": {"keyframe_interval": 1},
    "forward": {},
    "two-sided": TWO_SIDED,
    "bf16": {"precision": "bf16", **TWO_SIDED},
    "adaptive": {"min_agreement": 0.55},
    "adaptive, two-sided": {"min_agreement": 0.55, **TWO_SIDED},
    "smooth": {"smooth": 2},
    "smooth, two-sided": {"smooth": 1, **TWO_SIDED},
    "tdnet": {"model": "tests.tiny_tdnet:build_tdnet", "references": "both", "ensemble": "keyframes"},
    "arseg": {"model": "tests.tiny_arseg:build_arseg", "references": "nearest", "motion": "codec"},
    "arseg, proxy": {"model": "tests.tiny_arseg:build_arseg", "references": "both", "motion": "proxy"},
}


def cases(*sample, values=((),)):
    """Parameters: every way to label, with every value; those outside of the sample are slow."""
    return [
        pytest.param(way, *value, marks=[] if (way, *value) in sample else pytest.mark.slow)
        for way in WAYS
        for value in values
    ]


@pytest.fixture(scope="module")
def clips(media, tmp_path_factory):
    """plain: codec motion can be trusted. usual: B-frames and several references. other: of another size."""
    folder = tmp_path_factory.mktemp("clips")

    def write(name, size=SIZE, num_frames=NUM_FRAMES, **parameters):
        options = {"x264-params": ":".join(f"{key}={value}" for key, value in parameters.items())}
        return str(media.write_clip(folder / name, num_frames=num_frames, size=size, options=options))

    return {
        "plain": write("plain.mp4", ref=1, bframes=0, keyint=9, scenecut=0),
        "usual": write("usual.mkv", keyint=6, bframes=2),
        "other": write("other.mp4", size=(72, 96), num_frames=23, ref=1, bframes=0, keyint=9, scenecut=0),
    }


@pytest.fixture(scope="module")
def job(clips, tmp_path_factory):
    """job(way, **changes): a job of one clip in this process, of one shard where nothing else is said."""

    def make(way, **changes):
        if "smooth" in way:
            pytest.importorskip("cv2")
        usual = {
            "videos": (clips["plain" if way == "arseg" else "usual"],),
            "out": str(tmp_path_factory.mktemp("out")),
            "model": "tests.tiny_gsvnet:build_gsvnet",
            "batch_chunks": 3,
            "cpus_per_actor": 1,
            "device": "cpu",
            "precision": "fp32",
            "no_ray": True,
        }
        return LabelConfig(**usual | WAYS[way] | changes)

    return make


@pytest.fixture(scope="module")
def label(job):
    """label(way, **changes): the rows of such a job."""

    return lambda way, **changes: finish(job(way, **changes))


def finish(config):
    """The rows of a job after it ran, or went on."""
    report = gsvnet.label(config)
    assert report.exit_code == 0, report.failures
    return rows_of(config.out)


@pytest.fixture(scope="module")
def whole(label):
    """whole(way): the rows of one shard, labeled by one worker in one go."""
    found = {}

    def rows(way):
        if way not in found:
            found[way] = label(way)
        return found[way]

    return rows


@pytest.mark.parametrize("way", cases(("two-sided",), ("arseg",)))
def test_rows_are_worth_comparing(whole, way):
    rows = whole(way)
    assert rows["frame_index"].to_pylist() == list(range(NUM_FRAMES))
    for column in ("mask", "confidence"):
        assert len(set(rows[column].to_pylist())) > 0.9 * NUM_FRAMES


@pytest.mark.parametrize(
    ("way", "shard_frames"), cases(("two-sided", 13), ("arseg", 29), values=[(cut,) for cut in CUTS])
)
def test_shards_of_any_length(job, whole, way, shard_frames):
    config = job(way, shard_frames=shard_frames)
    rows = finish(config)
    assert len(shards_of(config.out)) > 1
    assert_equal_rows(rows, whole(way))


@pytest.mark.slow
def test_shards_of_any_length_with_the_default_weights(label, drive):
    """Their grids are large enough that kernels, and so last bits, depend on how many images run at once."""
    drawn = {"videos": (str(drive),), "model": "default", "batch_chunks": 4}
    assert_equal_rows(label("two-sided", **drawn, shard_frames=25), label("two-sided", **drawn))


@pytest.mark.parametrize(("way", "threads"), cases(("arseg", 4), values=[(2,), (4,)]))
def test_any_number_of_decoding_threads(label, whole, way, threads, monkeypatch):
    monkeypatch.setattr(worker, "decoder_threads", lambda num_threads, device: threads)
    assert_equal_rows(label(way, shard_frames=29), whole(way))


@pytest.mark.parametrize("way", cases(("arseg",)))
def test_an_interrupted_job_that_goes_on(job, whole, way):
    config = job(way, shard_frames=13)
    finish(config)
    for shard in shards_of(config.out)[::2]:
        shard.unlink()
    assert_equal_rows(finish(config), whole(way))


@pytest.mark.parametrize("way", cases(("two-sided",)))
def test_lanes_for_which_there_is_no_room(label, whole, way, monkeypatch):
    """Every lane has one thread of torch, so two of them, and one of two, label as one does."""
    for most in (2, 1):
        monkeypatch.setattr(worker, "lanes_that_fit", lambda *_, most=most, **__: most)
        assert_equal_rows(label(way, cpus_per_actor=2, shard_frames=7), whole(way))


@pytest.mark.parametrize("way", cases())
def test_other_videos_before_and_after_it(job, label, whole, way, clips):
    own, other = job(way).videos[0], clips["other"]
    alone = label(way, videos=(other,))
    for videos in ((own, other), (other, own)):
        rows = label(way, videos=videos, shard_frames=13)
        is_own = np.array([uri == own for uri in rows["uri"].to_pylist()])
        assert_equal_rows(rows.filter(is_own), whole(way))
        assert_equal_rows(rows.filter(~is_own), alone)


# --- shared out by Ray ---


@pytest.fixture(scope="module")
def ray_of_three():
    """A local Ray with room for three actors, which every `label` of the module joins."""
    with connect(min_cpus=3) as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "num_actors"),
    [("two-sided", 1), ("two-sided", 2), *((way, 3) for way in WAYS), ("adaptive", 2), ("arseg", 1), ("tdnet", 2)],
)
def test_any_number_of_actors(job, whole, ray_of_three, way, num_actors):
    config = job(way, no_ray=False, num_actors=num_actors, shard_frames=7)
    report = gsvnet.label(config)
    assert report.exit_code == 0
    assert 1 <= report.num_actors <= num_actors  # at once: the others may have come too late
    assert_equal_rows(rows_of(config.out), whole(way))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["two-sided", "smooth", "arseg"])
def test_a_job_that_one_process_began_and_actors_of_two_threads_finish(job, label, ray_of_three, way):
    expected = label(way, cpus_per_actor=2)
    config = job(way, cpus_per_actor=2, shard_frames=7)
    finish(config)
    for shard in shards_of(config.out)[::2]:
        shard.unlink()
    on_ray = job(way, cpus_per_actor=2, shard_frames=7, out=config.out, no_ray=False, num_actors=1)
    assert_equal_rows(finish(on_ray), expected)


# --- damage ---


@pytest.fixture(scope="module")
def damaged(clips, tmp_path_factory):
    """damaged(way): the clip of that way with a stretch of random bytes in its middle."""

    def make(clip):
        path = Path(clips[clip])
        data = bytearray(path.read_bytes())
        start, length = len(data) // 2, len(data) // 12
        data[start : start + length] = np.random.default_rng(0).bytes(length)
        copy = tmp_path_factory.mktemp("damaged") / path.name
        copy.write_bytes(data)
        return str(copy)

    return {clip: make(clip) for clip in ("plain", "usual")}


@pytest.mark.parametrize("way", cases(("arseg",)))
def test_a_damaged_video_whatever_the_length_of_shards(job, damaged, way):
    videos = (damaged["plain" if way == "arseg" else "usual"],)

    def rows(**changes):
        config = job(way, videos=videos, **changes)
        gsvnet.label(config)
        return rows_of(config.out)

    expected = rows()
    assert {"ok"} < set(expected["status"].to_pylist())
    for shard_frames in CUTS:
        assert_equal_rows(rows(shard_frames=shard_frames), expected)
