from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gsvnet.classes import CAMVID, ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.evaluation.camvid import open_camvid
from gsvnet.evaluation.clip import label_frames
from gsvnet.evaluation.dataset import Clip, ScoredClips
from gsvnet.evaluation.protocol import EvaluationResult, evaluate
from gsvnet.evaluation.scores import plan_chunks
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import FrameNeeds, LogitsBatch, Normalise, PerFrame, SizeRule


def perfect_logits(images: torch.Tensor) -> torch.Tensor:
    """One-hot logits (..., 11, H, W) of what the red channel of images (..., 3, H, W) tells; void becomes sky."""
    ids = (images[..., 0, :, :].long() // 20) % 11
    return torch.nn.functional.one_hot(ids, 11).movedim(-1, -3).float()


class Reads(torch.nn.Module):
    """Labels every frame perfectly (`held` False), or keeps the keyframe's labels."""

    def __init__(self, *, held: bool = False, needs: dict | None = None, classes=CAMVID) -> None:
        super().__init__()
        self.held, self.more_needs, self.classes = held, needs or {}, classes

    def needs(self, height, width):
        return FrameNeeds(keyframe_size=(height, width), **self.more_needs)

    def segment(self, chunks):
        chunk, position = chunks.valid.nonzero(as_tuple=True)
        images = chunks.keyframes[chunk] if self.held else chunks.frames[chunk, position]
        yield LogitsBatch(chunk=chunk, position=position, logits=perfect_logits(images))


class Forgets(Reads):
    """Leaves out position 1."""

    def segment(self, chunks):
        for batch in super().segment(chunks):
            keep = batch.position != 1
            yield LogitsBatch(chunk=batch.chunk[keep], position=batch.position[keep], logits=batch.logits[keep])


def evaluate_camvid(segmenter, root: Path, *, split: str, keyframe_interval: int = 5, **options) -> EvaluationResult:
    return evaluate(segmenter, open_camvid(root, split, keyframe_interval=keyframe_interval), **options)


def _sliding_edge(num_frames: int, width: int = 20) -> np.ndarray:
    """Truths (N, 4, width): class 8 left of an edge at column 10 - i in frame i, class 3 elsewhere."""
    columns = np.arange(width)[None, None]
    edge = 10 - np.arange(num_frames)[:, None, None]
    return np.where(columns < edge, 8, 3) * np.ones((1, 4, 1), int)


@pytest.fixture
def clip(tmp_path, write_camvid) -> Path:
    return write_camvid(tmp_path / "clip", _sliding_edge(7))


def _held_miou(frames: range, distance: int) -> float:
    """In percent: at frame t the edge is at 10 - t, the labels' edge at 10 - t + distance."""
    hits_8, union_8 = sum(10 - t for t in frames), sum(10 - t + distance for t in frames)
    hits_3, union_3 = sum(10 + t - distance for t in frames), sum(10 + t for t in frames)
    return 50 * (hits_8 / union_8 + hits_3 / union_3)


def test_a_perfect_network_scores_100_at_every_distance(clip):
    result = evaluate_camvid(Reads(), clip, split="val", keyframe_interval=4).to_dict()
    assert result["per_distance"] == [100.0] * 4
    assert (result["avg_miou"], result["avg_miou_pooled"], result["min_miou"]) == (100.0,) * 3
    assert result["num_frames"] == 4  # frames 3 to 6: those that have a keyframe at every distance


def test_holding_loses_exactly_what_moved(clip):
    result = evaluate_camvid(Reads(held=True), clip, split="val", keyframe_interval=4).to_dict()
    expected = [_held_miou(range(3, 7), distance) for distance in range(4)]
    assert result["per_distance"] == pytest.approx(expected, abs=1e-3)
    assert result["hold"]["per_distance"] == result["per_distance"]
    assert result["avg_miou"] == pytest.approx(sum(expected) / 4, abs=1e-3)
    assert result["min_miou"] == result["per_distance"][3]
    assert result["per_frame"] == result["per_distance"][0] == 100.0


def test_hold_is_scored_beside_a_network_that_propagates(clip):
    result = evaluate_camvid(Reads(), clip, split="val", keyframe_interval=3).to_dict()
    expected = [_held_miou(range(2, 7), distance) for distance in range(3)]
    assert result["hold"]["per_distance"] == pytest.approx(expected, abs=1e-3)


def test_pooled_miou_is_of_one_matrix_over_all_distances(clip):
    result = evaluate_camvid(Reads(held=True), clip, split="val", keyframe_interval=2)
    summed = result.distances[0].counts + result.distances[1].counts
    np.testing.assert_array_equal(result.pooled.counts, summed)
    road = summed[3, 3] / (summed[3].sum() + summed[:, 3].sum() - summed[3, 3])
    assert result.to_dict()["per_class"]["road"] == pytest.approx(100 * road, abs=1e-3)


def test_classes_that_never_occur_are_null_and_listed(clip):
    result = evaluate_camvid(Reads(), clip, split="val", keyframe_interval=2).to_dict()
    assert result["per_class"]["car"] == 100.0
    assert result["per_class"]["sky"] is None
    assert set(result["absent_classes"]) == set(CAMVID.identifiers) - {"car", "road"}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("batch_chunks", [1, 3, 7, 50])
def test_the_batch_size_does_not_matter(clip, batch_chunks):
    result = evaluate_camvid(Reads(held=True), clip, split="val", keyframe_interval=3, batch_chunks=batch_chunks)
    expected = [_held_miou(range(2, 7), distance) for distance in range(3)]
    assert result.per_distance == pytest.approx(expected, abs=1e-3)


def test_void_is_not_scored(tmp_path, write_camvid):
    truths = _sliding_edge(4)
    truths[:, :2] = 11
    result = evaluate_camvid(Reads(), write_camvid(tmp_path / "c", truths), split="val", keyframe_interval=2)
    assert result.avg_miou == 100.0
    assert int(result.pooled.counts.sum()) == 2 * 3 * 2 * 20


def test_stills_are_scored_per_frame_and_the_result_says_so(tmp_path, write_camvid):
    root = write_camvid(tmp_path / "stills", _sliding_edge(5), split="test", step=30)
    result = evaluate_camvid(Reads(held=True), root, split="test", keyframe_interval=5).to_dict()
    assert (result["per_distance"], result["num_frames"], result["keyframe_interval"]) == ([100.0], 5, 1)
    assert "hold" not in result
    assert "only distance 0 is scored" in result["notes"][0]
    assert evaluate_camvid(Reads(), root, split="test", keyframe_interval=1).notes == ()


def test_small_frames_come_at_the_size_asked_for(clip):
    sizes = []

    class Small(Reads):
        def segment(self, chunks):
            sizes.append((tuple(chunks.keyframes.shape), tuple(chunks.frames.shape), chunks.frames.dtype))
            chunk, position = chunks.valid.nonzero(as_tuple=True)
            yield LogitsBatch(chunk=chunk, position=position, logits=perfect_logits(chunks.keyframes[chunk]))

    for resize, dtype in (("area", torch.uint8), ("exact", torch.float32)):
        network = Small(needs={"frame_size": (2, 10), "resize": resize})
        evaluate_camvid(network, clip, split="val", keyframe_interval=2, batch_chunks=4)
        assert sizes[-2] == ((4, 3, 4, 20), (4, 2, 3, 2, 10), dtype)


def test_bf16_touches_the_network_and_not_its_pixels(clip):
    seen = []

    class Sees(Reads):
        def segment(self, chunks):
            seen.append((chunks.frames.clone(), (torch.eye(2) @ torch.eye(2)).dtype))
            yield from super().segment(chunks)

    for precision in ("fp32", "bf16"):
        network = Sees(held=True, needs={"frame_size": (3, 7)})
        evaluate_camvid(network, clip, split="val", keyframe_interval=2, batch_chunks=7, precision=precision)
    (pixels, dtype), (bf16_pixels, bf16_dtype) = seen
    assert torch.equal(pixels, bf16_pixels)
    assert (dtype, bf16_dtype) == (torch.float32, torch.bfloat16)
    with pytest.raises(ConfigError, match="'fp8'"):
        evaluate_camvid(Reads(), clip, split="val", precision="fp8")


def test_gsvnet_at_distance_zero_is_its_keyframe_network_and_propagation_is_scored(tmp_path, write_camvid):
    truths = _sliding_edge(6, width=48).repeat(8, axis=1)
    root = write_camvid(tmp_path / "c", truths)
    torch.manual_seed(0)
    network, pixels = torch.nn.Conv2d(3, 11, 4, 4), Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    video = GSVNet(
        network,
        Propagation(num_classes=11),
        classes=CAMVID,
        keyframe_normalise=pixels,
        frame_normalise=pixels,
        size_rule=SizeRule(strides=(4,)),
    ).eval()
    images = PerFrame(network, classes=CAMVID, normalise=pixels)
    propagated = evaluate_camvid(video, root, split="val", keyframe_interval=3)
    alone = evaluate_camvid(images, root, split="val", keyframe_interval=3)
    assert propagated.per_distance[0] == alone.per_distance[0]
    assert len(set(alone.per_distance)) == 1
    assert propagated.distances[1].counts.sum() == propagated.distances[0].counts.sum()
    np.testing.assert_array_equal(propagated.held[2].counts, alone.held[2].counts)


def test_progress_counts_to_the_end(clip):
    calls = []
    progress = lambda done, total: calls.append((done, total))  # noqa: E731
    evaluate_camvid(Reads(), clip, split="val", keyframe_interval=2, batch_chunks=3, progress=progress)
    assert calls == [(3, 7), (6, 7), (7, 7)]


def test_a_network_that_leaves_out_frames_is_refused(clip):
    with pytest.raises(ModelError, match="left out frames"):
        evaluate_camvid(Forgets(), clip, split="val", keyframe_interval=3)


def test_other_classes_are_refused(clip):
    classes = ClassSet(name="two", names=("road", "kerb"), colours=((0, 0, 0), (1, 1, 1)))
    with pytest.raises(ModelError, match="the model has the classes road, kerb"):
        evaluate_camvid(Reads(classes=classes), clip, split="val")


def test_an_interval_beyond_the_clip_is_refused(clip):
    with pytest.raises(ConfigError, match="8 is more than the clip's 7 frames"):
        evaluate_camvid(Reads(), clip, split="val", keyframe_interval=8)
    with pytest.raises(ConfigError, match="interval 0"):
        evaluate_camvid(Reads(), clip, split="val", keyframe_interval=0)


def test_images_of_two_sizes_are_refused(tmp_path, write_camvid):
    root = write_camvid(tmp_path / "c", _sliding_edge(2))
    other = write_camvid(tmp_path / "d", _sliding_edge(2, width=24))
    for kind, suffix in (("images", "webp"), ("labels", "png")):
        path = Path(kind) / "val" / f"drive_00102.{suffix}"
        (root / path).write_bytes((other / path).read_bytes())
    with pytest.raises(ConfigError, match=r"drive_00102.*\(4, 24\).*\(4, 20\)"):
        evaluate_camvid(Reads(), root, split="val", keyframe_interval=2)


# --- sparse labels ---


def _sparse(clip: Clip, *scored: int, interval: int) -> ScoredClips:
    clip = Clip(name="sparse", frames=clip.frames, scored=scored)
    return ScoredClips(dataset="camvid", split="val", classes=CAMVID, clips=(clip,), keyframe_interval=interval)


@pytest.fixture
def frames(clip) -> Clip:
    return open_camvid(clip, "val", keyframe_interval=1).clips[0]


def test_sparse_labels_score_the_same_frames_at_every_distance(frames):
    result = evaluate(Reads(held=True), _sparse(frames, 3, 6, interval=3))
    expected = [
        50 * (sum(10 - t for t in (3, 6)) / sum(10 - t + d for t in (3, 6)))
        + 50 * sum(10 + t - d for t in (3, 6)) / sum(10 + t for t in (3, 6))
        for d in range(3)
    ]
    assert result.per_distance == pytest.approx(expected, abs=1e-3)
    assert result.num_frames == 2
    assert [int(matrix.counts.sum()) for matrix in result.distances] == [2 * 4 * 20] * 3


def test_a_frame_alone_in_a_clip_scores_as_it_does_among_others(frames):
    dense = evaluate(Reads(held=True), _sparse(frames, *range(3, 7), interval=4))
    alone = [evaluate(Reads(held=True), _sparse(frames, t, interval=4)) for t in range(3, 7)]
    for distance, matrix in enumerate(dense.distances):
        np.testing.assert_array_equal(matrix.counts, sum(result.distances[distance].counts for result in alone))


def test_chunks_start_only_where_a_scored_frame_needs_them():
    spans = [(chunk.first_frame, chunk.num_frames) for chunk in plan_chunks([4, 19], 3)]
    assert spans == [(2, 3), (3, 2), (4, 1), (17, 3), (18, 2), (19, 1)]
    assert len(plan_chunks([19], 5)) == 5
    assert [(c.first_frame, c.num_frames) for c in plan_chunks([2, 3], 3)] == [(0, 3), (1, 3), (2, 2), (3, 1)]


def test_frames_that_lead_to_no_scored_one_are_not_labeled(frames):
    seen = []

    class Sees(Reads):
        def segment(self, chunks):
            seen.extend(chunks.keyframes[:, 2, 0, 0].tolist())
            yield from super().segment(chunks)

    evaluate(Sees(), _sparse(frames, 4, interval=3))
    assert seen == [2, 3, 4]


# --- labels in display order ---


@pytest.mark.parametrize(("interval", "batch_chunks"), [(1, 2), (3, 1), (3, 2), (7, 4), (9, 1)])
def test_every_frame_comes_in_order_with_a_keyframe_every_interval(frames, interval, batch_chunks):
    held = list(label_frames(frames, Reads(held=True), interval=interval, batch_chunks=batch_chunks))
    edges = [int((labels[0] == 8).sum()) for labels in held]
    assert edges == [10 - t // interval * interval for t in range(7)]


def test_drop_is_per_frame_minus_the_mean_over_distances(clip):
    result = evaluate_camvid(Reads(held=True), clip, split="val", keyframe_interval=4).to_dict()
    assert result["drop"] == pytest.approx(100 - sum(result["per_distance"]) / 4, abs=1.1e-3)
    assert evaluate_camvid(Reads(), clip, split="val", keyframe_interval=4).drop == 0
