"""The stand-in: the published network's cost, labels that look like labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvnet.benchmark.footage import ClipConfig, draw_frames, truth_table
from gsvnet.benchmark.material import label_chunks
from gsvnet.benchmark.running import run_model
from gsvnet.benchmark.standin import UNKNOWN_LOGIT, build_stand_in, widen_propagation
from gsvnet.benchmark.standin_arseg import build_arseg_stand_in
from gsvnet.classes import CAMVID, CITYSCAPES, find_counterparts
from gsvnet.evaluation.cost import measure_cost
from gsvnet.models.checkpoints import load_default
from gsvnet.models.content_hash import content_hash
from gsvnet.models.noise import draw_chunks
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import SizeRule
from gsvnet.models.spec import build_model

CLIP = ClipConfig(height=128, width=256, drawn=3)


@pytest.fixture(scope="module")
def street():
    images, truth = draw_frames(CLIP, range(CLIP.drawn))
    return list(images), list(truth)


@pytest.fixture(scope="module")
def stand_in(street):
    return build_stand_in(*street)


def test_it_costs_what_the_published_network_costs(stand_in):
    published = build_model(PUBLISHED["gsvnet-swiftnet"])
    ours, theirs = (
        measure_cost(model, height=128, width=256, keyframe_interval=4).to_dict() for model in (stand_in, published)
    )
    assert ours == theirs


def test_the_same_frames_make_the_same_network(stand_in, street):
    assert content_hash(build_stand_in(*street)) == content_hash(stand_in)


def test_it_has_learnt_the_frames_that_it_was_fitted_to(stand_in, street):
    images, truth = street
    size = stand_in.needs(CLIP.height, CLIP.width).keyframe_size
    pixels = torch.from_numpy(images[1]).movedim(-1, 0)[None].float()
    pixels = torch.nn.functional.interpolate(pixels, size, mode="area")
    with torch.inference_mode():
        labels = stand_in.keyframe_network(stand_in.keyframe_normalise(pixels)).argmax(1)[0].numpy()
    rows, columns = (np.arange(n) * m // n for n, m in zip(labels.shape, truth[1].shape))
    wanted = truth_table(CITYSCAPES)[truth[1]][np.ix_(rows, columns)]
    most_frequent = np.bincount(wanted.ravel()).max() / wanted.size
    assert (labels == wanted).mean() > max(0.6, most_frequent + 0.1)


@pytest.fixture(scope="module")
def arseg_stand_in(street):
    images, truth = street
    return build_arseg_stand_in("arseg-bisenetv1", torch.from_numpy(np.stack(images)).movedim(-1, 1), truth)


def test_an_arseg_costs_what_the_published_one_costs(arseg_stand_in):
    published = build_model(replace(PUBLISHED["arseg-bisenetv1"], size_rule=SizeRule()))
    ours, theirs = (
        measure_cost(model, height=128, width=256, keyframe_interval=12).to_dict()
        for model in (arseg_stand_in, published)
    )
    assert ours == theirs


@pytest.mark.parametrize("position", [0, 1])
def test_an_arseg_has_learnt_the_frames_that_it_was_fitted_to(arseg_stand_in, street, position):
    images, truth = street
    model = arseg_stand_in
    chunks = draw_chunks(model, height=CLIP.height, width=CLIP.width, num_chunks=1, interval=2, device="cpu")
    image = torch.from_numpy(images[1]).movedim(-1, 0)[None]
    chunks.keyframes[:] = image
    chunks.frames[:] = torch.nn.functional.interpolate(image.float(), chunks.frames.shape[-2:], mode="area")
    labels = label_chunks(model, chunks, size=truth[1].shape)[position]
    wanted = truth_table(CITYSCAPES)[truth[1]]
    most_frequent = np.bincount(wanted.ravel()).max() / wanted.size
    assert (labels == wanted).mean() > max(0.6, most_frequent + 0.1)


def test_classes_that_no_street_has_win_nowhere(stand_in):
    chunks = draw_chunks(stand_in, height=128, width=256, num_chunks=1, interval=3, device="cpu")
    known = list(find_counterparts(CAMVID, CITYSCAPES))
    for output in run_model(stand_in, chunks, precision="fp32"):
        assert set(output.logits.argmax(1).unique().tolist()) <= set(known)


def test_a_wide_propagation_gives_known_classes_the_same_taps_and_logits():
    trained = load_default().propagation.eval()
    wide = widen_propagation(trained)
    known = find_counterparts(CAMVID, CITYSCAPES)
    ours, theirs = list(known), list(known.values())
    torch.manual_seed(0)
    frame, edges = torch.randn(1, 3, 16, 24), torch.randint(2, (1, 1, 16, 24)).float()
    with torch.inference_mode():
        narrow_intra, wide_intra = trained.glance(frame), wide.glance(frame)
        assert torch.allclose(wide_intra[:, ours], narrow_intra[:, theirs], atol=1e-5)
        assert wide_intra[:, [i for i in range(19) if i not in known]].unique().tolist() == [UNKNOWN_LOGIT]
        narrow, broad = (p.guided_filter.weigh(x, edges) for p, x in ((trained, narrow_intra), (wide, wide_intra)))
        assert torch.allclose(narrow, broad, atol=1e-4)
