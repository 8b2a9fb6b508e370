"""Every isolated row really runs, on tiny frames, and its figures are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsvnet.benchmark import keyframe, masks, stages, upsampling
from gsvnet.benchmark.compute import measure_compute, record_convolutions
from gsvnet.benchmark.masks import compare_with_png, decode_png, encode_png, find_true_masks
from gsvnet.benchmark.material import read_chunks
from gsvnet.benchmark.running import run_model
from gsvnet.store.codec import encode_mask


@pytest.fixture(autouse=True)
def _small_models_only(monkeypatch, tiny_network):
    monkeypatch.setattr(keyframe, "load_default", lambda: tiny_network)  # once is enough
    monkeypatch.setattr(stages, "WRITTEN_ROWS", 5)


def test_bytes_and_losslessness_of_masks_are_those_of_the_codecs():
    mask = np.zeros((32, 48), np.uint8)
    mask[8:20, 10:30] = 3
    figures = compare_with_png([mask, mask], rounds=1)
    assert figures["bytes"] == len(encode_mask(mask))
    assert figures["png_bytes"] == len(encode_png(mask))
    assert figures["lossless"] is True
    assert np.array_equal(decode_png(encode_png(mask)), mask)


def test_mask_rows(tiny_setting):
    rows = {row.name: row for row in masks.measure_masks(tiny_setting)}
    assert list(rows) == ["mask_bytes", "mask_encode", "mask_decode"]
    assert set(rows["mask_bytes"].detail["masks"]) >= {"network", "drawn truth"}
    assert rows["mask_decode"].ratio == pytest.approx(1 / rows["mask_decode"].seconds["ours"])


def test_true_masks_of_real_drives_are_found(data_dir):
    masks = find_true_masks(data_dir)
    assert {name: found[0].shape for name, found in masks.items()} == {
        "CamVid val truth": (360, 480),
        "Cityscapes train truth": (1024, 2048),
    }


def test_upsampling_row_compares_labels_in_both_corner_conventions(tiny_setting):
    row = upsampling.measure_upsampling(tiny_setting)
    assert row.detail["differing"] == 0
    unclear = [grid["unclear_pixels"] for grids in row.detail["align_corners"].values() for grid in grids.values()]
    assert f"{sum(unclear)} pixels too close to call" in row.detail["note"]
    assert set(row.detail["align_corners"]) == {"true", "false"}
    assert row.ratio == pytest.approx(row.seconds["argmax"] / row.seconds["ours"])


def test_keyframe_row_compares_labels_and_miou(tiny_setting):
    row = keyframe.measure_keyframe(tiny_setting)
    figures = row.detail["model"]
    assert set(figures["seconds"]) == {"eager fp32", "prepared fp32", "prepared bf16"}
    assert 0.5 < figures["agreement"] <= 1
    assert set(figures["miou"]) == {"eager fp32", figures["fastest"]}


def test_stages_add_up_to_the_frame(tiny_setting):
    row = stages.measure_stages(tiny_setting)
    table = {stage["stage"]: stage for stage in row.detail["stages"]}
    assert list(table) == [*stages.BEFORE, *stages.NETWORKS, *stages.AFTER]
    for precision, seconds in row.seconds.items():
        assert sum(stage[f"{precision}_ms"] for stage in table.values()) == pytest.approx(1000 * seconds)
        assert sum(stage[f"{precision}_share"] for stage in table.values()) == pytest.approx(1)


def test_the_share_of_networks_is_that_of_the_faster_precision():
    around = dict.fromkeys(("decode", "resize", "upsample", "encode", "write"), 0.01)
    row = stages.summarise(
        {p: {**around, **dict.fromkeys(stages.NETWORKS, s)} for p, s in (("fp32", 0.03), ("bf16", 0.01))}
    )
    assert row.ratio == pytest.approx(0.5)
    assert "in bf16" in row.detail["note"]


def test_times_of_two_clocks_are_not_said_to_be_one():
    parts = dict.fromkeys((*stages.BEFORE, *stages.NETWORKS, *stages.AFTER), 0.01)
    notes = [stages.summarise({"bf16": parts}, device=device).detail["note"] for device in ("cpu", "cuda")]
    assert "all cores added up" in notes[0]
    assert "by the clock" in notes[1]


def test_timed_parts_leave_the_network_as_it_was(tiny_setting, tiny_network):
    before = {name: set(part.__dict__) for name, part in tiny_network.named_modules()}
    stages.measure_networks(tiny_setting, _chunks(tiny_setting), precision="fp32")
    assert {name: set(part.__dict__) for name, part in tiny_network.named_modules()} == before


def test_without_cuda_the_gpu_row_is_skipped(tiny_setting):
    row = measure_compute(tiny_setting)
    assert row.ratio is None
    assert "cuda" in row.skipped.lower() or "cpu" in row.skipped


def test_convolutions_alone_are_all_those_of_the_network(tiny_setting, tiny_network):
    chunks = _chunks(tiny_setting)
    count = [0]
    convolutions = [part for part in tiny_network.modules() if isinstance(part, torch.nn.Conv2d)]
    hooks = [c.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1)) for c in convolutions]
    run_model(tiny_network, chunks, precision="fp32")
    for hook in hooks:
        hook.remove()
    assert record_convolutions(tiny_network, chunks, precision="fp32", device="cpu")() == count[0] > 0


def _chunks(setting):
    return read_chunks(setting.video, setting.model, interval=5, num_chunks=2, threads=1).chunks
