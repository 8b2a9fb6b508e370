"""Decoding on a GPU's video engine (NVDEC): which videos it takes, and RGB made where the frames lie, on the device.

FFmpeg's own decoders run with NVDEC doing the pictures, so packets, order, pts and errors are those of the CPU path,
and H.264, HEVC and VP9 are specified to the bit. What may differ from the CPU is rounding in the conversion
(`planes.py`). Written against the documented interface of PyAV 18; no test of it has run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import av
from av.codec.hwaccel import HWAccel, hwdevices_available

from gsvnet.errors import DecodeError, SourceUnavailable, VideoError
from gsvnet.uris import StorageOptions, redact_text, redact_uri
from gsvnet.video.frames import View, guess_colorspace, render_views
from gsvnet.video.planes import Colours, render_planes
from gsvnet.video.probe import open_video, video_stream

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Decoder = Literal["cpu", "nvdec"]

_CODECS = ("h264", "hevc", "vp9")  # their chroma lies left unless tagged otherwise, which PyAV does not show
_SHARES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}  # of red and blue, by AVColorSpace
_MAX_PACKETS = 300


@dataclass(frozen=True, kw_only=True)
class DecoderChoice:
    """What decodes a video. reason: why it is the CPU although NVDEC was asked for; else empty."""

    name: Decoder
    reason: str = ""


def choose_decoder(
    requested: Literal["auto", "cpu", "nvdec"],
    uri: str,
    *,
    device: str,
    storage_options: StorageOptions | None = None,
) -> DecoderChoice:
    """What decodes this video on `device` ("cpu", "cuda"). auto: NVDEC where it can, else the CPU and why.

    On CUDA one frame is decoded to find out. Raises DecodeError for "nvdec" where that cannot be, and as `open_video`.
    """
    if requested == "cpu":
        return DecoderChoice(name="cpu")
    reason = _refusal(uri, device, storage_options)
    if reason is None:
        return DecoderChoice(name="nvdec")
    if requested == "nvdec":
        raise DecodeError(f"NVDEC cannot decode it ({reason}); use --decoder auto", uri=redact_uri(uri))
    return DecoderChoice(name="cpu", reason=reason)


def _refusal(uri: str, device: str, storage_options: StorageOptions | None) -> str | None:
    """Why NVDEC cannot decode a video; None when it can."""
    if device != "cuda":
        return "the worker runs on a CPU"
    if "cuda" not in hwdevices_available():
        return "this PyAV was built without CUDA"
    with open_video(uri, storage_options) as container:
        codec = video_stream(container, uri).codec.canonical_name
    if codec not in _CODECS:
        return f"codec {codec}"
    try:
        frame = _first_frame(uri, storage_options)
    except SourceUnavailable:  # says nothing of the decoder
        raise
    except (av.error.FFmpegError, VideoError, RuntimeError) as error:
        return redact_text(str(error))
    return "no frame can be decoded" if frame is None else unsupported(frame)


def _first_frame(uri: str, storage_options: StorageOptions | None) -> av.VideoFrame | None:
    with open_video(uri, storage_options, hwaccel=cuda_acceleration()) as container:
        stream = video_stream(container, uri)
        for count, packet in enumerate(container.demux(stream)):
            for frame in stream.codec_context.decode(packet):
                return frame
            if count > _MAX_PACKETS:
                break
    return None


def cuda_acceleration() -> HWAccel:
    """Decoding by NVDEC in the CUDA context that torch uses, frames staying on the device. Raises RuntimeError."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device")
    device = torch.cuda.current_device()
    # FFmpeg joins the context that is current in this thread: making a tensor makes torch's. It would refuse to
    # retain the primary context by itself, because torch has created it with other scheduling flags.
    torch.zeros(1, device=f"cuda:{device}")
    options: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}
    return HWAccel("cuda", device=str(device), allow_software_fallback=False, options=options, is_hw_owned=True)


def unsupported(frame: av.VideoFrame) -> str | None:
    """Why this frame cannot be rendered on the device; None when it can."""
    layout = (frame.sw_format or frame.format).name
    if layout != "nv12":
        return f"pixel format {layout}"
    if frame.height % 2 or frame.width % 2:
        return f"odd size {frame.height}x{frame.width}"
    if guess_colorspace(frame) not in _SHARES:
        return f"colour space {frame.colorspace}"
    return None


def render_on_device(
    frame: av.VideoFrame, views: Sequence[View], rotation: int = 0
) -> tuple[Tensor, ...] | tuple[np.ndarray, ...]:
    """As `render_views`, on the frame's device; a frame that cannot be rendered there is downloaded first."""
    if unsupported(frame) is not None:
        return render_views(frame, views, rotation)
    luma, chroma = frame_planes(frame)
    colours = frame_colours(frame)
    return tuple(render_planes(luma, chroma, view, colours, rotation) for view in views)


def frame_planes(frame: av.VideoFrame) -> tuple[Tensor, Tensor]:
    """Luma (H, W) and chroma (H / 2, W / 2, 2) uint8 of an NV12 frame, where it lies, without a copy.

    FFmpeg and torch both work in the default stream, so what is computed from them comes after the decoding.
    """
    from torch.utils.dlpack import from_dlpack

    # The capsule, not the plane: torch would name its stream, which PyAV refuses.
    luma, chroma = (from_dlpack(plane.__dlpack__()) for plane in frame.planes)
    return luma, chroma


def frame_colours(frame: av.VideoFrame) -> Colours:
    """How to read a frame's colours: its tags, and for an untagged frame the standard of its size."""
    red, blue = _SHARES[guess_colorspace(frame)]
    return Colours(red=red, blue=blue, full_range=frame.color_range == av.video.reformatter.ColorRange.JPEG)
