from __future__ import annotations

import json
from pathlib import Path

import pytest

import gsvnet
from gsvnet.errors import WorkerError
from gsvnet.labeling.calibrate import (
    CPU_CHUNKS,
    CPU_CHUNKS_TWO_SIDED,
    MOST_CHUNKS,
    Calibration,
    Trial,
    default_cpu_chunks,
    grow_batch,
    measure_batch_chunks,
    settle_batch_chunks,
)
from gsvnet.models.checkpoints import load_model
from gsvnet.store.job import read_settled, write_settled
from tests.around import build_around
from tests.tiny_arseg import build_arseg

CALIBRATION = Calibration(height=72, width=96, keyframe_interval=3, precision="fp32")


def trials(**results):
    """What `grow_batch` is given: chunks -> (chunks per second, share of memory); other sizes do not fit."""
    return lambda num_chunks: Trial(**results[f"n{num_chunks}"]) if f"n{num_chunks}" in results else None


def fast(chunks_per_s, memory_share=0.1):
    return {"chunks_per_s": chunks_per_s, "memory_share": memory_share}


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ({"n1": fast(10)}, 1),
        ({"n1": fast(10), "n2": fast(10.4)}, 1),
        ({"n1": fast(10), "n2": fast(11), "n4": fast(11.5), "n8": fast(90)}, 2),
        ({"n1": fast(10), "n2": fast(20), "n4": fast(40, memory_share=0.6)}, 2),
        ({"n1": fast(10, memory_share=0.9)}, 1),
        ({f"n{2**k}": fast(2**k) for k in range(9)}, MOST_CHUNKS),
    ],
    ids=["no room", "no gain", "gain ends", "memory ends", "one is always taken", "most"],
)
def test_batches_grow_while_they_fit_and_pay(results, best):
    assert grow_batch(trials(**results), memory_share=0.5) == best


def test_a_chunk_that_does_not_fit_at_all_is_an_error_that_says_what_to_do():
    with pytest.raises(WorkerError, match="take a smaller --keyframe-interval"):
        grow_batch(trials(), memory_share=0.5)


def test_a_number_that_was_given_is_used_and_nothing_is_stored(label_config):
    config = label_config(batch_chunks=5)
    assert settle_batch_chunks(config, "cuda", lambda: pytest.fail("measured")) == 5
    assert not Path(config.out).exists()


def test_on_a_cpu_nothing_is_measured(label_config):
    config = label_config(batch_chunks="auto")
    assert settle_batch_chunks(config, "cpu", lambda: pytest.fail("measured")) == CPU_CHUNKS


def test_networks_that_run_the_next_keyframe_too_take_more_chunks_at_once(label_config):
    cpu_chunks = [default_cpu_chunks(build_arseg(references), 5) for references in ("before", "nearest")]
    assert cpu_chunks == [CPU_CHUNKS, CPU_CHUNKS_TWO_SIDED]
    config = label_config(batch_chunks="auto")
    assert settle_batch_chunks(config, "cpu", lambda: 0, cpu_chunks=cpu_chunks[1]) == CPU_CHUNKS_TWO_SIDED
    assert settle_batch_chunks(config, "cpu", lambda: 0) == CPU_CHUNKS_TWO_SIDED  # settled


@pytest.mark.parametrize(
    ("before", "after", "interval", "chunks"), [(3, 0, 5, 5), (3, 3, 5, 10), (3, 3, 1, 48), (1, 0, 12, 1)]
)
def test_networks_that_look_around_a_batch_take_eight_times_as_many_frames_at_once(before, after, interval, chunks):
    assert default_cpu_chunks(build_around(before, after), interval) == chunks


def test_what_the_first_run_measured_holds_for_all_later_ones(label_config):
    config = label_config(batch_chunks="auto")
    assert settle_batch_chunks(config, "cuda", lambda: 16) == 16
    assert settle_batch_chunks(config, "cuda", lambda: pytest.fail("measured again")) == 16
    assert settle_batch_chunks(config, "cpu", lambda: 0) == CPU_CHUNKS


def test_of_two_drivers_that_measure_at_once_the_first_decides(label_config):
    config = label_config(batch_chunks="auto")

    def measure():
        write_settled(config.out, "cuda", {"batch_chunks": 4})  # the other driver is done meanwhile
        return 16

    assert settle_batch_chunks(config, "cuda", measure) == 4


def test_the_request_is_in_the_fingerprint_and_the_answer_beside_it(label_config):
    config = label_config(batch_chunks="auto")
    assert gsvnet.label(config).exit_code == 0
    assert json.loads((Path(config.out) / "_job.json").read_text())["fields"]["batch_chunks"] == "auto"
    assert read_settled(config.out, "cpu") == {"batch_chunks": CPU_CHUNKS}


def test_a_later_run_labels_with_what_was_settled(label_config, monkeypatch):
    config = label_config(batch_chunks="auto")
    write_settled(config.out, "cpu", {"batch_chunks": 3})
    seen = []
    segment = gsvnet.models.gsvnet.GSVNet.segment

    def watch(network, chunks):
        seen.append(len(chunks.valid))
        return segment(network, chunks)

    monkeypatch.setattr(gsvnet.models.gsvnet.GSVNet, "segment", watch)
    gsvnet.label(config)
    assert set(seen[-7:]) == {3}


@pytest.mark.gpu
def test_a_gpu_is_measured_and_left_free(tiny_model):
    import torch

    model = load_model(str(tiny_model))
    assert 1 <= measure_batch_chunks(model, CALIBRATION) <= MOST_CHUNKS
    assert torch.cuda.memory_allocated() < 2**20
    assert next(model.parameters()).device.type == "cpu"
