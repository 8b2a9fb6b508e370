"""GSVNet that chooses its interval: which one, where cuts are, and that nothing else of a batch matters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gsvnet.classes import ClassSet
from gsvnet.errors import ConfigError, ModelError
from gsvnet.models.adaptive import AdaptiveGSVNet, next_interval
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.noise import draw_chunks
from gsvnet.models.segmenter import ChunkBatch, Normalise, SizeRule
from gsvnet.models.transfer import with_drift, with_references

CLASSES = ClassSet(name="two", names=("dark", "light"), colours=((0, 0, 0), (9, 9, 9)))
HEIGHT, WIDTH = 16, 24
STRETCH = 24


class Stay(nn.Module):
    """In place of a trained propagation: labels stay where they are, and each step is certain of them."""

    num_classes = 2

    def estimate_flow(self, current: Tensor, previous: Tensor) -> Tensor:
        return torch.zeros_like(current[:, :2])

    def glance(self, current: Tensor) -> None:
        return None

    def step(self, state: Tensor, flow: Tensor, intra: Tensor | None) -> Tensor:
        return state


class LightNetwork(nn.Module):
    """Labels pixels by whether they are light."""

    def forward(self, image: Tensor) -> Tensor:
        light = image.mean(1, keepdim=True)
        return torch.cat([-light, light], dim=1)


@pytest.fixture
def gsvnet() -> GSVNet:
    normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    return GSVNet(
        LightNetwork(),
        Stay(),
        classes=CLASSES,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(strides=(2,), min_grid_rows=4),
    ).eval()


def scroll(num_frames: int, *, pace: float) -> Tensor:
    """(T, 3, H, W) uint8: a light upper half whose border moves down by `pace` rows a frame, wrapping around."""
    rows = torch.arange(HEIGHT)
    frames = torch.zeros(num_frames, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    for t in range(num_frames):
        frames[t, :, (rows + int(t * pace)) % HEIGHT < HEIGHT // 2] = 200
    return frames


def batch(model: GSVNet, *stretches: Tensor, after: Tensor | None = None, lost: tuple[int, ...] = ()) -> ChunkBatch:
    """Stretches of one video as one batch; after: the frame that follows them."""
    needs = model.needs(HEIGHT, WIDTH)
    length = max(map(len, stretches))
    padded = torch.stack([torch.cat([s, s[-1:].expand(length - len(s), -1, -1, -1)]) for s in stretches])
    followers = [*(s[0] for s in stretches[1:]), stretches[-1][-1] if after is None else after]
    counts = torch.tensor([len(s) for s in stretches])
    valid = torch.arange(length) < counts[:, None]
    valid[0, list(lost)] = False

    def shrink(images: Tensor) -> Tensor:
        return images[..., ::2, ::2]

    assert needs.frame_size == (HEIGHT // 2, WIDTH // 2)
    return ChunkBatch(
        first_frame=100,
        num_frames=counts,
        keyframes=torch.stack([*padded[:, 0], followers[-1]]),
        frames=shrink(padded),
        valid=valid,
        next_valid=torch.tensor([True] * (len(stretches) - 1) + [after is not None]),
        next_frames=shrink(torch.stack(followers)),
        candidates=padded,
    )


@torch.inference_mode()
def intervals_of(model: AdaptiveGSVNet, chunks: ChunkBatch) -> dict[tuple[int, int], tuple[int, int]]:
    """(interval, keyframe's index in the video) of every labeled frame, by (chunk, position)."""
    found = {}
    for out in model.segment(chunks):
        if out.role == "labels":
            rows = zip(out.chunk.tolist(), out.position.tolist(), out.interval.tolist(), out.keyframe.tolist())
            for c, p, interval, keyframe in rows:
                assert (c, p) not in found
                found[c, p] = interval, keyframe
    return found


def adaptive(model: GSVNet, share: float = 0.95) -> AdaptiveGSVNet:
    return AdaptiveGSVNet.of(model, min_agreement=share)


def test_what_stands_still_gets_the_longest_interval(gsvnet):
    still = scroll(STRETCH, pace=0)
    model = adaptive(gsvnet)
    found = intervals_of(model, batch(model, still, after=still[0]))
    assert set(found.values()) == {(12, 100), (12, 112)}


def test_what_moves_gets_a_shorter_one(gsvnet):
    moving = scroll(STRETCH + 1, pace=0.25)
    model = adaptive(gsvnet, 0.7)
    found = intervals_of(model, batch(model, moving[:STRETCH], after=moving[STRETCH]))
    assert {interval for interval, _ in found.values()} == {5}  # 12 frames: 6 of 16 rows differ


def test_one_stretch_does_not_decide_for_another(gsvnet):
    model = adaptive(gsvnet, 0.9)
    still, moving = scroll(STRETCH, pace=0), scroll(STRETCH + 1, pace=1)
    together = intervals_of(model, batch(model, still, moving[:STRETCH], after=moving[STRETCH]))
    alone = intervals_of(model, batch(model, moving[:STRETCH], after=moving[STRETCH]))
    assert [together[1, p][0] for p in range(STRETCH)] == [alone[0, p][0] for p in range(STRETCH)]
    assert together[0, 1][0] == 12 > together[1, 1][0]


def test_where_nothing_agrees_every_frame_is_a_keyframe(gsvnet):
    model = adaptive(gsvnet, 1.0)
    moving = scroll(STRETCH + 1, pace=2)
    found = intervals_of(model, batch(model, moving[:STRETCH], after=moving[STRETCH]))
    assert found == {(0, p): (1, 100 + p) for p in range(STRETCH)}


def test_a_cut_starts_a_chunk(gsvnet):
    model = adaptive(gsvnet)
    still = scroll(STRETCH, pace=0)
    cut = still.clone()
    cut[7:] = 255 - cut[7:]
    found = intervals_of(model, batch(model, cut, after=cut[-1]))
    assert [found[0, p] for p in (4, 5, 6, 7, 18, 19)] == [
        (5, 100), (5, 105), (5, 105), (12, 107), (12, 107), (12, 119)
    ]  # fmt: skip


def test_nothing_is_carried_across_a_cut_to_the_keyframe_behind(gsvnet):
    model = adaptive(with_drift(gsvnet))
    still = scroll(STRETCH, pace=0)
    with torch.inference_mode():
        arrivals = {
            after: [
                out.position.tolist()
                for out in model.segment(batch(model, still, after=image))
                if out.role == "arrival"
            ]
            for after, image in (("same", still[0]), ("another", 255 - still[0]))
        }
    assert arrivals == {"same": [[0, 12]], "another": [[0]]}


@pytest.mark.parametrize("references", ["before", "both"])
def test_a_short_stretch_without_a_keyframe_behind_is_labeled(gsvnet, references):
    model = adaptive(with_references(gsvnet, references))
    found = intervals_of(model, batch(model, scroll(3, pace=0)))
    assert found == {(0, 0): (2, 100), (0, 1): (2, 100), (0, 2): (2, 102)}


def test_a_lost_frame_is_no_keyframe(gsvnet):
    model = adaptive(gsvnet)
    still = scroll(STRETCH, pace=0)
    found = intervals_of(model, batch(model, still, after=still[0], lost=(12,)))
    assert sorted(p for _, p in found) == [p for p in range(STRETCH) if p != 12]
    assert {keyframe for _, keyframe in found.values()} == {100, 113}


def test_the_first_guess_at_a_shorter_interval_follows_the_measured_agreement():
    assert [next_interval(12, agreement, 0.95) for agreement in (0.949, 0.93, 0.90, 0.5)] == [8, 5, 2, 1]


def test_a_share_above_one_is_refused(gsvnet):
    with pytest.raises(ConfigError, match=r"least agreement 1\.5"):
        adaptive(gsvnet, 1.5)


def test_it_is_the_same_network(gsvnet):
    assert adaptive(gsvnet).state_dict().keys() == gsvnet.state_dict().keys()


def test_an_interval_counts_lost_frames_too(gsvnet):
    model = adaptive(gsvnet)
    still = scroll(STRETCH, pace=0)
    found = intervals_of(model, batch(model, still, after=still[0], lost=(3, 4, 5)))
    assert {keyframe for _, keyframe in found.values()} == {100, 112}


def test_a_network_that_does_more_than_gsvnet_is_refused(gsvnet):
    class Mine(GSVNet):
        pass

    gsvnet.__class__ = Mine
    with pytest.raises(ModelError, match="not for Mine"):
        adaptive(gsvnet)


def test_costs_are_measured_on_a_standing_scene(gsvnet):
    model = adaptive(gsvnet)
    chunks = draw_chunks(model, height=HEIGHT, width=WIDTH, num_chunks=2, interval=STRETCH, device="cpu")
    assert {interval for interval, _ in intervals_of(model, chunks).values()} == {12}
