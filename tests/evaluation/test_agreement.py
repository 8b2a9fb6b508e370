import numpy as np
import pytest
import torch

from gsvnet.classes import CAMVID
from gsvnet.errors import ConfigError, VideoError
from gsvnet.evaluation.agreement import Agreement, longest_interval, mean_by_interval, measure_agreement
from gsvnet.evaluation.confusion import ConfusionMatrix
from gsvnet.evaluation.footage import open_footage, see_frames, spread_runs, working_size
from gsvnet.models.checkpoints import load_checkpoint
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import ChunkBatch
from gsvnet.nn.upsample import upsample_labels
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View


@pytest.fixture
def model(tiny_model):
    return load_checkpoint(tiny_model)


@pytest.fixture
def footage(drive):
    return open_footage(str(drive))


def confusion(pairs: list[tuple[int, int]]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(len(CAMVID))
    truth, labels = np.array(pairs, np.uint8).T
    matrix.update(truth, labels)
    return matrix


# --- figures ---


def test_an_interval_is_as_good_as_the_mean_over_its_distances():
    assert mean_by_interval([100.0, 80.0, 60.0]) == [100.0, 90.0, 80.0]
    assert [longest_interval([100.0, 80.0, 60.0], wished) for wished in (100.0, 90.0, 80.1, 80.0, 0.0)] == [
        1, 2, 2, 3, 3,
    ]  # fmt: skip


def test_every_frame_is_a_keyframe_where_nothing_reaches_the_wish():
    assert longest_interval([100.0, 50.0], 100.1) == 1


def test_figures_follow_from_the_counts():
    same, other = confusion([(0, 0)] * 3 + [(1, 1)]), confusion([(0, 0), (0, 1), (1, 1), (1, 1)])
    agreement = Agreement(classes=CAMVID, num_frames=1, propagated=(same, other), held=(same, same))
    assert agreement.pixels == [100.0, 75.0]
    assert agreement.miou == [100.0, round(100 * (1 / 2 + 2 / 3) / 2, 3)]
    assert agreement.held_pixels == [100.0, 100.0]


def test_agreements_of_several_videos_count_every_pixel_once():
    one, three = confusion([(0, 1)]), confusion([(0, 0)] * 3)
    both = Agreement(classes=CAMVID, num_frames=2, propagated=(one,), held=(one,)) + Agreement(
        classes=CAMVID, num_frames=3, propagated=(three,), held=(three,)
    )
    assert both.num_frames == 5
    assert both.pixels == [75.0]


# --- measuring ---


def chunk_labels(model, footage, keyframe, length):
    """Labels (length, H, W) of one chunk, the way labeling makes them."""
    [seen] = see_frames(model, footage, first_frame=keyframe, stop_frame=keyframe + length)
    needs = model.needs(footage.height, footage.width)
    view, start_pts = View(*needs.keyframe_size, needs.resize), int(footage.pts[keyframe])
    [decoded] = read_frames(
        footage.uri, first_frame=0, start_pts=start_pts, end_pts=start_pts + 1, views=lambda index: [view]
    )
    keyframe_pixels = torch.from_numpy(decoded.images[0]).permute(2, 0, 1)
    batch = ChunkBatch(
        first_frame=keyframe,
        num_frames=torch.tensor([length]),
        keyframes=keyframe_pixels[None],
        frames=seen.frames[None],
        valid=torch.ones(1, length, dtype=torch.bool),
    )
    with torch.inference_mode():
        outputs = sorted(model.segment(batch), key=lambda output: int(output.position[0]))
    size = working_size(model, footage)
    return torch.cat([upsample_labels(o.logits, size, align_corners=o.align_corners) for o in outputs]).numpy()


def test_each_distance_counts_what_labeling_would_write(model, footage):
    """Frames 10..17 at interval 3: frames 12..17 are scored, each as position 0, 1 and 2 of a chunk."""
    agreement = measure_agreement(model, footage, first_frame=10, stop_frame=18, interval=3)
    assert agreement.num_frames == 6
    chunks = {start: chunk_labels(model, footage, start, 3) for start in range(10, 18)}
    for distance in range(3):
        wanted, held = ConfusionMatrix(len(CAMVID)), ConfusionMatrix(len(CAMVID))
        for t in range(12, 18):
            wanted.update(chunks[t][0], chunks[t - distance][distance])
            held.update(chunks[t][0], chunks[t - distance][0])
        size = wanted.counts.sum()
        assert np.abs(agreement.propagated[distance].counts - wanted.counts).sum() <= 0.001 * size
        assert np.abs(agreement.held[distance].counts - held.counts).sum() <= 0.001 * size


def test_the_keyframe_agrees_with_itself_and_the_rest_less(model, footage):
    agreement = measure_agreement(model, footage, first_frame=0, stop_frame=12, interval=4)
    for figures in (agreement.miou, agreement.pixels, agreement.held_miou, agreement.held_pixels):
        assert figures[0] == 100.0
        assert max(figures[1:]) < 100.0


def test_interval_1_needs_no_propagation(model, footage):
    model.propagation = None
    agreement = measure_agreement(model, footage, first_frame=5, stop_frame=8, interval=1)
    assert (agreement.num_frames, agreement.pixels) == (3, [100.0])


def test_a_propagation_without_intra_features_is_measured_too(model, footage):
    model.propagation = Propagation(num_classes=len(CAMVID), intra=False).eval()
    assert measure_agreement(model, footage, first_frame=0, stop_frame=4, interval=3).num_frames == 2


@pytest.mark.parametrize("interval", [0, 9])
def test_an_interval_that_the_frames_do_not_hold_is_refused(model, footage, interval):
    with pytest.raises(ConfigError, match=f"keyframe interval {interval}; allowed: 1 to the 8 frames"):
        measure_agreement(model, footage, first_frame=0, stop_frame=8, interval=interval)


def test_a_video_that_is_not_there_is_named():
    with pytest.raises(VideoError, match=r"nowhere\.mp4"):
        open_footage("nowhere.mp4")


# --- footage ---


def test_all_frames_of_a_range_are_seen_once_at_the_sizes_of_labeling(model, footage):
    parts = list(see_frames(model, footage, first_frame=3, stop_frame=24))
    assert [len(part.frames) for part in parts] == [8, 8, 5]
    assert parts[0].frames.shape[1:] == (3, 12, 16)
    assert parts[0].logits.shape[:2] == (8, len(CAMVID))
    [again] = see_frames(model, footage, first_frame=11, stop_frame=13)
    assert torch.equal(again.frames, parts[1].frames[:2])


def test_the_last_frame_is_seen(model, footage):
    [seen] = see_frames(model, footage, first_frame=58, stop_frame=60)
    assert len(seen.frames) == 2


@pytest.mark.parametrize(
    ("num_frames", "run_frames", "runs"),
    [
        (100, 10, [(0, 100)]),
        (30, 10, [(0, 10), (45, 55), (90, 100)]),
        (25, 10, [(0, 12), (88, 100)]),
        (5, 10, [(0, 5)]),
    ],
)
def test_runs_lie_evenly_over_a_long_video(num_frames, run_frames, runs):
    assert spread_runs(0, 100, num_frames=num_frames, run_frames=run_frames) == runs
    assert spread_runs(7, 107, num_frames=num_frames, run_frames=run_frames) == [(a + 7, b + 7) for a, b in runs]
