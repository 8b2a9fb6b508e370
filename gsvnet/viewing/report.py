"""The report: an output as one HTML page of at most MAX_BYTES that needs nothing else to be read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.store.read import Labels
from gsvnet.store.timeline import MAX_BINS, Timeline, read_timelines
from gsvnet.uris import redact_uri
from gsvnet.viewing.charts import HoverPicture, draw_timeline
from gsvnet.viewing.config import ReportConfig
from gsvnet.viewing.facts import VideoFacts, read_facts
from gsvnet.viewing.overview import describe_output, describe_rows, describe_video, plural
from gsvnet.viewing.page import render_page
from gsvnet.viewing.run import read_run
from gsvnet.viewing.spans import find_spans
from gsvnet.viewing.thumbnails import Strip, Thumbnail, draw_strips, encode_within
from gsvnet.viewing.words import clock

MAX_BYTES = 5_000_000
_CHARTS_BYTES = 2_000_000  # of MAX_BYTES, for all timelines together
_FEWEST_BINS = 60
_SECTION_BYTES, _FIGURE_BYTES = 3_000, 400  # of HTML around a timeline, around a picture


@dataclass(frozen=True, kw_only=True)
class _Picture:
    thumbnail: Thumbnail
    uri: str


def build_report(labels: Labels, config: ReportConfig) -> str:
    """The page, of MAX_BYTES at most. Raises StoreError and its kin where the output cannot be read."""
    facts = read_facts(labels)
    with_labels = [video for video in facts.videos if video.summary is not None]
    chosen = with_labels[: min(config.max_videos, _most_videos(labels.classes))]
    bins = _choose_bins(labels.classes, len(chosen))
    timelines = read_timelines(labels, [video.summary for video in chosen if video.summary], max_bins=bins)
    strips = draw_strips(
        labels,
        list(timelines.values()),
        config.thumbnails,
        source=config.source,
        video_options=config.video_options or None,
    )
    values = {
        **describe_output(labels, facts, read_run(config.out, config.storage_options), [v.video for v in chosen]),
        **describe_rows(facts, labels.classes),
        "name": redact_uri(config.out),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "shown_sentence": _describe_choice(len(chosen), len(with_labels)),
        "pictures_note": _describe_pictures(strips),
    }
    taken = len(render_page("report.html", values | {"videos": []}).encode())
    taken += len(chosen) * (_chart_bytes(labels.classes, bins) + _SECTION_BYTES)
    pictures = _encode(strips, MAX_BYTES - taken)
    sections = [
        _section(labels, number, video, timelines[video.video], own)
        for number, (video, own) in enumerate(zip(chosen, pictures, strict=True))
    ]
    return render_page("report.html", values | {"videos": sections})


def _chart_bytes(classes: ClassSet, bins: int) -> int:
    """About as many bytes as a timeline takes in the page, rather more: each area names all areas below it."""
    return 12_000 + 1_200 * len(classes) + 8 * len(classes) ** 2 + bins * (110 + 6 * len(classes))


def _most_videos(classes: ClassSet) -> int:
    return max(1, _CHARTS_BYTES // _chart_bytes(classes, _FEWEST_BINS))


def _choose_bins(classes: ClassSet, num_videos: int) -> int:
    room = _CHARTS_BYTES // max(1, num_videos) - _chart_bytes(classes, 0)
    return int(np.clip(room // (_chart_bytes(classes, 1) - _chart_bytes(classes, 0)), _FEWEST_BINS, MAX_BINS))


def _encode(strips: Sequence[Strip], budget_bytes: int) -> list[list[_Picture]]:
    """The pictures of each strip that fit into the budget together."""
    images = [thumbnail.image for strip in strips for thumbnail in strip.thumbnails]
    uris = iter(encode_within(images, budget_bytes - _FIGURE_BYTES * len(images)))
    encoded = [[_Picture(thumbnail=thumbnail, uri=next(uris)) for thumbnail in strip.thumbnails] for strip in strips]
    return [[picture for picture in pictures if picture.uri] for pictures in encoded]


def _section(
    labels: Labels, number: int, facts: VideoFacts, timeline: Timeline, pictures: Sequence[_Picture]
) -> dict[str, Any]:
    """What the template shows of a video. number: of the section; its pictures are named NUMBER-0, NUMBER-1, ..."""
    assert facts.summary is not None
    spans = find_spans(labels, facts, timeline)
    nearest = _nearest([picture.thumbnail.time_s for picture in pictures], timeline)
    return {
        **describe_video(facts, spans, labels.classes),
        "chart": draw_timeline(
            timeline,
            labels.classes,
            spans,
            frame_s=facts.summary.frame_s,
            pictures=[
                HoverPicture(name=f"{number}-{at}", frame_index=pictures[at].thumbnail.frame_index) for at in nearest
            ],
            aspect=f"{facts.summary.width} / {facts.summary.height}",
        ),
        "thumbnails": [
            {
                "name": f"{number}-{at}",
                "uri": picture.uri,
                "frame": f"{picture.thumbnail.frame_index:,}",
                "time": clock(picture.thumbnail.time_s),
                "confidence": "?" if picture.thumbnail.confidence is None else f"{picture.thumbnail.confidence:.2f}",
                "low": picture.thumbnail.least_confident,
            }
            for at, picture in enumerate(pictures)
        ],
    }


def _nearest(times: Sequence[float], timeline: Timeline) -> list[int]:
    """For each bin the number of the time next to its centre; none without times."""
    if not times:
        return []
    centres = (timeline.start_s + timeline.end_s) / 2
    return np.abs(centres[:, None] - np.array(times)).argmin(axis=1).tolist()


def _describe_choice(num_shown: int, num_videos: int) -> str:
    if num_shown == num_videos:
        return "All videos, those with trouble first." if num_videos > 1 else ""
    return (
        f"{num_shown} of {num_videos:,}, those with trouble first; --max-videos shows more, while the page stays small."
    )


def _describe_pictures(strips: Sequence[Strip]) -> str:
    """Said once for all videos: why pictures show labels alone, and why there are fewer than asked for."""
    sentences = []
    if problems := [strip.problem for strip in strips if strip.problem]:
        which = "All pictures" if len(problems) == len(strips) else f"Pictures of {plural(len(problems), 'video')}"
        sentences.append(
            f"{which} show labels alone, as the source could not be read: {problems[0].rstrip('.')}. "
            "--source says where videos are now."
        )
    if num_skipped := sum(strip.num_skipped for strip in strips):
        sentences.append(f"{plural(num_skipped, 'picture')} would have taken too long to read.")
    return " ".join(sentences)
