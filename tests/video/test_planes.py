from __future__ import annotations

import av
import numpy as np
import pytest

from gsvnet.video.frames import View, render
from gsvnet.video.nvdec import frame_colours, frame_planes
from gsvnet.video.planes import render_planes

BT601, BT709, LIMITED, FULL = 6, 1, 1, 2


@pytest.fixture(scope="module")
def make_frame(media, tmp_path_factory):
    """make_frame(...): a decoded H.264 frame with these tags."""
    folder = tmp_path_factory.mktemp("frames")

    def make(*, colorspace=BT601, color_range=LIMITED, size=(288, 384)) -> av.VideoFrame:
        path = folder / f"{size[0]}x{size[1]}.mp4"
        if not path.exists():
            media.write_clip(path, size=size, num_frames=12, options={"crf": "10"})
        with av.open(str(path)) as container:
            *_, frame = container.decode(video=0)
        frame.colorspace, frame.color_range = colorspace, color_range
        return frame

    return make


def _on_device(frame, view, rotation=0):
    planes = frame_planes(frame.reformat(format="nv12"))  # the same pixels, as NVDEC lays them out
    return render_planes(*planes, view, frame_colours(frame), rotation).numpy()


@pytest.mark.parametrize("size", [(216, 288), (144, 192), (36, 48), (100, 77), (300, 400), (24, 30)])
@pytest.mark.parametrize("colorspace", [BT601, BT709])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_other_sizes_differ_from_the_cpu_by_a_level_in_few_values(make_frame, size, colorspace, color_range):
    frame = make_frame(colorspace=colorspace, color_range=color_range)
    expected, image = render(frame, View(*size)).astype(int), _on_device(frame, View(*size)).astype(int)
    assert np.abs(image - expected).max() <= 1
    assert np.mean(image != expected) <= 0.03


@pytest.mark.parametrize("colorspace", [BT601, BT709])
@pytest.mark.parametrize("color_range", [LIMITED, FULL])
def test_the_own_size_equals_the_cpu(make_frame, colorspace, color_range):
    frame = make_frame(colorspace=colorspace, color_range=color_range)
    np.testing.assert_array_equal(_on_device(frame, View(288, 384)), render(frame, View(288, 384)))


def test_the_exact_resize_equals_the_cpu(make_frame):
    frame = make_frame()
    image = _on_device(frame, View(100, 77, "exact"))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, render(frame, View(100, 77, "exact")), atol=1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("resize", ["area", "exact"])
def test_rotated_frames_come_upright(make_frame, rotation, resize):
    frame, view = make_frame(), View(96, 72, resize)
    difference = _on_device(frame, view, rotation).astype(float) - render(frame, view, rotation)
    assert np.abs(difference).max() <= 1.001


def test_untagged_frames_are_read_by_their_height(make_frame):
    for size in ((480, 64), (720, 64)):
        frame = make_frame(colorspace=2, color_range=0, size=size)
        np.testing.assert_array_equal(_on_device(frame, View(*size)), render(frame, View(*size)))
