"""Validation pictures of AR-Seg's training: a few fixed pairs, looked at again whenever the training saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsvnet.evaluation.resize import resize_image
from gsvnet.models.arseg import ARSeg
from gsvnet.training.arseg import label_pairs
from gsvnet.training.arseg_pairs import ArsegPairs
from gsvnet.training.pictures import Panel, describe_score, draw_grid, mark_differences, share_wrong


def pick_pairs(pairs: ArsegPairs, num_pairs: int = 4) -> ArsegPairs:
    """At most `num_pairs` pairs, spread evenly from the first to the last; always the same ones of the same pairs."""
    return pairs.pick(np.unique(np.linspace(0, len(pairs) - 1, num_pairs).round().astype(int)))


def draw_pair_labels(
    model: ARSeg, path: Path, title: str, *, pairs: ArsegPairs, fused: bool, device: str = "cpu"
) -> None:
    """Write one PNG: per pair the small frame, its targets, its labels, and where labels and targets differ.

    model: in eval mode. With fusion there is one more column, the labels that the small frame has alone.
    """
    size = (pairs.targets.shape[-2], pairs.targets.shape[-1])
    images = resize_image(pairs.images, size, "area").permute(0, 2, 3, 1).numpy()
    targets, classes = pairs.targets.numpy(), model.classes
    labels = label_pairs(model, pairs, fused=fused, device=device)
    alone = label_pairs(model, pairs, fused=False, device=device) if fused else labels
    rows: list[list[Panel]] = []
    for image, truth, label, single in zip(images, targets, labels, alone):
        wrong = 100 * share_wrong(truth, label)
        rows.append(
            [
                Panel(image=np.ascontiguousarray(image), above="" if rows else "image, as it is read"),
                Panel(image=classes.colourise(truth), above="" if rows else "targets (black: ignored)"),
                *(
                    [
                        Panel(
                            image=classes.colourise(single),
                            above=f"unfused, {describe_score(truth, single, len(classes))}",
                        )
                    ]
                    if fused
                    else []
                ),
                Panel(image=classes.colourise(label), above=f"labels, {describe_score(truth, label, len(classes))}"),
                Panel(image=mark_differences(image, truth, label), above=f"{wrong:.1f} % of pixels differ"),
            ]
        )
    draw_grid(rows, classes, [targets, labels], path=path, title=title)
