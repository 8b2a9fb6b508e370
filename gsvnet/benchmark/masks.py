"""Label maps as bytes: ours against PNG, on what the network labels and on true labels. One thread."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsvnet.benchmark.footage import read_truth
from gsvnet.benchmark.material import import_extra, label_chunks, read_chunks
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.turns import measure_in_turns, medians
from gsvnet.evaluation.camvid import list_frames
from gsvnet.evaluation.cityscapes import open_cityscapes
from gsvnet.store.codec import decode_mask, encode_mask

INTERVAL, NUM_CHUNKS = 5, 2
NETWORK = "network"  # the material that ratios are of: what a job stores


def measure_masks(setting: Setting) -> tuple[Row, ...]:
    """Rows mask_bytes, mask_encode, mask_decode: ratios on the network's labels, other masks in `detail`."""
    figures = {name: compare_with_png(masks, rounds=setting.rounds) for name, masks in find_masks(setting).items()}
    ours = figures[NETWORK]
    lossless = all(figure["lossless"] for figure in figures.values())
    note = "one thread, CPU time per mask; PNG by Pillow" + ("" if lossless else "; NOT LOSSLESS")
    return (
        Row(
            name="mask_bytes",
            ratio=ours["bytes"] / ours["png_bytes"],
            unit="of PNG's bytes",
            detail={
                "note": f"{ours['bytes'] / 1000:.1f} kB, PNG {ours['png_bytes'] / 1000:.1f} kB a mask",
                "lossless": lossless,
                "masks": figures,
            },
        ),
        Row(
            name="mask_encode",
            ratio=ours["encode_s"] / ours["png_encode_s"],
            unit="of PNG's time",
            seconds={"ours": ours["encode_s"], "png": ours["png_encode_s"], "png level 1": ours["png1_encode_s"]},
            detail={"note": note, "ratio": {n: f["encode_s"] / f["png_encode_s"] for n, f in figures.items()}},
        ),
        Row(
            name="mask_decode",
            ratio=1 / ours["decode_s"],
            unit="masks per second on a core",
            seconds={"ours": ours["decode_s"], "png": ours["png_decode_s"]},
            detail={"note": note, "per_s": {name: 1 / figure["decode_s"] for name, figure in figures.items()}},
        ),
    )


def find_masks(setting: Setting) -> dict[str, list[np.ndarray]]:
    """Label maps (H, W) uint8 by where they come from; those of GSVNET_DATA where it is set."""
    batch = read_chunks(setting.video, setting.model, interval=INTERVAL, num_chunks=NUM_CHUNKS, threads=setting.threads)
    masks = {NETWORK: list(label_chunks(setting.model, batch.chunks, size=setting.size))}
    truth = read_truth(setting.video, setting.model.classes, range(INTERVAL * NUM_CHUNKS))
    if truth is not None:
        masks["drawn truth"] = list(truth)
    return masks | (find_true_masks(Path(root)) if (root := os.environ.get("GSVNET_DATA")) else {})


def find_true_masks(root: Path) -> dict[str, list[np.ndarray]]:
    """True labels of every fifth frame of CamVid's val clip and of Cityscapes' train split, where `root` has them."""
    masks = {}
    if (root / "camvid").is_dir():
        masks["CamVid val truth"] = [frame.read()[1] for frame in list_frames(root / "camvid", "val")[::5]]
    if (root / "cityscapes").is_dir():
        clips = open_cityscapes(root / "cityscapes", "train", keyframe_interval=1).clips
        frames = [clip.frames[i] for clip in clips for i in clip.scored]
        masks["Cityscapes train truth"] = [frame.read_truth(frame.read_image().shape[:2]) for frame in frames]
    return masks


def compare_with_png(masks: Sequence[np.ndarray], *, rounds: int) -> dict[str, Any]:
    """Mean bytes and median CPU seconds per mask of our codec and of PNG (Pillow's default, and its level 1)."""
    ours, png = [encode_mask(mask) for mask in masks], [encode_png(mask) for mask in masks]
    seconds = _per_mask(
        {
            "encode_s": lambda: [encode_mask(mask) for mask in masks],
            "png_encode_s": lambda: [encode_png(mask) for mask in masks],
            "png1_encode_s": lambda: [encode_png(mask, level=1) for mask in masks],
            "decode_s": lambda: [decode_mask(data, *mask.shape) for data, mask in zip(ours, masks)],
            "png_decode_s": lambda: [decode_png(data) for data in png],
        },
        num_masks=len(masks),
        rounds=rounds,
    )
    return {
        "masks": len(masks),
        "size": list(masks[0].shape),
        "bytes": sum(map(len, ours)) / len(masks),
        "png_bytes": sum(map(len, png)) / len(masks),
        "lossless": all(np.array_equal(decode_mask(d, *m.shape), m) for d, m in zip(ours, masks)),
        **seconds,
    }


def encode_png(mask: np.ndarray, *, level: int = 6) -> bytes:
    """A label map as greyscale PNG; level: of zlib, 6 is Pillow's default."""
    file = io.BytesIO()
    import_extra("PIL.Image", "view").fromarray(mask).save(file, "PNG", compress_level=level)
    return file.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """The label map of a PNG."""
    return np.asarray(import_extra("PIL.Image", "view").open(io.BytesIO(data)))


def _per_mask(runs: Mapping[str, Callable[[], object]], *, num_masks: int, rounds: int) -> dict[str, float]:
    cpu = measure_in_turns(runs, rounds=rounds).cpu
    return {name: seconds / num_masks for name, seconds in medians(cpu).items()}
