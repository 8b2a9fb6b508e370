"""What every VideoSegmenter has to keep, whatever it computes.

A drawn video is cut into chunks, full, short and with lost frames. Each network labels it in batches of chunks, and no
answer may depend on how the chunks were batched.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from gsvnet.classes import ClassSet
from gsvnet.evaluation.variants import vary_propagation
from gsvnet.models.adaptive import AdaptiveGSVNet
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import (
    ChunkBatch,
    FrameNeeds,
    LogitsBatch,
    Normalise,
    PerFrame,
    SizeRule,
    VideoSegmenter,
)
from gsvnet.models.split import SplitNetwork
from gsvnet.models.transfer import with_drift, with_references
from gsvnet.nn.blocks import resize
from gsvnet.nn.local_attention import MOST_TILE_BYTES
from tests.around import AroundDummy
from tests.tiny_tdnet import build_tdnet

CLASSES = ClassSet(name="five", names=tuple("abcde"), colours=((0, 0, 0),) * 5)
HEIGHT, WIDTH, INTERVAL = 32, 48, 4
STARTS = (0, 4, 7, 11, 12, 16, 19)  # of chunks of 4, 3, 4, 1, 4 and 3 frames
NUM_CHUNKS = len(STARTS) - 1
LOST = frozenset({2, 9, 17})  # frames that did not decode; never a keyframe


class NextKeyframeDummy(nn.Module):
    """Labels a frame from the keyframes on both sides, by distance; at the video's end from the last one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = CLASSES
        self.net = nn.Conv2d(3, len(CLASSES), 4, 4)

    def needs(self, height: int, width: int) -> FrameNeeds:
        return FrameNeeds(keyframe_size=(height, width), next_keyframe=True)

    def segment(self, chunks: ChunkBatch) -> Iterator[LogitsBatch]:
        scores = self.net(chunks.keyframes.float() / 64 - 2)
        if chunks.next_valid[-1]:
            last = torch.tensor([len(chunks.valid)])
            yield LogitsBatch(chunk=last - 1, position=last * 0, logits=scores[last], role="arrival")
        for c in range(len(chunks.valid)):
            following = scores[c + 1] if chunks.next_valid[c] else scores[c]
            for p in chunks.valid[c].nonzero()[:, 0]:
                share = p / chunks.num_frames[c]
                logits = ((1 - share) * scores[c] + share * following)[None]
                yield LogitsBatch(chunk=torch.tensor([c]), position=p[None], logits=logits)


def build_per_frame() -> PerFrame:
    normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    return PerFrame(nn.Conv2d(3, 5, 4, 4), classes=CLASSES, normalise=normalise, micro_batch=3)


def build_gsvnet() -> GSVNet:
    normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    propagation = Propagation(num_classes=5)
    nn.init.normal_(propagation.guided_filter.guide.to_taps[1].bias)  # all taps take part, some are off in places
    nn.init.normal_(propagation.flow.to_flow.bias, std=4)
    return GSVNet(
        nn.Conv2d(3, 5, 4, 4),
        propagation,
        classes=CLASSES,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(strides=(4,)),
        keyframe_batch=2,
        frame_batch=5,
    )


class TinySplit(SplitNetwork):
    """Two convolutions: a feature of 6 channels at 1/4."""

    feature_channels, bytes_per_pixel, classifiers = 6, 100, ("classifier",)

    def __init__(self) -> None:
        super().__init__()
        self.features, self.classifier = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, len(CLASSES), 1)

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        return height // 4, width // 4

    def extract(self, image: Tensor) -> Tensor:
        return self.features(image)

    def classify(self, features: Tensor) -> Tensor:
        return self.classifier(features)

    def drop_auxiliary_heads(self) -> None:
        pass


def build_arseg(references: str) -> ARSeg:
    return ARSeg(
        TinySplit(),
        TinySplit(),
        CrossResolutionFusion(channels=6),
        classes=CLASSES,
        normalise=Normalise(mean=(0.5,) * 3, std=(0.25,) * 3),
        references=references,
        memory_bytes=3 * MOST_TILE_BYTES,  # two frames at once
    )


SEGMENTERS = {
    "per_frame": build_per_frame,
    "gsvnet": build_gsvnet,
    "gsvnet_drift": lambda: with_drift(build_gsvnet()),
    "gsvnet_both": lambda: with_references(build_gsvnet(), "both"),
    "adaptive": lambda: AdaptiveGSVNet.of(build_gsvnet(), min_agreement=0.6),
    "adaptive_both": lambda: AdaptiveGSVNet.of(with_references(build_gsvnet(), "both"), min_agreement=0.6),
    "flow": lambda: vary_propagation(build_gsvnet(), "flow"),
    "filter": lambda: vary_propagation(build_gsvnet(), "filter"),
    "before": lambda: AroundDummy(classes=CLASSES, before=3),
    "after": lambda: AroundDummy(classes=CLASSES, after=2),
    "around": lambda: AroundDummy(classes=CLASSES, before=3, after=2),
    "next_keyframe": NextKeyframeDummy,
    "arseg_before": lambda: build_arseg("before"),
    "arseg_nearest": lambda: build_arseg("nearest"),
    "arseg_both": lambda: build_arseg("both"),
    "tdnet_before": lambda: build_tdnet("before"),
    "tdnet_nearest": lambda: build_tdnet("nearest", "all"),
    "tdnet_both": lambda: build_tdnet("both", "keyframes"),
}


def build(name: str) -> VideoSegmenter:
    torch.manual_seed(1)
    return SEGMENTERS[name]().eval()


@pytest.fixture(params=list(SEGMENTERS))
def model(request) -> VideoSegmenter:
    return build(request.param)


@pytest.fixture(scope="module")
def video() -> Tensor:
    """Blocky frames (T, 3, H, W) uint8 with some noise."""
    g = torch.Generator().manual_seed(2)
    blocks = torch.randint(0, 256, (STARTS[-1], 3, HEIGHT // 8, WIDTH // 8), generator=g).float()
    frames = nn.functional.interpolate(blocks, scale_factor=8) + torch.randint(-20, 21, (STARTS[-1], 3, HEIGHT, WIDTH))
    return frames.clamp(0, 255).to(torch.uint8)


def batch_chunks(
    model: VideoSegmenter, video: Tensor, first: int, stop: int, *, length: int = INTERVAL, padding: int = 0
) -> ChunkBatch:
    """Chunks [first, stop) as one batch of `length` positions, then `padding` empty chunks; noise where nothing is."""
    needs = model.needs(HEIGHT, WIDTH)
    large, small = (
        resize(video.float(), size).round().to(torch.uint8)
        for size in (needs.keyframe_size, needs.frame_size or needs.keyframe_size)
    )
    num_chunks = stop - first + padding
    lengths = [b - a for a, b in pairwise(STARTS[first : stop + 1])] + [0] * padding
    keyframes = torch.randint(0, 256, (num_chunks, *large.shape[1:]), dtype=torch.uint8)
    frames = torch.randint(0, 256, (num_chunks, length, *small.shape[1:]), dtype=torch.uint8)
    valid = torch.zeros(num_chunks, length, dtype=torch.bool)
    for c in range(stop - first):
        start = STARTS[first + c]
        keyframes[c] = large[start]
        frames[c, : lengths[c]] = small[start : start + lengths[c]]
        valid[c, : lengths[c]] = torch.tensor([start + p not in LOST for p in range(lengths[c])])
    next_valid = torch.tensor([first + c + 2 < len(STARTS) for c in range(stop - first)] + [False] * padding)
    if needs.next_keyframe:
        assert padding == 0 or stop == NUM_CHUNKS, "the next keyframe stands after the last chunk"
        following = large[STARTS[stop]] if stop < NUM_CHUNKS else torch.randint_like(keyframes[0], 256)
        keyframes = torch.cat([keyframes, following[None]])
    next_frames = torch.randint(0, 256, (num_chunks, *small.shape[1:]), dtype=torch.uint8)
    candidates = torch.randint(0, 256, (num_chunks, length, *large.shape[1:]), dtype=torch.uint8)
    for c in range(stop - first):
        candidates[c, : lengths[c]] = large[STARTS[first + c] : STARTS[first + c + 1]]
        if next_valid[c]:
            next_frames[c] = small[STARTS[first + c + 1]]
    motion, motion_valid = draw_motion(needs, first, lengths, length, seed=3)
    next_motion, next_motion_valid = draw_motion(needs, first, lengths, length, seed=4)
    around = range(STARTS[first] - needs.before, STARTS[first]), range(STARTS[stop], STARTS[stop] + needs.after)
    before, after = ([f for f in side if 0 <= f < len(video) and f not in LOST] for side in around)
    return ChunkBatch(
        first_frame=STARTS[first],
        num_frames=torch.tensor(lengths),
        keyframes=keyframes,
        frames=frames,
        valid=valid,
        next_valid=next_valid if needs.next_keyframe or needs.next_frame else None,
        motion=motion,
        motion_valid=motion_valid,
        next_motion=next_motion if needs.next_keyframe else None,
        next_motion_valid=next_motion_valid if needs.next_keyframe else None,
        before=large[before] if needs.before else None,
        before_index=torch.tensor(before, dtype=torch.int64) if needs.before else None,
        after=large[after] if needs.after else None,
        after_index=torch.tensor(after, dtype=torch.int64) if needs.after else None,
        next_frames=next_frames if needs.next_frame else None,
        candidates=candidates if needs.every_keyframe else None,
    )


def draw_motion(
    needs: FrameNeeds, first: int, lengths: list[int], length: int, *, seed: int
) -> tuple[Tensor | None, Tensor | None]:
    """Motion (B, length, 2, gh, gw) and where it is known; of a frame always the same, and noise where nothing is."""
    if needs.motion_grid is None:
        return None, None
    shape = STARTS[-1], 2, *needs.motion_grid
    g = torch.Generator().manual_seed(seed)
    of_frames, known_of_frames = torch.randn(shape, generator=g), torch.rand(shape, generator=g)[:, 0] < 0.8
    motion = torch.randn(len(lengths), length, *shape[1:])
    known = torch.rand(len(lengths), length, *shape[2:]) < 0.5
    for c, count in enumerate(lengths):
        start = STARTS[min(first + c, NUM_CHUNKS)]
        motion[c, :count], known[c, :count] = of_frames[start : start + count], known_of_frames[start : start + count]
    return motion, known


@torch.no_grad()
def label_video(
    model: VideoSegmenter, video: Tensor, borders: list[int], *, length: int = INTERVAL, padding: int = 0
) -> dict[int, Tensor]:
    """Logits (C, h, w) by frame index, with the chunks borders[i]..borders[i+1]-1 as one batch each."""
    labeled: dict[int, Tensor] = {}
    for first, stop in pairwise(borders):
        for out in model.segment(batch_chunks(model, video, first, stop, length=length, padding=padding)):
            if out.role != "labels":
                continue
            assert out.logits.shape[:2] == (len(out.chunk), len(model.classes))
            assert out.gain is None or out.gain.shape == (len(out.chunk), 1, *out.logits.shape[2:])
            for c, p, logits in zip(out.chunk.tolist(), out.position.tolist(), out.logits, strict=True):
                frame = STARTS[first + c] + p
                assert frame not in labeled, f"frame {frame} was labeled twice"
                labeled[frame] = logits
    return labeled


def assert_same_labels(got: dict[int, Tensor], wanted: dict[int, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for frame, logits in wanted.items():
        torch.testing.assert_close(got[frame], logits, rtol=1e-4, atol=1e-5)
        assert torch.equal(got[frame].argmax(0), logits.argmax(0)), f"labels of frame {frame}"


ALONE = list(range(NUM_CHUNKS + 1))


def test_it_is_a_video_segmenter(model):
    assert isinstance(model, VideoSegmenter)
    assert isinstance(model.needs(HEIGHT, WIDTH), FrameNeeds)


def test_every_valid_frame_is_labeled_exactly_once(model, video):
    labeled = label_video(model, video, [0, NUM_CHUNKS])
    assert sorted(labeled) == [frame for frame in range(len(video)) if frame not in LOST]


def test_the_labels_are_not_trivial(model, video):
    labels = torch.stack([logits.argmax(0).flatten()[:8] for logits in label_video(model, video, ALONE).values()])
    assert labels.unique(dim=0).shape[0] > len(labels) // 2


def test_batched_equals_alone(model, video):
    assert_same_labels(label_video(model, video, [0, NUM_CHUNKS]), label_video(model, video, ALONE))


@pytest.mark.parametrize("borders", [[0, 2, 6], [0, 1, 4, 6], [0, 5, 6], [0, 3, 6]])
def test_any_split_into_batches_gives_the_same_labels(model, video, borders):
    assert_same_labels(label_video(model, video, borders), label_video(model, video, [0, NUM_CHUNKS]))


@pytest.mark.parametrize(("length", "padding"), [(INTERVAL + 3, 0), (INTERVAL, 2), (INTERVAL + 1, 1)])
def test_padding_changes_nothing(model, video, length, padding):
    padded = label_video(model, video, [0, NUM_CHUNKS], length=length, padding=padding)
    assert_same_labels(padded, label_video(model, video, [0, NUM_CHUNKS]))


def test_what_is_not_valid_is_not_read(model, video):
    noisy = video.clone()
    noisy[sorted(LOST)] = 255 - noisy[sorted(LOST)]
    assert_same_labels(label_video(model, noisy, [0, NUM_CHUNKS]), label_video(model, video, [0, NUM_CHUNKS]))


@pytest.mark.parametrize(
    "name",
    ["per_frame", "around", *(n for n in SEGMENTERS if n.startswith(("gsvnet", "adaptive", "arseg", "tdnet")))],
)
def test_in_batches_of_one_size_not_even_the_last_bit_changes(name, video):
    """Labels may not depend on where shards are cut, so a chunk may stand anywhere in its batch."""
    model = build(name)
    here, there = label_video(model, video, [0, 3]), label_video(model, video, [1, 4])
    shared = here.keys() & there.keys()
    assert len(shared) == 7 - len(LOST & {9})
    assert all(torch.equal(here[frame], there[frame]) for frame in shared)


@pytest.mark.parametrize("references", ["before", "nearest", "both"])
def test_keyframes_in_overlapping_batches_keep_their_features(references, video):
    """Three keyframes, two at a time: the second batch runs the second one again."""
    model, one_by_one = build(f"arseg_{references}"), build(f"arseg_{references}")
    stop = 3 if references == "before" else 2
    size = model.needs(HEIGHT, WIDTH).keyframe_size
    model.memory_bytes, one_by_one.memory_bytes = 2 * model._keyframe_bytes(size), 0
    assert_same_labels(label_video(model, video, [0, stop]), label_video(one_by_one, video, [0, stop]))


def test_a_call_leaves_no_state_behind(model, video):
    once = label_video(model, video, [2, 5])
    label_video(model, video, [0, NUM_CHUNKS])
    again = label_video(model, video, [2, 5])
    assert all(torch.equal(once[frame], again[frame]) for frame in once)


def test_half_read_answers_do_no_harm(model, video):
    """A consumer may stop early: the next call starts afresh."""
    wanted = label_video(model, video, [0, NUM_CHUNKS])
    with torch.no_grad():
        next(model.segment(batch_chunks(model, video, 0, NUM_CHUNKS)))
    assert_same_labels(label_video(model, video, [0, NUM_CHUNKS]), wanted)
