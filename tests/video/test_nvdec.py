from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from av.codec.hwaccel import HWAccel

from gsvnet.errors import DecodeError
from gsvnet.video import decode, nvdec
from gsvnet.video.decode import read_frames
from gsvnet.video.frames import View, render_views
from gsvnet.video.index import index_video
from gsvnet.video.nvdec import choose_decoder, render_on_device, unsupported

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="what happens without a GPU")
VIEWS = [View(36, 48), View(9, 12)]


def _read(path, *, decoder, first=0, views=VIEWS):
    pts = index_video(str(path)).pts.tolist()
    return list(
        read_frames(
            str(path), first_frame=first, start_pts=pts[first], end_pts=None, views=lambda _: views, decoder=decoder
        )
    )


def _same(frames, others) -> bool:
    return [(f.index, f.pts, f.status) for f in frames] == [(f.index, f.pts, f.status) for f in others] and all(
        np.array_equal(a, b)
        for f, g in zip(frames, others, strict=True)
        for a, b in zip(f.images, g.images, strict=True)
    )


def test_the_cpu_needs_no_reason_when_it_was_asked_for(zoo):
    choice = choose_decoder("cpu", str(zoo("b_frames_mp4")), device="cuda")
    assert (choice.name, choice.reason) == ("cpu", "")


def test_auto_on_a_cpu_worker_is_the_cpu(zoo):
    choice = choose_decoder("auto", str(zoo("b_frames_mp4")), device="cpu")
    assert (choice.name, choice.reason) == ("cpu", "the worker runs on a CPU")


def test_nvdec_is_never_replaced_when_it_was_asked_for(zoo):
    with pytest.raises(DecodeError, match=r"NVDEC cannot decode it \(the worker runs on a CPU\); use --decoder auto"):
        choose_decoder("nvdec", str(zoo("b_frames_mp4")), device="cpu")


def test_auto_names_a_codec_that_nvdec_does_not_take(media, tmp_path):
    path = media.write_clip(tmp_path / "lossless.mkv", codec="ffv1", num_frames=2)
    assert choose_decoder("auto", str(path), device="cuda").reason == "codec ffv1"


@without_cuda
def test_auto_names_what_a_gpu_lacks(zoo, monkeypatch):
    path = str(zoo("b_frames_mp4"))
    assert choose_decoder("auto", path, device="cuda").reason == "torch sees no CUDA device"
    monkeypatch.setattr(nvdec, "cuda_acceleration", lambda: HWAccel("cuda", allow_software_fallback=False))
    choice = choose_decoder("auto", path, device="cuda")
    assert choice.name == "cpu"
    assert choice.reason


@without_cuda
def test_a_gpu_that_fails_in_the_middle_of_a_job_costs_no_frame(zoo, monkeypatch):
    path = zoo("open_gop_ts")
    expected = _read(path, decoder="cpu", first=40)
    assert _same(_read(path, decoder="nvdec", first=40), expected)
    monkeypatch.setattr(decode, "cuda_acceleration", lambda: HWAccel("cuda", allow_software_fallback=False))
    assert _same(_read(path, decoder="nvdec", first=40), expected)


def _nv12(media, *, size=(72, 96), colorspace=1) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(media.draw_frame(99, *size), format="rgb24").reformat(format="nv12")
    frame.colorspace = colorspace
    return frame


def test_what_is_rendered_on_the_device_and_what_is_not(media):
    assert unsupported(_nv12(media)) is None
    assert unsupported(_nv12(media, size=(71, 96))) == "odd size 71x96"
    assert unsupported(_nv12(media, colorspace=9)) == "colour space 9"
    assert unsupported(_nv12(media).reformat(format="yuv420p10le")) == "pixel format yuv420p10le"


def test_frames_that_the_device_cannot_render_are_rendered_by_the_cpu(media):
    images = render_on_device(_nv12(media), VIEWS)
    assert [(i.dtype, tuple(i.shape)) for i in images] == [(torch.uint8, (36, 48, 3)), (torch.uint8, (9, 12, 3))]
    odd = _nv12(media, size=(71, 96))
    for image, expected in zip(render_on_device(odd, VIEWS), render_views(odd, VIEWS), strict=True):
        np.testing.assert_array_equal(image, expected)


@pytest.fixture
def clip(zoo, media, tmp_path):
    """clip(name): of the zoo, whose clips are too small for NVDEC's HEVC."""

    def make(name: str):
        if name != "hevc":
            return zoo(name)
        return media.write_clip(tmp_path / "hevc.mp4", codec="libx265", size=(288, 384), options={"preset": "veryfast"})

    return make


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["b_frames_mp4", "b_frames_mkv", "b_frames_ts", "open_gop_ts", "hevc"])
@pytest.mark.parametrize("views", [VIEWS, [View(36, 48, "exact")]], ids=["area", "exact"])
def test_nvdec_gives_the_frames_of_the_cpu(clip, media, name, views):
    path = clip(name)
    assert choose_decoder("nvdec", str(path), device="cuda").name == "nvdec"
    for first in (0, 40):
        expected = _read(path, decoder="cpu", first=first, views=views)
        frames = _read(path, decoder="nvdec", first=first, views=views)
        assert [(f.index, f.pts, f.status) for f in frames] == [(f.index, f.pts, f.status) for f in expected]
        for frame, other in zip(frames, expected, strict=True):
            for image, array in zip(frame.images, other.images, strict=True):
                assert image.is_cuda
                assert np.abs(image.cpu().numpy().astype(float) - array).max() <= 1.001
            assert media.read_number(frame.images[0].cpu().numpy()) == frame.index


@pytest.mark.gpu
def test_a_damaged_video_gives_the_frames_of_the_cpu(zoo, tmp_path):
    content = bytearray(zoo("b_frames_ts").read_bytes())
    start, length = len(content) * 4 // 10, len(content) // 8
    content[start : start + length] = np.random.default_rng(0).bytes(length)
    path = tmp_path / "damaged.ts"
    path.write_bytes(content)
    frames, expected = (_read(path, decoder=decoder) for decoder in ("nvdec", "cpu"))
    assert [(f.index, f.pts, f.status) for f in frames] == [(f.index, f.pts, f.status) for f in expected]
