from __future__ import annotations

import inspect

import pytest

from gsvnet.errors import ConfigError
from gsvnet.labeling.calibrate import CPU_CHUNKS
from gsvnet.labeling.config import LabelConfig


def config(**changes):
    return LabelConfig(**{"videos": ("a.mp4",), "out": "out"} | changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"videos": ()}, "no input"),
        ({"demo": True}, "--demo labels its own"),
        ({"keyframe_interval": 0}, "--keyframe-interval 0: at least 1"),
        ({"min_agreement": 1.5}, "--min-agreement 1.5: above 0 and at most 1"),
        ({"min_agreement": 0.9, "keyframe_interval": 12}, "leave out --keyframe-interval"),
        ({"min_agreement": 0.9, "compile": True}, "--compile compiles for shapes that stay"),
        ({"propagation": "forward", "references": "both"}, "--propagation forward and --references both differ"),
        ({"uncertain": True}, "--uncertain compares labels from both sides; it needs --propagation two-sided"),
        ({"shard_frames": 0}, "--shard-frames 0: at least 1"),
        ({"cpus_per_actor": 0}, "--cpus-per-actor 0: at least 1"),
        ({"batch_chunks": 0}, "--batch-chunks 0: at least 1"),
        ({"num_actors": 0}, "--num-actors 0: at least 1"),
        ({"gpus_per_actor": -0.5}, "--gpus-per-actor -0.5: must be finite and at least 0"),
        ({"gpus_per_actor": float("nan")}, "--gpus-per-actor nan: must be finite"),
        ({"gpus_per_actor": float("inf")}, "--gpus-per-actor inf: must be finite"),
        ({"shard_seconds": 0.0}, "--shard-seconds 0.0: must be positive"),
        ({"shard_seconds": float("inf")}, "--shard-seconds inf: must be positive and finite"),
        ({"shard_seconds": float("nan")}, "--shard-seconds nan: must be positive"),
        ({"array_index": 1}, "--array-index and --array-count go together"),
        ({"array_count": 0}, "--array-count 0: at least 1"),
        ({"array_index": 4, "array_count": 4}, "--array-index 4: must be within 0..3"),
        ({"gpu_hour_price": -1.0}, "--gpu-hour-price -1.0: must be finite and at least 0"),
    ],
    ids=str,
)
def test_values_that_cannot_be_are_named_by_their_flag(changes, problem):
    with pytest.raises(ConfigError) as refused:
        config(**changes)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"out": ""}, "no output; give --out"), ({"array_count": 4}, "--array-index and --array-count go together")],
)
def test_a_plan_can_do_without_what_labeling_needs(changes, problem):
    with pytest.raises(ConfigError, match=problem):
        config(**changes).check_for_labeling()


@pytest.mark.parametrize(
    ("text", "size"), [("full", None), ("360x480", (360, 480)), ("1x1", (1, 1)), ("01x10", (1, 10))]
)
def test_mask_sizes_are_height_by_width(text, size):
    assert config(mask_size=text).mask_height_width == size


@pytest.mark.parametrize("text", ["", "360", "0x480", "360x00", "-1x5", "360X480", "360x480x3", "999999x1", "3.5x4"])
def test_other_mask_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="must be full or HEIGHTxWIDTH"):
        config(mask_size=text)


def test_the_number_of_chunks_may_be_left_to_the_program():
    assert config().batch_chunks == "auto"
    assert f"auto: {CPU_CHUNKS} on a CPU" in inspect.getsource(LabelConfig)
    assert config(batch_chunks=4).batch_chunks == 4


def test_credentials_in_options_are_not_shown():
    shown = repr(config(storage_options={"secret": "hush"}, video_options={"key": "hush"}))
    assert "hush" not in shown


def test_the_demo_needs_an_output_only():
    assert LabelConfig(demo=True, out="out").videos == ()
