"""A video with its labels laid over, or twice with those of two outputs, to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.export.beside import PairedFrame, Side
from gsvnet.export.config import ExportConfig
from gsvnet.export.format import ExportedFrame, Fact, Record, Written, import_extra
from gsvnet.export.legend import BACKGROUND, Caption, Legend
from gsvnet.export.target import Target
from gsvnet.reading.pictures import blend
from gsvnet.store.read import Labels
from gsvnet.words import count

_LONGEST_S = 1  # that one frame is shown
# Without macroblock trees: with AVX-512 those of x264 read what was never written, and bytes differ from run to run.
_OPTIONS = {"crf": "22", "preset": "veryfast", "x264-params": "mbtree=0"}
_THREADS = 4  # of the encoder, whatever the machine: the bytes depend on it
_GOP_FRAMES = 60
_SIDES = ("left", "right")
_GAP_PX = 4  # between them, as dark as the captions


class Mp4Format:
    """<video id>.mp4 for each video: H.264 with the source's time base, at the source's pace.

    A frame is shown until the next chosen one, for a second at most: gaps are cut. Frames of two outputs are shown
    twice, side by side.
    """

    image_folder = "images"
    packages: tuple[str, ...] = ("av", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont")

    def __init__(self, labels: Labels, config: ExportConfig) -> None:
        self._labels, self._every = labels, config.every

    def write(self, frames: Iterator[ExportedFrame], target: Target) -> Iterator[Written]:
        """Write a whole video; what was begun of it is begun anew after a kill."""
        first = next(frames, None)
        if first is None:
            return
        pace = read_pace(self._labels, first.video, self._every)
        with target.create(f"{first.video}.mp4") as file:
            written = _encode(file.name, chain([first], frames), self._labels.classes, pace)
        yield written

    def finish(self, target: Target, records: Callable[[], Iterable[Record]]) -> list[Fact]:
        """Say how long the videos are."""
        videos = list(records())
        seconds, cut_s = (sum(video[name] for video in videos) for name in ("seconds", "cut_s"))
        text = f"{len(videos)} mp4, {seconds:.1f} s"
        bare = [sum(video["bare"][side] for video in videos if "bare" in video) for side in (0, 1)]
        shown = " and ".join(f"{count(number, 'frame')} on the {side}" for number, side in zip(bare, _SIDES) if number)
        return [
            ("videos", text + (f"; {cut_s:.1f} s between chosen frames left out" if cut_s else "")),
            *([("bare", f"{shown}: lost, damaged or missing there")] if shown else []),
        ]


class Pace:
    """When the frames of a video are shown, in ticks of its time base, from 0 on.

    time_base: seconds per tick. usual: ticks from one chosen frame to the next.
    """

    def __init__(self, time_base: Fraction, usual: int) -> None:
        self.time_base, self.usual = time_base, usual
        self.cut = 0
        self._last: int | None = None
        self._shown = 0

    def place(self, pts: int) -> int:
        """Time of the next frame, whose time in the source is `pts`."""
        if self._last is not None:
            longest = int(_LONGEST_S / self.time_base)
            step = min(pts - self._last, max(longest, 1))
            self.cut += pts - self._last - step
            self._shown += step
        self._last = pts
        return self._shown


def read_pace(labels: Labels, video: str, every: int) -> Pace:
    """The pace of a video of which each `every`-th frame is shown."""
    time_base = Fraction(labels.footer(video).time_base)
    indices = labels.indices(video)
    first, last = labels.row(video, int(indices[0])), labels.row(video, int(indices[-1]))
    longest = max(1, int(_LONGEST_S / time_base))
    if first.frame_index == last.frame_index:
        return Pace(time_base, longest)
    usual = round(every * (last.pts - first.pts) / (last.frame_index - first.frame_index))
    return Pace(time_base, min(max(usual, 1), longest))


def draw_frame(frame: ExportedFrame, classes: ClassSet, legend: Legend) -> np.ndarray:
    """Picture (H, W, 3) uint8 with labels laid over and the legend below; H and W are even."""
    assert frame.image is not None
    picture = blend(frame.image, classes.colourise(frame.labels))
    return _stack(picture, legend.draw(_present([frame.labels], classes), describe_frame(frame)))


def draw_pair(frame: PairedFrame, classes: ClassSet, legend: Legend, captions: Sequence[Caption]) -> np.ndarray:
    """Two pictures as `draw_frame` makes them, with a caption over each and one legend below."""
    assert frame.image is not None
    halves = [_draw_half(frame.image, side, classes, caption) for side, caption in zip(frame.sides, captions)]
    gap = np.full((len(halves[0]), _GAP_PX, 3), BACKGROUND, np.uint8)
    present = _present([side.labels for side in frame.sides if side.labels is not None], classes)
    return _stack(np.concatenate([halves[0], gap, halves[1]], axis=1), legend.draw(present, describe_time(frame)))


def describe_frame(frame: ExportedFrame) -> str:
    """Time, frame index and distance from the keyframe, for people."""
    return f"{describe_time(frame)}   {describe_distance(frame.keyframe_distance)}".rstrip()


def describe_time(frame: ExportedFrame) -> str:
    """Time and frame index, for people."""
    minutes, seconds = divmod(frame.time_s, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{seconds:06.3f}   frame {frame.frame_index}"


def describe_distance(frames: int | None) -> str:
    """How far a frame is from its keyframe, for people; "" where there is none."""
    return {None: "", 0: "keyframe"}.get(frames, f"{frames} from keyframe")


def _draw_half(image: np.ndarray, side: Side, classes: ClassSet, caption: Caption) -> np.ndarray:
    picture = image if side.labels is None else blend(image, classes.colourise(side.labels))
    return np.concatenate([caption.draw(describe_distance(side.keyframe_distance), side.problem), picture])


def _present(maps: Sequence[np.ndarray], classes: ClassSet) -> list[int]:
    """Ids of the classes in uint8 label maps, the one with the largest area first."""
    areas = sum((np.bincount(labels.ravel(), minlength=256) for labels in maps), np.zeros(256, np.int64))
    return [label for label in np.argsort(-areas, kind="stable").tolist() if areas[label] and label < len(classes)]


def _stack(picture: np.ndarray, band: np.ndarray) -> np.ndarray:
    """The band below the picture, with a row and a column more where H and W would be odd."""
    whole = np.concatenate([picture, band])
    return np.pad(whole, ((0, whole.shape[0] % 2), (0, whole.shape[1] % 2), (0, 0)), mode="edge")


def _begin_drawing(first: ExportedFrame, classes: ClassSet) -> Callable[[Any], np.ndarray]:
    """What draws the frames that are like this one: of its size, and of two outputs or of one."""
    assert first.image is not None
    height, width = first.image.shape[:2]
    if isinstance(first, PairedFrame):
        legend = Legend(classes, height, 2 * width + _GAP_PX)
        captions = [Caption(side.caption, height, width) for side in first.sides]
        return partial(draw_pair, classes=classes, legend=legend, captions=captions)
    return partial(draw_frame, classes=classes, legend=Legend(classes, height, width))


def _encode(path: str, frames: Iterable[ExportedFrame], classes: ClassSet, pace: Pace) -> Written:
    av = import_extra("av")
    drawings: dict[tuple[int, ...], Callable[[Any], np.ndarray]] = {}
    bare = np.zeros(len(_SIDES), int)
    stream: Any = None
    num_frames = shown = 0
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        for frame in frames:
            assert frame.image is not None
            size = frame.image.shape[:2]
            if size not in drawings:
                drawings = {size: _begin_drawing(frame, classes)}
            picture = av.VideoFrame.from_ndarray(drawings[size](frame), "rgb24")
            stream = stream or _add_stream(container, picture, pace)
            picture = picture.reformat(stream.width, stream.height, "yuv420p", dst_colorspace="ITU709")
            picture.pts, picture.time_base = pace.place(frame.pts), pace.time_base
            picture.duration = pace.usual
            num_frames, shown = num_frames + 1, picture.pts + pace.usual
            if isinstance(frame, PairedFrame):
                bare += [side.labels is None for side in frame.sides]
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    record: Record = {"seconds": float(shown * pace.time_base), "cut_s": float(pace.cut * pace.time_base)}
    record |= {"bare": bare.tolist()} if bare.any() else {}
    return Written(video=frame.video, frame_index=frame.frame_index, num_frames=num_frames, record=record)


def _add_stream(container: Any, picture: Any, pace: Pace) -> Any:
    rate = (1 / (pace.usual * pace.time_base)).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options=_OPTIONS)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    stream.gop_size = _GOP_FRAMES
    context = stream.codec_context
    context.thread_count, context.thread_type = _THREADS, "FRAME"
    context.time_base = stream.time_base = pace.time_base
    context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1  # BT.709, limited range
    return stream
