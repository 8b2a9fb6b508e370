"""Containers: where their tables stand, what they leave out, and files that only look like videos."""

from __future__ import annotations

from fractions import Fraction

from tests.video.media import write_audio
from tests.zoo.changing import renamed, written
from tests.zoo.exhibit import Exhibit, Refused, steady
from tests.zoo.making import AV1, B_FRAMES, FULL, LONG, SHARP, TWO_FRAMES, VP8, clip, everyday, video, x265
from tests.zoo.several import header_only, pictures, streams

_FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
_CUT = "; it may be cut short, still being written, or no video"
_NO_VIDEO = f"not a readable video container (Invalid argument){_CUT}"
_NO_CONTAINER = f"not a readable video container (Invalid data found when processing input){_CUT}"
_REENCODE = "re-encode it: ffmpeg -i IN OUT.mkv"
_GUESS_TIMES = "remux it: ffmpeg -fflags +genpts -i IN -c copy OUT.mkv"
_UNORDERED = "the container does not store the order of its B-frames; "


def _fragmented(file: str, shows: str, movflags: str, *, start: Fraction = TWO_FRAMES) -> Exhibit:
    options = {"movflags": movflags}
    return clip(file, shows, steady(start=start), options=B_FRAMES, container_options=options)


CONTAINERS = (
    everyday("faststart_mp4", "MP4 with its tables at the front", steady(LONG)),
    everyday("fragmented_mp4", "MP4 in fragments, without an index", steady(LONG, start=TWO_FRAMES)),
    _fragmented("fragmented_sidx.mp4", "MP4 in fragments, index at the front (sidx)", f"{_FRAGMENTS}+global_sidx"),
    _fragmented("fragmented_mfra.mp4", "MP4 in fragments, index at the end (mfra)", "frag_keyframe"),
    _fragmented("cmaf.mp4", "MP4 in fragments as for streaming (CMAF)", "cmaf+frag_keyframe", start=TWO_FRAMES / 2),
    clip("b_frames.mov", "MOV", steady(), options=B_FRAMES),
    everyday("b_frames_mkv", "Matroska", steady(LONG)),
    clip(
        "live.mkv",
        "Matroska as written live: no lengths, no index",
        steady(),
        options=B_FRAMES,
        container_options={"live": "1"},
    ),
    everyday("b_frames_ts", "MPEG-TS", steady(LONG, start=TWO_FRAMES)),
    clip(
        "b_frames.m2ts",
        "MPEG-TS with 192 bytes a packet",
        steady(start=TWO_FRAMES),
        options=B_FRAMES,
        container_options={"mpegts_m2ts_mode": "1"},
    ),
    clip(
        "mpeg2.mpg",
        "MPEG-2 in a program stream, as on a DVD",
        Refused(message=_UNORDERED + _GUESS_TIMES),
        codec="mpeg2video",
        options=SHARP | {"bf": "2"},
    ),
    clip(
        "mpeg2.m2v",
        "MPEG-2 without a container",
        Refused(message=_UNORDERED + _GUESS_TIMES),
        codec="mpeg2video",
        options=SHARP,
    ),
    clip(
        "b_frames.avi",
        "H.264 with B-frames in AVI, which stores no pts",
        Refused(message=_UNORDERED + _REENCODE),
        options=B_FRAMES,
    ),
    clip(
        "mpeg4_b_frames.avi",
        "MPEG-4 part 2 with B-frames in AVI",
        Refused(message=_UNORDERED + _GUESS_TIMES),
        codec="mpeg4",
        options=SHARP | {"bf": "2"},
    ),
    clip("b_frames.flv", "FLV", steady(start=TWO_FRAMES), options=B_FRAMES),
    clip(
        "raw.h264",
        "H.264 without a container",
        Refused(message=f"24 frames have no usable timestamp; {_REENCODE}"),
        options=B_FRAMES,
    ),
    clip(
        "raw.hevc",
        "H.265 without a container",
        Refused(message=f"24 frames have no usable timestamp; {_REENCODE}"),
        codec="libx265",
        options=x265(keyint=12),
    ),
    clip(
        "av1.obu",
        "AV1 without a container",
        steady(rate=25, problems=("the file stores no times: 25 frames/s are assumed",)),
        codec="libsvtav1",
        options=AV1,
    ),
    clip("av1.ivf", "IVF", steady(), codec="libsvtav1", options=AV1),
    clip("vp8.ogg", "Ogg", steady(), codec="libvpx", options=VP8),
    clip("raw.nut", "NUT", steady(colour_error=3), codec="rawvideo"),
    clip("mpeg2.mxf", "MXF", steady(), codec="mpeg2video", options=SHARP | {"bf": "2"}),
    clip("raw.y4m", "YUV4MPEG", steady(colour_error=3), codec="wrapped_avframe"),
    Exhibit(
        file="matroska.mp4",
        shows="Matroska with an MP4's name",
        make=renamed(".mkv", video(options=B_FRAMES)),
        expect=steady(),
        happens="the content counts, not the name",
    ),
    clip(
        "gif.gif", "GIF, 256 colours, hundredths of seconds", steady(colour_error=20), codec="gif", pixel_format="rgb8"
    ),
    clip(
        "picture.avif",
        "an AVIF picture, which is an MP4 of one frame",
        steady(1, colour_error=4),
        happens="one frame",
        codec="libsvtav1",
        options=AV1,
        num_frames=1,
    ),
    clip(
        "picture.png",
        "a PNG picture",
        Refused(message=_NO_VIDEO),
        codec="png",
        pixel_format="rgb24",
        num_frames=1,
        container_options={"update": "1"},
    ),
    clip(
        "picture.jpg",
        "a JPEG picture",
        Refused(message=_NO_VIDEO),
        codec="mjpeg",
        pixel_format="yuvj420p",
        look=FULL,
        num_frames=1,
        container_options={"update": "1"},
    ),
    clip(
        "picture.webp",
        "a WebP picture",
        Refused(message=_NO_VIDEO),
        codec="libwebp",
        num_frames=1,
    ),
    Exhibit(
        file="sound.m4a",
        shows="sound alone",
        make=write_audio,
        expect=Refused(message="the file has no video stream: audio"),
    ),
    Exhibit(
        file="text.mp4",
        shows="text with a video's name",
        make=written(b"not a video at all\n" * 100),
        expect=Refused(message=_NO_CONTAINER),
    ),
    Exhibit(
        file="empty.mp4",
        shows="a file of 0 bytes",
        make=written(b""),
        expect=Refused(message="the file is empty; copy or record it again"),
    ),
    Exhibit(
        file="playlist.m3u8",
        shows="a playlist",
        make=written(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3.6,\nb_frames.ts\n#EXT-X-ENDLIST\n"),
        expect=Refused(message=_NO_CONTAINER),
        happens="no other file is opened",
    ),
    Exhibit(
        file="no_frames.avi",
        shows="a stream without frames",
        make=streams(pictures((), codec="mpeg4", options=None), header_only),
        expect=Refused(message="no frame can be decoded; record or copy it again"),
    ),
)
