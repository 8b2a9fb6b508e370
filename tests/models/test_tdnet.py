from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gsvnet.benchmark.streaming import stream_labels
from gsvnet.classes import CAMVID
from gsvnet.errors import ModelError
from gsvnet.models.frames_in_batch import FramesInBatch
from gsvnet.models.segmenter import ChunkBatch
from gsvnet.models.sub_network import SubNetwork, attend
from gsvnet.models.tdnet import TDNet, check_settings
from gsvnet.models.transfer import with_ensemble, with_references
from gsvnet.models.windows import choose_windows
from gsvnet.nn.spatial_norm import SpatialLayerNorm
from tests.models.live_bytes import LiveBytes
from tests.tiny_tdnet import CHANNELS, MAP_SIZE, TinyTrunk, build_tdnet, cut_batch, draw_video

FRAMES = 11
WINDOWED = ("before", "nearest", "both")


@pytest.fixture(scope="module")
def video() -> Tensor:
    return draw_video(FRAMES)


@torch.inference_mode()
def label(model: TDNet, batch: ChunkBatch) -> dict[int, Tensor]:
    """Logits of each frame, by index."""
    found: dict[int, Tensor] = {}
    for output in model.segment(batch):
        indices = batch.index[output.chunk, output.position].tolist()
        assert found.keys().isdisjoint(indices)
        found |= dict(zip(indices, output.logits))
    return dict(sorted(found.items()))


@torch.inference_mode()
def label_alone(model: TDNet, image: Tensor, turn: int) -> Tensor:
    """By hand: by sub-network `turn`, without any other frame."""
    sub = model.sub(turn)
    return sub.label(sub.value(sub.trunk.extract(model.normalise(image[None]))))[0]


@torch.inference_mode()
def label_by_hand(model: TDNet, video: Tensor, index: int, turn: int, windows: list[tuple[int, ...]]) -> Tensor:
    """By sub-network `turn`, from the frames of the windows, one by one."""

    def extract(frame: int, number: int) -> Tensor:
        return model.sub(number).trunk.extract(model.normalise(video[frame][None]))

    feature, sub = extract(index, turn), model.sub(turn)
    gathered = []
    for window in windows:
        memories = [model.sub(frame).remember(extract(frame, frame), stride=model.memory_stride) for frame in window]
        gathered.append(sub.gather(sub.query(feature), memories))
    return sub.label(sub.value(feature), sum(gathered) / len(gathered) if gathered else None)[0]


def agree(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-5) and torch.equal(a.argmax(0), b.argmax(0))


# --- equal to the authors' way ---


@pytest.mark.parametrize("num_sub_networks", [2, 3, 4])
def test_a_video_is_labeled_as_the_authors_loop_labels_it(video, num_sub_networks):
    model = build_tdnet(num_sub_networks=num_sub_networks)
    with torch.inference_mode():
        streamed = list(stream_labels(model, video))
    found = label(model, cut_batch(video, 0, FRAMES))
    assert list(found) == list(range(FRAMES))
    assert all(agree(found[index], wanted) for index, wanted in enumerate(streamed))


def test_memories_count(video):
    """Were attention all alike, or the memories nothing beside the frame's own value, no test here would tell much."""
    before, none = (label(build_tdnet(way), cut_batch(video, 0, FRAMES)) for way in ("before", "none"))
    changed = [(before[i].argmax(0) != none[i].argmax(0)).float().mean() for i in range(FRAMES)]
    assert changed[:2] == [0, 0]
    assert min(changed[2:]) > 0.05


def test_each_place_gathers_something_else(video):
    sub, pixels = build_tdnet().sub(0), build_tdnet().normalise(video[:1])
    with torch.inference_mode():
        memory = sub.remember(sub.trunk.extract(pixels), stride=3)
        found = attend(sub.query(sub.trunk.extract(pixels)), memory.key, memory.value)
    assert found.flatten(2).std(2).mean() > 0.2


# --- batches ---


@pytest.mark.parametrize("references", ["none", *WINDOWED])
@pytest.mark.parametrize("ensemble", ["none", "keyframes", "all"])
def test_labels_do_not_depend_on_where_batches_are_cut(video, references, ensemble):
    model = build_tdnet(references, ensemble)
    needs = model.needs(24, 32)

    def label_in(size: int, *starts: int) -> dict[int, Tensor]:
        found = {}
        for start in starts:
            batch = cut_batch(video, start, start + size, interval=2, before=needs.before, after=needs.after)
            found |= label(model, batch)
        return found

    early, late, whole = label_in(4, 0, 4), label_in(4, 2, 6), label_in(10, 0)
    assert all(torch.equal(early[i], late[i]) for i in range(2, 8))
    assert all(agree(early[i], whole[i]) for i in range(8))  # sizes of batches may change the last bits


@pytest.mark.parametrize("references", WINDOWED)
def test_a_video_that_begins_later_begins_with_another_sub_network(video, references):
    model = build_tdnet(references)
    found = label(model, cut_batch(video, 0, FRAMES, first_index=4))
    assert list(found) == list(range(4, 4 + FRAMES))
    same = label(model, cut_batch(torch.cat([video[:1]] * 4 + [video]), 4, 4 + FRAMES))
    assert all(torch.equal(found[index], same[index]) for index in found)


@pytest.mark.parametrize(("references", "before", "after"), [("none", 0, 0), ("before", 2, 0), ("both", 2, 2)])
def test_it_needs_as_many_frames_around_as_there_are_other_sub_networks(references, before, after):
    needs = build_tdnet(references).needs(24, 32)
    assert (needs.before, needs.after, needs.basis) == (before, after, "neighbours")


@pytest.mark.parametrize("references", WINDOWED)
@pytest.mark.parametrize("lost", [{4}, {3, 7}, {4, 6}])
def test_frames_gather_from_the_windows_that_are_whole(video, references, lost):
    model = build_tdnet(references)
    batch = cut_batch(video, 0, 10, interval=5)
    valid = torch.tensor([i not in lost for i in range(10)]).view(2, 5)
    found = label(model, replace(batch, valid=valid))
    seen = set(range(10)) - lost
    assert set(found) == seen
    for index, logits in found.items():
        windows = choose_windows(index, index % 3, num_sub_networks=3, references=references, seen=seen)
        assert agree(logits, label_by_hand(model, video, index, index, windows))


def test_a_batch_of_lost_frames_runs_nothing(video):
    model = build_tdnet("both")
    batch = cut_batch(video, 2, 6, interval=2, before=2, after=2)
    for part in model.sub_networks:
        part.trunk = None
    assert label(model, replace(batch, valid=torch.zeros(2, 2, dtype=torch.bool))) == {}


def test_frames_behind_a_batch_whose_last_frame_is_lost_are_counted_from_where_it_was(video):
    model = build_tdnet("both")
    told = cut_batch(video, 0, 8, interval=4, after=2)
    told = replace(told, valid=torch.arange(8).view(2, 4) < 7)
    found, wanted = (label_places(model, batch) for batch in (replace(told, index=None, after_index=None), told))
    assert all(torch.equal(found[place], logits) for place, logits in wanted.items())


@torch.inference_mode()
def label_places(model: TDNet, batch: ChunkBatch) -> dict[tuple[int, int], Tensor]:
    """Logits of each frame, by chunk and position."""
    return {
        (c, p): logits
        for output in model.segment(batch)
        for c, p, logits in zip(output.chunk.tolist(), output.position.tolist(), output.logits)
    }


def test_pixels_lie_in_memory_as_decoded_frames_do(video):
    batch = cut_batch(video.movedim(1, -1).contiguous().movedim(-1, 1), 2, 6, interval=2, before=2)
    images = FramesInBatch.of(batch).images([4, 1, 4])
    assert torch.equal(images, video[[4, 1, 4]])
    assert images.movedim(1, -1).is_contiguous()


def test_a_frame_behind_a_lost_one_is_labeled_by_its_sub_network_alone(video):
    model = build_tdnet("before")
    valid = torch.tensor([[i != 4 for i in range(10)]])
    found = label(model, replace(cut_batch(video, 0, 10, interval=10), valid=valid))
    alone = [i for i in found if agree(found[i], label_alone(model, video[i], i))]
    assert alone == [0, 1, 5, 6]


# --- all sub-networks ---


@pytest.mark.parametrize("references", ["none", *WINDOWED])
def test_all_sub_networks_together_give_the_mean_of_their_probabilities(video, references):
    model = build_tdnet(references, "all")
    found, seen = label(model, cut_batch(video, 0, FRAMES)), range(FRAMES)
    for index in (0, 5, FRAMES - 1):
        answers = []
        for turn in range(3):
            windows = choose_windows(index, turn, num_sub_networks=3, references=references, seen=seen)
            answers.append(label_by_hand(model, video, index, turn, windows).softmax(0))
        assert torch.allclose(found[index].softmax(0), torch.stack(answers).mean(0), rtol=0, atol=1e-5)


def test_an_ensemble_of_keyframes_is_all_sub_networks_there_and_one_elsewhere(video):
    batch = cut_batch(video, 0, 10, interval=5)
    none, some, every = (label(build_tdnet("before", way), batch) for way in ("none", "keyframes", "all"))
    assert all(agree(some[i], (every if i % 5 == 0 else none)[i]) for i in range(10))
    assert not agree(some[5], none[5])


def test_probabilities_too_small_to_be_told_from_zero_stay_numbers(video):
    model = build_tdnet("before", "all")
    with torch.no_grad():
        for part in model.sub_networks:
            part.head.weight.mul_(1e3)
    found = label(model, cut_batch(video, 0, 3))
    assert min(logits.softmax(0).min() for logits in found.values()) == 0
    assert all(logits.isfinite().all() for logits in found.values())


def test_an_ensemble_takes_about_as_much_memory_as_one_sub_network():
    video = draw_video(10, height=48, width=64)
    one, all_of_them = (live_peak(build_tdnet("both", way), video) for way in ("none", "all"))
    assert all_of_them < 1.2 * one


def live_peak(model: TDNet, video: Tensor) -> int:
    """Bytes alive at once while all frames but the two first and last are labeled."""
    batch = cut_batch(video, 2, len(video) - 2, interval=3, before=2, after=2)
    with torch.inference_mode(), LiveBytes() as live:
        for _ in model.segment(batch):
            pass
    return live.peak


# --- settings, copies ---


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"references": "after"}, "references 'after'; allowed: none, before, nearest, both"),
        ({"ensemble": "some"}, "ensemble 'some'; allowed: none, keyframes, all"),
        ({"memory_stride": 0}, "memory_stride 0; allowed: a whole number from 1 to 64"),
        ({"memory_stride": True}, "memory_stride True"),
        ({"map_rows": 5000}, "map_rows 5000; .* to 4096"),
        ({"map_columns": "8"}, "map_columns '8'"),
    ],
)
def test_settings_it_does_not_know_are_refused(settings, words):
    with pytest.raises(ModelError, match=words):
        check_settings(**settings)


def part(*, num_sub_networks: int = 2, map_size: tuple[int, int] = MAP_SIZE) -> SubNetwork:
    return SubNetwork(TinyTrunk(), num_classes=len(CAMVID), num_sub_networks=num_sub_networks, map_size=map_size)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([part()], "2 or more sub-networks, not 1"),
        ([part(), part(map_size=(6, 9))], r"norms of \[\(6, 8\), \(6, 9\)\]"),
        ([part(), part(), part()], r"\[1\] hops for 3 of them"),
    ],
)
def test_sub_networks_that_do_not_belong_together_are_refused(parts, words):
    with pytest.raises(ModelError, match=words):
        TDNet(parts, classes=CAMVID, normalise=build_tdnet().normalise)


def test_a_copy_with_other_references_or_ensemble_shares_the_weights():
    model = build_tdnet()
    other = with_ensemble(with_references(model, "both"), "all")
    assert (model.options["references"], model.options["ensemble"]) == ("before", "none")
    assert (other.options["references"], other.options["ensemble"]) == ("both", "all")
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_settings_of_copies_are_checked():
    with pytest.raises(ModelError, match="references 'after'"):
        with_references(build_tdnet(), "after")
    with pytest.raises(ModelError, match="ensemble 'some'"):
        with_ensemble(build_tdnet(), "some")


# --- the spatial norm ---


@torch.no_grad()
def test_a_norm_at_its_own_size_is_layer_norm_over_the_places_with_a_weight_for_each():
    norm, x = build_tdnet().sub(0).norm, 3 + torch.randn(2, CHANNELS, *MAP_SIZE)
    centred = x - x.mean((2, 3), keepdim=True)
    wanted = centred / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_norms_maps_are_resized_bilinearly_for_maps_of_another_size():
    norm, x = SpatialLayerNorm((2, 2)), torch.randn(1, 3, 4, 2)
    norm.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    norm.bias.copy_(norm.weight - 1)
    weight = torch.tensor([[1.0, 2.0], [1.5, 2.5], [2.5, 3.5], [3.0, 4.0]])
    normed = torch.nn.functional.layer_norm(x, (4, 2))
    torch.testing.assert_close(norm(x), normed * weight + weight - 1)


def test_what_is_no_map_is_refused():
    with pytest.raises(ModelError, match=r"maps \(N, C, h, w\), not \(2, 3\)"):
        SpatialLayerNorm((2, 2))(torch.zeros(2, 3))


# --- memory ---


@pytest.mark.parametrize("references", ["none", "both"])
@pytest.mark.parametrize("ensemble", ["none", "all"])
@pytest.mark.parametrize("size", [(48, 64), (96, 128)])
@torch.inference_mode()
def test_memory_is_about_as_stated(references, ensemble, size):
    model, video = build_tdnet(references, ensemble), draw_video(12, height=size[0], width=size[1])
    needs = model.needs(*size)
    batch = cut_batch(video, 2, 10, interval=4, before=needs.before, after=needs.after)
    with LiveBytes() as live:
        for _ in model.segment(batch):
            pass
    stated = model.peak_bytes(*size, 4, num_chunks=2)
    assert live.peak <= stated <= 3 * live.peak
