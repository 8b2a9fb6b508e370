"""Small pictures of a video with their labels laid over, as JPEG; the labels alone where it is out of reach."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from gsvnet.classes import ClassSet
from gsvnet.errors import DecodeError, VideoError
from gsvnet.reading.pictures import blend, fit_labels, stream_pictures
from gsvnet.store.read import Labels
from gsvnet.store.timeline import Timeline
from gsvnet.uris import StorageOptions, redact_text

WIDTH_PX, HEIGHT_PX = 240, 180
LIMIT_S = 10.0  # for all thumbnails of a page
_THREADS = 4
_SETTINGS = ((240, 72), (240, 55), (200, 50), (160, 45), (120, 40))  # (width, JPEG quality), best first


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A frame as it is shown. image: (h, w, 3) uint8, at most HEIGHT_PX x WIDTH_PX. least_confident: chosen as such."""

    frame_index: int
    time_s: float
    confidence: float | None
    least_confident: bool
    image: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A video's thumbnails in the order of time. num_skipped: left out for lack of time. problem: why they show labels
    alone; "" where they need not."""

    thumbnails: tuple[Thumbnail, ...]
    num_skipped: int = 0
    problem: str = ""


def choose_frames(timeline: Timeline, num: int) -> dict[int, bool]:
    """{frame index: whether it is there for its low confidence}, ascending.

    The labeled bins are cut into `num` equal stretches, each of which gives its middle frame; of the quarter that
    holds the lowest confidence each gives its least confident frame instead.
    """
    labeled = np.flatnonzero(timeline.labeled_frame >= 0)
    stretches = [stretch for stretch in np.array_split(labeled, num) if len(stretch)] if num else []
    lowest = [float(np.nanmin(timeline.confidence_min[stretch], initial=2.0)) for stretch in stretches]
    low = {int(at) for at in np.argsort(lowest, kind="stable")[: num // 4] if lowest[at] <= 1}
    chosen = {}
    for at, stretch in enumerate(stretches):
        if at in low:
            frame = timeline.least_confident[stretch[np.nanargmin(timeline.confidence_min[stretch])]]
        else:
            frame = timeline.labeled_frame[stretch[len(stretch) // 2]]
        chosen[int(frame)] = at in low
    return chosen


def draw_strips(
    labels: Labels,
    timelines: Sequence[Timeline],
    num: int,
    *,
    source: str | None = None,
    video_options: StorageOptions | None = None,
    limit_s: float = LIMIT_S,
) -> list[Strip]:
    """The thumbnails of each video: `num`, or as many as there is time for, then far apart; one at least.

    source: see `stream_pictures`. Raises StoreError where labels cannot be read.
    """
    drawing = _Drawing(labels, source, video_options, time.monotonic() + limit_s)
    wanted = [
        _Wanted(turn, number, timeline.video, frame, chosen[frame])
        for number, timeline in enumerate(timelines)
        for chosen in [choose_frames(timeline, num)]
        for turn, frame in enumerate(_coarse_first(list(chosen)))
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        drawn = [found for found in pool.map(drawing.draw, sorted(wanted)) if found is not None]
    strips = []
    for timeline in timelines:
        own = [thumbnail for video, thumbnail in drawn if video == timeline.video]
        strips.append(
            Strip(
                thumbnails=tuple(sorted(own, key=lambda thumbnail: thumbnail.frame_index)),
                num_skipped=sum(each.video == timeline.video for each in wanted) - len(own),
                problem=drawing.problems.get(timeline.video, ""),
            )
        )
    return strips


def _coarse_first(frames: list[int]) -> list[int]:
    """The same frames so that each beginning of the list is spread over the whole of it: 0, 8, 4, 2, 6, ..."""
    order = sorted(range(len(frames)), key=lambda at: -(at & -at) if at else -len(frames))
    return [frames[at] for at in order]


class _Wanted(NamedTuple):
    """A thumbnail to draw; they sort by turn, so that every video has some early."""

    turn: int
    number: int
    video: str
    frame: int
    least_confident: bool


class _Drawing:
    """Draws thumbnails in several threads until `deadline_s` of the monotonic clock. problems: of videos, by id."""

    def __init__(
        self, labels: Labels, source: str | None, video_options: StorageOptions | None, deadline_s: float
    ) -> None:
        self._labels, self._source, self._video_options = labels, source, video_options
        self._deadline_s = deadline_s
        self.problems: dict[str, str] = {}

    def draw(self, wanted: _Wanted) -> tuple[str, Thumbnail] | None:
        """Video and thumbnail; None where there is no time for it."""
        if wanted.turn and time.monotonic() > self._deadline_s:
            return None
        frame = next(self._labels.stream(wanted.video, np.array([wanted.frame])))
        thumbnail = Thumbnail(
            frame_index=wanted.frame,
            time_s=frame.row.time_s,
            confidence=frame.row.confidence,
            least_confident=wanted.least_confident,
            image=shrink(self._read_image(wanted), frame.labels, self._labels.classes),
        )
        return wanted.video, thumbnail

    def _read_image(self, wanted: _Wanted) -> np.ndarray | None:
        if wanted.video in self.problems:
            return None
        pictures = stream_pictures(
            self._labels, wanted.video, [wanted.frame], source=self._source, video_options=self._video_options
        )
        try:
            return next(pictures).image
        except DecodeError:  # of this frame alone
            return None
        except ImportError:
            self.problems[wanted.video] = "PyAV is not installed (pip install 'gsvnet[view]')"
        except VideoError as error:
            self.problems[wanted.video] = redact_text(str(error))
        return None


def shrink(image: np.ndarray | None, labels: np.ndarray, classes: ClassSet) -> np.ndarray:
    """(h, w, 3) uint8, at most HEIGHT_PX x WIDTH_PX: a picture (H, W, 3) with its labels laid over, or these alone."""
    height, width = labels.shape if image is None else image.shape[:2]
    scale = min(WIDTH_PX / width, HEIGHT_PX / height, 1.0)
    small = max(1, round(width * scale)), max(1, round(height * scale))
    fine = fit_labels(labels, (2 * small[1], 2 * small[0]))
    colours = np.asarray(Image.fromarray(classes.colourise(fine)).resize(small, Image.Resampling.BOX))
    if image is None:
        return colours
    return blend(np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BOX)), colours, opacity=0.5)


def encode_within(images: Sequence[np.ndarray], budget_bytes: int) -> list[str]:
    """Data URIs of all images, at the best size and quality at which they fit together; else "" for every second,
    then three of four, and so on."""
    for width, quality in _SETTINGS:
        uris = [_to_uri(image, width, quality) for image in images]
        if sum(map(len, uris)) <= budget_bytes:
            return uris
    step = 2
    while sum(len(uri) for uri in uris[::step]) > budget_bytes and step < len(uris):
        step *= 2
    return [uri if at % step == 0 and len(uri) <= budget_bytes else "" for at, uri in enumerate(uris)]


def _to_uri(image: np.ndarray, width: int, quality: int) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((width, HEIGHT_PX), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
