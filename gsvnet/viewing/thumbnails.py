"""Small pictures of a video with their labels laid over, as JPEG; the labels alone where it is out of reach."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from gsvnet.classes import ClassSet
from gsvnet.errors import DecodeError, VideoError
from gsvnet.reading.pictures import blend, fit_labels, stream_pictures
from gsvnet.store.drift import find_farthest
from gsvnet.store.read import Labels
from gsvnet.store.timeline import Timeline
from gsvnet.uris import StorageOptions, redact_text

WIDTH_PX, HEIGHT_PX = 240, 180
LIMIT_S = 10.0  # for all thumbnails of a page
_THREADS = 4
_SETTINGS = ((240, 72), (240, 55), (200, 50), (160, 45), (120, 40))  # (width, JPEG quality), best first


Why = Literal["", "confidence", "drift"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A frame to show. why: it has the lowest confidence or the most drift around; "": it is one of many. drift: of the
    chunk that it shows, which for "drift" is at first given by the keyframe that begins it."""

    frame: int
    why: Why = ""
    drift: float | None = None


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A frame as it is shown. image: (h, w, 3) uint8, at most HEIGHT_PX x WIDTH_PX. choice: why it is."""

    frame_index: int
    time_s: float
    confidence: float | None
    choice: Choice
    image: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A video's thumbnails in the order of time. num_skipped: left out for lack of time. problem: why they show labels
    alone; "" where they need not."""

    thumbnails: tuple[Thumbnail, ...]
    num_skipped: int = 0
    problem: str = ""


def choose_frames(timeline: Timeline, num: int) -> list[Choice]:
    """Frames by index. The labeled bins are cut into `num` equal stretches, each of which gives its middle frame.

    Of the quarter that drifted most each gives its worst chunk instead; of the quarter of the others that holds the
    lowest confidence each gives its least confident frame.
    """
    labeled = np.flatnonzero(timeline.labeled_frame >= 0)
    stretches = [stretch for stretch in np.array_split(labeled, num) if len(stretch)] if num else []
    by_drift = _most_drifted(timeline, stretches, num // 4)
    lowest = [float(np.nanmin(timeline.confidence_min[stretch], initial=2.0)) for stretch in stretches]
    others = [int(at) for at in np.argsort(lowest, kind="stable") if at not in by_drift and lowest[at] <= 1]
    low = set(others[: num // 4])
    chosen = {}
    for at, stretch in enumerate(stretches):
        if at in by_drift:
            choice = by_drift[at]
        elif at in low:
            frame = timeline.least_confident[stretch[np.nanargmin(timeline.confidence_min[stretch])]]
            choice = Choice(frame=int(frame), why="confidence")
        else:
            choice = Choice(frame=int(timeline.labeled_frame[stretch[len(stretch) // 2]]))
        chosen[choice.frame] = choice
    return list(chosen.values())


def _most_drifted(timeline: Timeline, stretches: Sequence[np.ndarray], num: int) -> dict[int, Choice]:
    """The worst chunk of each of the `num` stretches that drifted most, by its first frame."""
    if timeline.drift_max is None or timeline.drifted_keyframe is None:
        return {}
    found = {}
    for at, stretch in enumerate(stretches):
        begins = stretch[timeline.drifted_keyframe[stretch] >= 0]
        if len(begins):
            worst = begins[np.argmax(timeline.drift_max[begins])]
            keyframe, drift = int(timeline.drifted_keyframe[worst]), float(timeline.drift_max[worst])
            found[at] = Choice(frame=keyframe, why="drift", drift=drift)
    order = sorted((at for at in found if found[at].drift), key=lambda at: -(found[at].drift or 0.0))
    return {at: found[at] for at in order[:num]}


def _show_farthest(labels: Labels, chosen: Mapping[str, Sequence[Choice]]) -> dict[str, list[Choice]]:
    """The same choices by video, chunks by their frame farthest from keyframes; in the order of frames, each once."""
    keyframes = {v: own for v, each in chosen.items() if (own := [c.frame for c in each if c.why == "drift"])}
    farthest = find_farthest(labels, keyframes)
    shown: dict[str, list[Choice]] = {}
    for video, choices in chosen.items():
        moved = {}
        for choice in sorted(choices, key=lambda choice: choice.why == "drift"):  # which stays where frames coincide
            place = farthest.get((video, choice.frame)) if choice.why == "drift" else None
            frame = place[0] if place else choice.frame
            moved[frame] = replace(choice, frame=frame)
        shown[video] = [moved[frame] for frame in sorted(moved)]
    return shown


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
    chosen = _show_farthest(labels, {timeline.video: choose_frames(timeline, num) for timeline in timelines})
    return draw_frames(labels, chosen, source=source, video_options=video_options, limit_s=limit_s)


def draw_frames(
    labels: Labels,
    chosen: Mapping[str, Sequence[Choice]],
    *,
    source: str | None = None,
    video_options: StorageOptions | None = None,
    limit_s: float = math.inf,
) -> list[Strip]:
    """The thumbnails of given frames of each video, as `draw_strips` draws them, in the same order of videos."""
    drawing = _Drawing(labels, source, video_options, time.monotonic() + limit_s)
    wanted = [
        _Wanted(turn, number, video, choice)
        for number, (video, choices) in enumerate(chosen.items())
        for turn, choice in enumerate(_coarse_first(choices))
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        drawn = [
            found for found in pool.map(drawing.draw, sorted(wanted, key=lambda each: each[:2])) if found is not None
        ]
    by_video: dict[str, list[Thumbnail]] = {video: [] for video in chosen}
    for video, thumbnail in drawn:
        by_video[video].append(thumbnail)
    return [
        Strip(
            thumbnails=tuple(sorted(own, key=lambda thumbnail: thumbnail.frame_index)),
            num_skipped=len(chosen[video]) - len(own),
            problem=drawing.problems.get(video, ""),
        )
        for video, own in by_video.items()
    ]


def _coarse_first(choices: Sequence[Choice]) -> list[Choice]:
    """The same choices so that each beginning of the list is spread over the whole of it: 0, 8, 4, 2, 6, ..."""
    order = sorted(range(len(choices)), key=lambda at: -(at & -at) if at else -len(choices))
    return [choices[at] for at in order]


class _Wanted(NamedTuple):
    """A thumbnail to draw. turn: every video has some early."""

    turn: int
    number: int
    video: str
    choice: Choice


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
        frame = next(self._labels.stream(wanted.video, np.array([wanted.choice.frame])))
        thumbnail = Thumbnail(
            frame_index=wanted.choice.frame,
            time_s=frame.row.time_s,
            confidence=frame.row.confidence,
            choice=wanted.choice,
            image=shrink(self._read_image(wanted), frame.labels, self._labels.classes),
        )
        return wanted.video, thumbnail

    def _read_image(self, wanted: _Wanted) -> np.ndarray | None:
        if wanted.video in self.problems:
            return None
        pictures = stream_pictures(
            self._labels, wanted.video, [wanted.choice.frame], source=self._source, video_options=self._video_options
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
