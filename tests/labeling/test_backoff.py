from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from gsvnet.labeling.backoff import BackOff, is_out_of_memory
from gsvnet.models.noise import draw_chunks
from gsvnet.models.segmenter import ChunkBatch, LogitsBatch
from tests.around import build_around

LENGTH = 3


def draw(num_chunks):
    """Chunk c has the pixel value c everywhere."""
    value = torch.arange(num_chunks, dtype=torch.uint8)[:, None, None, None]
    return ChunkBatch(
        first_frame=100,
        num_frames=torch.full((num_chunks,), LENGTH),
        keyframes=value.expand(num_chunks, 3, 4, 6),
        frames=value[:, None].expand(num_chunks, LENGTH, 3, 2, 2),
        valid=torch.ones(num_chunks, LENGTH, dtype=torch.bool),
    )


class Network:
    """Yields position after position of all chunks; more than `fits` chunks raise at position `late`."""

    def __init__(self, *, fits, late=0, error=None):
        self.fits, self.late, self.error = fits, late, error or torch.OutOfMemoryError("CUDA out of memory")
        self.sizes = []

    def __call__(self, chunks):
        num_chunks = len(chunks.valid)
        self.sizes.append(num_chunks)
        for position in range(LENGTH):
            if num_chunks > self.fits and position == self.late:
                raise self.error
            yield LogitsBatch(
                chunk=torch.arange(num_chunks),
                position=torch.full((num_chunks,), position),
                logits=chunks.keyframes[:, :, :2, :2].float(),
                gain=chunks.keyframes[:, :1, :2, :2].float(),
            )


def frames_of(outputs):
    """(chunk, position, value of the logits, value of the gain) of every frame that came, sorted."""
    found = []
    for out in outputs:
        values = zip(out.chunk.tolist(), out.position.tolist(), out.logits[:, 0, 0, 0].tolist(), out.gain[:, 0, 0, 0])
        found += [(c, p, logit, float(gain)) for c, p, logit, gain in values]
    return sorted(found)


@pytest.mark.parametrize("late", range(LENGTH))
@pytest.mark.parametrize(("num_chunks", "fits"), [(8, 8), (8, 4), (8, 3), (5, 2), (7, 1), (1, 1)])
def test_every_frame_comes_once_with_its_own_logits_whenever_memory_runs_out(num_chunks, fits, late):
    outputs = BackOff().segment(draw(num_chunks), Network(fits=fits, late=late))
    assert frames_of(outputs) == [(c, p, c, c) for c in range(num_chunks) for p in range(LENGTH)]


def test_batches_are_halved_until_they_fit_and_stay_so():
    back_off, network = BackOff(), Network(fits=2)
    list(back_off.segment(draw(8), network))
    assert network.sizes == [8, 4, 2, 2, 2, 2]
    assert back_off.most_chunks == 2
    list(back_off.segment(draw(8), network))
    assert network.sizes[6:] == [2, 2, 2, 2]


def test_what_happened_is_said_once():
    back_off = BackOff()
    list(back_off.segment(draw(4), Network(fits=1)))
    assert back_off.take_notes() == [
        "4 chunks at a time were out of memory; 2 from now on",
        "2 chunks at a time were out of memory; 1 from now on",
    ]
    assert back_off.take_notes() == []


def test_threads_that_run_out_of_memory_together_halve_once():
    together = threading.Barrier(2, timeout=60)

    class Both(Network):
        def __call__(self, chunks):
            if len(chunks.valid) == 8:
                together.wait()
            yield from super().__call__(chunks)

    back_off = BackOff()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: frames_of(back_off.segment(draw(8), Both(fits=4))), range(2)))
    assert found == [[(c, p, c, c) for c in range(8) for p in range(LENGTH)]] * 2
    assert back_off.take_notes() == ["8 chunks at a time were out of memory; 4 from now on"]


def test_a_batch_that_fits_runs_whole_and_leaves_no_trace():
    back_off, network = BackOff(), Network(fits=8)
    list(back_off.segment(draw(8), network))
    assert (network.sizes, back_off.most_chunks, back_off.take_notes()) == ([8], None, [])


def test_one_chunk_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        list(BackOff().segment(draw(8), Network(fits=0)))


def test_other_errors_are_not_tried_again():
    network = Network(fits=2, error=RuntimeError("device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        list(BackOff().segment(draw(8), network))
    assert network.sizes == [8]


def test_memory_that_a_cpu_does_not_have_counts_as_well():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**59)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_batches_in_halves_see_the_same_frames_around_them():
    model = build_around(before=3, after=2)
    with torch.inference_mode():
        chunks = draw_chunks(model, height=24, width=32, num_chunks=4, interval=4, device="cpu")
        chunks.valid[1, 2:], chunks.valid[2, 0] = False, False

        def run(part):
            for n, output in enumerate(model.segment(part)):
                if len(part.valid) > 1 and n == 3:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                yield output

        def logits_of(outputs):
            return {(int(out.chunk), int(out.position)): out.logits for out in outputs}

        whole = logits_of(model.segment(chunks))
        parts = logits_of(BackOff().segment(chunks, run, before=3, after=2))
    assert parts.keys() == whole.keys()
    assert len(whole) == 13
    assert all(torch.equal(parts[place], whole[place]) for place in whole)


def two_sided(num_chunks):
    """As `draw`, with the keyframe after each chunk."""
    return replace(
        draw(num_chunks), keyframes=draw(num_chunks + 1).keyframes, next_valid=torch.arange(num_chunks) % 2 == 0
    )


def test_which_keyframe_a_frame_draws_on_survives_halving():
    def run(chunks):
        for c in range(len(chunks.valid)):
            yield LogitsBatch(
                chunk=torch.full((LENGTH,), c),
                position=torch.arange(LENGTH),
                logits=torch.zeros(LENGTH, 1, 1, 1),
                keyframe=torch.where((torch.arange(LENGTH) == 2) & chunks.next_valid[c], 7, 3),
                sides=torch.arange(LENGTH, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 1, 1),
            )
            if len(chunks.valid) > 1 and c == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")

    outputs = list(BackOff().segment(two_sided(3), run))
    found = {(c, p): x for o in outputs for c, p, x in zip(o.chunk.tolist(), o.position.tolist(), o.keyframe.tolist())}
    assert {key for key, keyframe in found.items() if keyframe == 7} == {(0, 2), (2, 2)}
    assert all(torch.equal(o.sides[:, 1, 0, 0], o.position) for o in outputs)
    assert len(found) == 3 * LENGTH
