"""Sizes and times of the mask codec against its alternatives: python tests/store/measure_codec.py [DATA]."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from gsvnet.store.codec import decode_mask, encode_mask

ZSTD = pa.Codec("zstd", compression_level=3)


def png(labels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(labels).save(sink, "PNG")
    return sink.getvalue()


def raw(labels: np.ndarray) -> bytes:
    return ZSTD.compress(labels.tobytes(), asbytes=True)


def xor_above(labels: np.ndarray) -> bytes:
    return raw(np.concatenate([labels[:1], labels[1:] ^ labels[:-1]]))


def row_runs(labels: np.ndarray) -> bytes:
    flat = labels.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(starts, append=flat.size).astype("<u4")
    return ZSTD.compress(lengths.view(np.uint8).reshape(-1, 4).T.tobytes() + flat[starts].tobytes(), asbytes=True)


def runs_of_xor(labels: np.ndarray) -> bytes:
    return row_runs(np.concatenate([labels[:1], labels[1:] ^ labels[:-1]]))


def like_a_network(labels: np.ndarray, stride: int) -> np.ndarray:
    """The map as a network gives it: one-hot averaged to 1/stride, upsampled bilinearly, argmax."""
    height, width = labels.shape
    best, winner = np.full((height, width), -1.0, np.float32), np.zeros((height, width), np.uint8)
    for value in np.unique(labels[labels != 255]):
        small = Image.fromarray((labels == value).astype(np.float32)).resize(
            (width // stride, height // stride), Image.Resampling.BOX
        )
        share = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
        winner[share > best] = value
        best = np.maximum(best, share)
    return winner


def seconds(call: Callable, items: list) -> float:
    """Best of three, per item."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for item in items:
            call(item)
        times.append((time.perf_counter() - start) / len(items))
    return min(times)


def main(data: Path) -> None:
    load = lambda paths: [np.asarray(Image.open(path)).copy() for path in paths]  # noqa: E731
    camvid = load(sorted((data / "camvid/labels/test").glob("*.png"))[::24])
    cityscapes = load(sorted((data / "cityscapes").glob("**/labels/*.png")))
    sets = {
        "CamVid truth, 360x480": camvid,
        "CamVid 1/4, 360x480": [like_a_network(m, 4) for m in camvid],
        "Cityscapes truth, 1024x2048": cityscapes,
        "Cityscapes 1/4, 1024x2048": [like_a_network(m, 4) for m in cityscapes],
        "Cityscapes 1/8, 1024x2048": [like_a_network(m, 8) for m in cityscapes],
    }
    others = {"raw + zstd": raw, "xor above + zstd": xor_above, "row runs + zstd": row_runs}
    others |= {"runs of xor above + zstd": runs_of_xor}
    for title, masks in sets.items():
        base_bytes, base_s = sum(len(png(m)) for m in masks), seconds(png, masks)
        print(f"{title}: PNG {base_bytes / len(masks):.0f} bytes, {base_s * 1e3:.2f} ms")
        for name, encode in {**others, "contour1": encode_mask}.items():
            size, time_s = sum(len(encode(m)) for m in masks), seconds(encode, masks)
            print(f"  {name:26s} {size / base_bytes:.2f} of the bytes, {time_s / base_s:.2f} of the time")
        height, width = masks[0].shape
        time_s = seconds(lambda data, h=height, w=width: decode_mask(data, h, w), [encode_mask(m) for m in masks])
        print(f"  contour1 decodes {1 / time_s:.0f} masks/s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
