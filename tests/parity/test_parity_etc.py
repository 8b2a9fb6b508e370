"""ETC against its authors' own code: every file, picked by its networks and inputs.

A check yields (output's name, our whole tensor). Error: largest difference over the output's largest absolute value.
"""

from __future__ import annotations

import numpy as np
import torch

from gsvnet.evaluation.consistency import measure_consistency
from gsvnet.models.checkpoints import load_strictly
from gsvnet.models.published_etc import load_published_etc
from gsvnet.nn.blocks import resize
from gsvnet.training.frame_relations import SequenceLoss, pair_loss, self_loss
from gsvnet.training.losses import still_loss
from gsvnet.training.temporal_losses import published_distillation_loss, published_motion_loss
from gsvnet.video.flow import FlowEstimator, blend_ids

SURE = 1e-4  # of the output's absmax
AUXILIARY, NEIGHBOURS, MOTION = 0.4, 0.4, 0.1  # the weights in the authors' sums
CITYSCAPES_WEIGHTS = torch.tensor(
    [0.8373, 0.9180, 0.8660, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023]
    + [0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507]
)


@torch.no_grad()
def test_numbers_are_those_of_the_authors_code(etc, tmp_path):
    ours = dict(find_check(etc)(etc, tmp_path))
    assert ours.keys() == etc.outputs.keys()
    errors = {name: error_of(etc, name, etc.thin(name, whole)) for name, whole in ours.items()}
    print(etc.meta["case"], {name: float(f"{error:.1e}") for name, error in errors.items()})
    assert {name: error for name, error in errors.items() if not error <= tolerance_of(etc, name)} == {}


def error_of(etc, name: str, got: torch.Tensor) -> float:
    """Largest difference in units of the golden's absmax; of whole numbers the difference itself."""
    wanted = torch.from_numpy(etc.members[f"out.{name}"])
    assert got.shape == wanted.shape, name
    return ((got.double() - wanted.double()).abs() / (etc.outputs[name].get("absmax") or 1)).max().item()


def tolerance_of(etc, name: str) -> float:
    return 0.0 if etc.members[f"out.{name}"].dtype.kind == "i" else SURE


def find_check(etc):
    """The check that fits the file's networks and inputs."""
    if "net" in etc.networks:
        return check_network
    if "CriterionLSTM" in etc.networks:
        return check_losses
    return {"image": check_motion_loss, "pred_t": check_consistency}[min(etc.inputs & {"image", "pred_t"})]


def check_network(etc, tmp_path):
    """A published file -> logits at the image's size, or those at 1/8 beside the other head's and the pyramid."""
    network, image, pyramids = (
        load_published_etc(
            etc.publish("net", tmp_path / "etc.pth"), num_classes=etc.num_classes("net"), auxiliary_heads=True
        ),
        etc.input("x"),
        [],
    )
    network.head.register_forward_pre_hook(lambda module, given: pyramids.append(given[0]))
    logits, auxiliary = network.segment_with_auxiliary(image)
    assert torch.equal(network(image), logits)
    if "dsn" not in etc.outputs:
        yield "logits", resize(logits, image.shape[-2:])
        return
    yield "logits", logits
    yield "dsn", auxiliary
    if "fea" in etc.outputs:
        yield "fea", pyramids[0]


def check_losses(etc, tmp_path):
    def frames(who: str, what: str):
        return [etc.input(f"{who}_{when}_{what}") for when in ("cur", "f", "b")]

    label = etc.input("label").long()
    (logits, *_), auxiliary = frames("s", "logits"), etc.input("s_cur_dsn")
    hard = supervised(logits, label)
    yield "CriterionCrossEntropy", hard
    yield "CriterionDSN", hard + AUXILIARY * supervised(auxiliary, label)

    student, teacher = frames("s", "logits"), frames("t", "logits")
    now, before, after = map(published_distillation_loss, student, teacher)
    yield "CriterionKD", now + before
    yield "CriterionKDLong", now + NEIGHBOURS * (before + after)
    yield "CriterionSDcos_sig", pair_loss(tuple(student[:2]), tuple(teacher[:2]), published=True)

    student, teacher = frames("s", "fea"), frames("t", "fea")
    now, before, after = map(self_loss, student, teacher)
    yield "CriterionSDcos_self", now + NEIGHBOURS * (before + after)
    loss, weights = SequenceLoss(), etc.weights("CriterionLSTM")
    load_strictly(loss.memory, weights, source="golden", file_name=lambda name: name.replace("gates", "convlstm.Gates"))
    order = (1, 0, 2)  # earlier, current, later
    yield "CriterionLSTM", loss([student[i] for i in order], [teacher[i] for i in order])


def check_motion_loss(etc, tmp_path):
    names = ("logits_image", "logits_frame", "image", "frame", "flow")
    motion = MOTION * published_motion_loss(*(etc.input(name) for name in names))
    label = etc.input("label").long()
    hard = supervised(etc.input("logits_image"), label) + AUXILIARY * supervised(etc.input("dsn_image"), label)
    yield "st_loss", motion
    yield "ce_loss", hard
    yield "total_loss", motion + hard


def supervised(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return still_loss(logits, label, CITYSCAPES_WEIGHTS, align_corners=True)


def check_consistency(etc, tmp_path):
    """Counts of the pair by flow; plain: of the pair as it lies, the next frame's first rows without a label."""
    labels, following, flow = (etc.input(name).numpy() for name in ("pred_t", "pred_next", "flow"))
    band = following.copy()
    band[:8] = 255
    yield "warped_float", torch.from_numpy(blend_ids(following, flow))
    for prefix, later, moved in (("", following, flow), ("plain_", band, np.zeros_like(flow))):
        counts, miou = count_pair(labels, later, moved, num_classes=etc.shape("union")[0])
        warped = blend_ids(later, moved).astype(np.uint8)
        here = np.bincount(labels[warped != 255], minlength=len(counts.union))
        yield f"{prefix}intersection", torch.from_numpy(counts.intersection)
        yield f"{prefix}union", torch.from_numpy(counts.union)
        yield f"{prefix}target", torch.from_numpy(counts.union + counts.intersection - here)  # of the later frame
        if not prefix:
            yield "tc", torch.tensor(miou / 100, dtype=torch.float64)


def count_pair(labels: np.ndarray, later: np.ndarray, flow: np.ndarray, *, num_classes: int):
    known = FlowEstimator(name="golden", estimate=lambda now, other: (flow, np.ones(labels.shape, bool)))
    images = [np.zeros((*labels.shape, 3), np.uint8)] * 2
    result = measure_consistency([labels, later], images, num_classes=num_classes, mode="etc", flow=known)
    return result.clips[0], result.miou
