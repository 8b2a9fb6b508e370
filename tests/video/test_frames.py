from __future__ import annotations

import threading

import av
import numpy as np
import pytest
import torch

from gsvnet.video.frames import View, render, render_full_size, render_views


def _frame(image: np.ndarray, pixel_format: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)


def _flat(y: int, u: int, v: int, height: int, *, colorspace: int = 2, color_range: int = 0) -> av.VideoFrame:
    """A frame of one colour, 4:4:4."""
    planes = np.empty((3, height, 64), np.uint8)
    planes[0], planes[1], planes[2] = y, u, v
    frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def _to_rgb(y: float, u: float, v: float, *, kr: float, kb: float, full: bool = False) -> np.ndarray:
    """ITU-R BT.601/709 equations in float."""
    luma = y / 255 if full else (y - 16) / 219
    blue, red = ((c - 128) / (255 if full else 224) for c in (u, v))
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    return 255 * np.array([r, (luma - kr * r - kb * b) / (1 - kr - kb), b])


BT601, BT709 = {"kr": 0.299, "kb": 0.114}, {"kr": 0.2126, "kb": 0.0722}


@pytest.mark.parametrize(
    ("height", "tags", "matrix"),
    [
        (480, {}, BT601),
        (720, {}, BT709),
        (720, {"colorspace": 6}, BT601),
        (480, {"colorspace": 1}, BT709),
        (480, {"color_range": 2}, BT601 | {"full": True}),
        (720, {"color_range": 1}, BT709),
    ],
)
@pytest.mark.parametrize("divisor", [1, 4])
def test_colours_follow_the_tags_and_else_the_size(height, tags, matrix, divisor):
    image = render(_flat(120, 90, 180, height, **tags), View(height // divisor, 64 // divisor))
    expected = _to_rgb(120, 90, 180, **matrix)
    assert np.abs(image - expected).max() <= 2.0


def test_at_equal_size_area_is_the_plain_conversion(media):
    frame = _frame(media.draw_frame(1234, 72, 96))
    np.testing.assert_array_equal(render(frame, View(72, 96)), frame.to_ndarray(format="rgb24"))
    np.testing.assert_array_equal(render_full_size(frame), frame.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_area_is_the_box_average_of_the_full_image(media, divisor):
    frame = _frame(media.draw_frame(0b101001110010, 288, 384))
    full = frame.to_ndarray(format="rgb24").astype(float)
    height, width = 288 // divisor, 384 // divisor
    box = full.reshape(height, divisor, width, divisor, 3).mean((1, 3))
    difference = np.abs(render(frame, View(height, width)) - box)
    assert difference.mean() < 1.5  # FFmpeg's plain conversion is itself 1 level too dark
    assert difference.max() < 4.0


def test_area_at_an_uneven_ratio_weighs_pixels_by_overlap():
    ramp = np.repeat(np.linspace(20, 230, 90)[None, :, None], 60, axis=0).repeat(3, axis=2).astype(np.uint8)
    image = render(_frame(ramp, "yuv444p"), View(40, 63)).astype(float)
    edges = np.arange(64) * 90 / 63
    overlap = np.clip(np.minimum(edges[1:, None], np.arange(1, 91)) - np.maximum(edges[:-1, None], np.arange(90)), 0, 1)
    expected = overlap @ ramp[0, :, 0] / overlap.sum(1)
    assert np.abs(image - expected[None, :, None]).max() < 3.0


def test_exact_is_corner_aligned_bilinear_without_antialiasing(media):
    frame = _frame(media.draw_frame(77, 72, 96))
    full = frame.to_ndarray(format="rgb24").astype(np.float64)
    y, x = np.arange(31) * 71 / 30, np.arange(17) * 95 / 16
    y0, x0 = np.minimum(y.astype(int), 70), np.minimum(x.astype(int), 94)
    dy, dx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    top = full[y0][:, x0] * (1 - dx) + full[y0][:, x0 + 1] * dx
    bottom = full[y0 + 1][:, x0] * (1 - dx) + full[y0 + 1][:, x0 + 1] * dx
    image = render(frame, View(31, 17, "exact"))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, top * (1 - dy) + bottom * dy, atol=1e-3)


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("size", [(288, 384), (216, 288), (144, 190), (36, 48), (37, 11), (1, 1), (400, 500)])
def test_exact_equals_interpolating_the_whole_float_frame(media, size, rotation):
    for number in (77, 1234):  # the second frame meets what the first one left behind
        frame = _frame(media.draw_frame(number, 288, 384))
        full = torch.from_numpy(render_full_size(frame, rotation)).permute(2, 0, 1)[None].float()
        expected = torch.nn.functional.interpolate(full, size=size, mode="bilinear", align_corners=True)
        image, small = render_views(frame, [View(*size, "exact"), View(9, 12, "exact")], rotation)
        np.testing.assert_array_equal(image, expected[0].permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(small, render(frame, View(9, 12, "exact"), rotation))


def test_images_stay_as_they_are_while_others_are_rendered(media):
    frames = [_frame(media.draw_frame(n, 72, 96)) for n in (5, 9)]
    views = [View(72, 96), View(36, 50), View(36, 48, "exact")]  # 50 pixels: rows that the converter pads
    first = render_views(frames[0], views)
    kept = [image.copy() for image in first]
    render_views(frames[1], views)
    for image, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(image, copy)
        assert image.flags.c_contiguous


@pytest.mark.parametrize("resize", ["area", "exact"])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_views_are_upright(media, rotation, resize):
    upright = media.draw_frame(0b100000110001, 96, 72)
    stored = _frame(np.ascontiguousarray(np.rot90(upright, -rotation // 90)))
    image = render(stored, View(48, 36, resize), rotation)
    assert image.shape == (48, 36, 3)
    assert media.read_number(image) == 0b100000110001
    assert image.flags.c_contiguous


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "nv12", "gray", "rgb24", "gbrp", "yuvj420p"]
)
def test_every_pixel_format_gives_rgb(media, pixel_format):
    image = render(_frame(media.draw_frame(99, 72, 96), pixel_format), View(36, 48))
    assert (image.dtype, image.shape) == (np.uint8, (36, 48, 3))
    assert media.read_number(image) == 99


def test_enlarging_and_odd_sizes_work(media):
    frame = _frame(media.draw_frame(99, 73, 97), "yuv444p")
    for size in ((73, 97), (145, 201), (9, 12), (1, 1)):
        assert render(frame, View(*size)).shape == (*size, 3)


def test_rendering_leaves_the_frame_as_it_was(media):
    frame = _frame(media.draw_frame(5, 72, 96))
    before = (frame.colorspace, frame.color_range, frame.to_ndarray().tobytes())
    render(frame, View(36, 48))
    assert (frame.colorspace, frame.color_range, frame.to_ndarray().tobytes()) == before


def test_threads_render_the_same_pixels(media):
    frames = [_frame(media.draw_frame(n, 72, 96)) for n in range(8)]
    alone = [render(f, View(18, 24)) for f in frames]
    together: list[list[np.ndarray]] = []
    threads = [
        threading.Thread(target=lambda: together.append([render(f, View(18, 24)) for f in frames])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 4
    for images in together:
        np.testing.assert_array_equal(images, alone)
