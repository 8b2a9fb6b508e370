"""Videos of every theme through a whole job: rows, times and masks in Parquet, or a failure that says why."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gsvnet
from tests.outputs import rows_of
from tests.zoo.catalogue import THEMES, ZOO
from tests.zoo.exhibit import Frames, Refused

LABELED = (
    "hevc_open_gop_mkv", "vp9_hidden_webm", "cmaf_mp4", "fragmented_mfra_mp4", "b_frames_m2ts", "gap_ts", "wrap_ts",
    "edit_again_mp4", "turned_90_mp4", "grows_mp4", "gray_limited_mkv", "top_field_first_mp4", "late_video_mkv",
    "chapters_mov",
)  # fmt: skip
REFUSED = ("raw_h264", "picture_png", "mirrored_mp4", "ictcp_mp4", "encrypted_mp4")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    for name in (*LABELED, *REFUSED):
        ZOO[name].make(folder / ZOO[name].file)
    return {name: str(folder / ZOO[name].file) for name in (*LABELED, *REFUSED)}


@pytest.fixture(scope="module")
def outs(paths, tiny_model, tmp_path_factory):
    """Two outputs of the same videos: in shards of at most 6 frames, and in one shard each."""
    folder = tmp_path_factory.mktemp("outs")
    for name, shard_frames in (("short", 6), ("whole", 1000)):
        config = gsvnet.LabelConfig(
            videos=tuple(paths.values()),
            out=str(folder / name),
            model=str(tiny_model),
            keyframe_interval=4,
            shard_frames=shard_frames,
            batch_chunks=2,
            cpus_per_actor=1,
            no_ray=True,
        )
        assert gsvnet.label(config).exit_code == 3  # some are refused
    return folder


@pytest.fixture(scope="module")
def rows(outs, paths):
    """rows(name, out): rows of an exhibit, as dicts in frame order."""
    tables = {out: rows_of(outs / out).to_pylist() for out in ("short", "whole")}
    return lambda name, out="short": [row for row in tables[out] if row["uri"].endswith(f"/{ZOO[name].file}")]


@pytest.mark.parametrize("name", LABELED)
def test_every_frame_has_a_row_at_its_time(rows, name):
    expect = ZOO[name].expect
    assert isinstance(expect, Frames)
    found = rows(name)
    assert [row["frame_index"] for row in found] == list(range(len(expect.times_s)))
    assert {row["status"] for row in found} == {"ok"}
    np.testing.assert_allclose([row["time_s"] for row in found], [float(t) for t in expect.times_s], atol=1e-3)


@pytest.mark.parametrize("name", LABELED)
def test_every_frame_has_a_mask_of_the_upright_size(outs, rows, name):
    height, width = ZOO[name].expect.size
    found = rows(name)
    masks = gsvnet.open_labels(str(outs / "short")).labels_in_range(found[0]["video"], 0, len(found))
    assert masks.shape == (len(found), height, width)
    assert [sum(row["pixels"].values()) for row in found] == [height * width] * len(found)


@pytest.mark.parametrize("name", LABELED)
def test_masks_do_not_depend_on_where_shards_begin(rows, name):
    assert [row["mask"] for row in rows(name)] == [row["mask"] for row in rows(name, "whole")]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_a_recorded_failure(outs, paths, name):
    expect = ZOO[name].expect
    assert isinstance(expect, Refused)
    records = [json.loads(path.read_text()) for path in outs.glob("short/_failed/*/video.json")]
    [message] = [record["message"] for record in records if record["uri"] == paths[name]]
    assert message == f"{paths[name]}: {expect.message}"


def test_every_theme_is_there():
    chosen = set(LABELED) | set(REFUSED)
    assert {theme for theme, exhibits in THEMES.items() if {e.name for e in exhibits} & chosen} == set(THEMES)
