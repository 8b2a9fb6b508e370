"""What tests label: small drawn videos, and a checkpoint that is fast and whose labels are far from uniform."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av

from tests.video.media import write_clip


def save_tiny_model(path: Path) -> Path:
    """A GSVNet checkpoint with random weights that reads 48 rows."""
    import torch

    from gsvnet.classes import CAMVID
    from gsvnet.models.checkpoints import save_checkpoint
    from gsvnet.models.segmenter import SizeRule
    from gsvnet.models.spec import ModelSpec, NormaliseSpec, build_model

    normalise = NormaliseSpec(mean=(0.41, 0.42, 0.43), std=(0.27, 0.28, 0.28))
    spec = ModelSpec(
        family="gsvnet-swiftnet",
        classes=CAMVID,
        normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(rows=48, strides=(4,), min_grid_rows=12),
        align_corners=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, build_model(spec))
    return path


def write_clips(folder: Path, lengths: Mapping[str, int]) -> list[Path]:
    """Clips of 72x96 pixels whose frames all differ, an I-frame at least every 12. lengths: file name -> frames."""
    options = {"x264-params": "keyint=12:bframes=2"}
    return [write_clip(folder / name, num_frames=length, options=options) for name, length in lengths.items()]


def repeat_video(video: Path, times: int, path: Path) -> Path:
    """The packets of a video again and again, without encoding anew, at `path`."""
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(stream) if p.size]
        length = int(len(packets) / stream.average_rate / stream.time_base)
        with av.open(str(path), "w") as sink:
            copy = sink.add_stream_from_template(stream)
            for number in range(times):
                for data, pts, dts, is_keyframe in packets:
                    packet = av.Packet(data)
                    packet.pts, packet.dts = pts + number * length, dts + number * length
                    packet.stream, packet.time_base, packet.is_keyframe = copy, stream.time_base, is_keyframe
                    sink.mux(packet)
    return path
