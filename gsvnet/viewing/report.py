"""The report: an output as one HTML page of at most MAX_BYTES that needs nothing else to be read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
from gsvnet.viewing.overview import describe_output, describe_rows, describe_video
from gsvnet.viewing.page import render_page
from gsvnet.viewing.run import read_run
from gsvnet.viewing.spans import Span, find_spans
from gsvnet.viewing.thumbnails import Strip, Thumbnail, draw_strips, encode_within
from gsvnet.viewing.words import clock
from gsvnet.words import count

MAX_BYTES = 5_000_000
_CHARTS_BYTES = 2_000_000  # of MAX_BYTES, for all timelines together, but for what is wrong in them
_PICTURES_BYTES = 400_000  # of MAX_BYTES, kept for pictures
_FEWEST_BINS, _FEWEST_SPANS = 60, 10
_RENUMBERED_BYTES = 8  # a bin's nearest picture may have a longer number once some are left out


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """What a video's section is made of. number: of the section."""

    number: int
    facts: VideoFacts
    timeline: Timeline
    spans: Sequence[Span]
    thumbnails: Sequence[Thumbnail]


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
        "pictures_note": describe_pictures(strips),
        "has_drift": any(timeline.drift is not None for timeline in timelines.values()),
    }
    drafts = [
        _Draft(
            number=number,
            facts=video,
            timeline=timelines[video.video],
            spans=find_spans(labels, video, timelines[video.video]),
            thumbnails=strip.thumbnails,
        )
        for number, (video, strip) in enumerate(zip(chosen, strips, strict=True))
    ]
    return _fit(values, drafts, labels.classes)


def _fit(values: Mapping[str, Any], drafts: Sequence[_Draft], classes: ClassSet) -> str:
    """The page: all without the pictures' bytes, then as much of these as there is room for."""
    max_spans = MAX_BINS
    while True:
        sections = [_section(draft, draft.thumbnails, classes, max_spans) for draft in drafts]
        taken = len(render_page("report.html", {**values, "videos": sections}).encode())
        if taken <= MAX_BYTES - _PICTURES_BYTES or max_spans <= _FEWEST_SPANS:
            break
        max_spans //= 2
    taken += _RENUMBERED_BYTES * sum(len(draft.timeline.start_s) for draft in drafts)
    images = [thumbnail.image for draft in drafts for thumbnail in draft.thumbnails]
    uris = iter(encode_within(images, MAX_BYTES - taken))
    for number, draft in enumerate(drafts):
        own = [next(uris) for _ in draft.thumbnails]
        if not all(own):  # hovering shows the nearest of those that are there
            fitting = [thumbnail for thumbnail, uri in zip(draft.thumbnails, own) if uri]
            sections[number] = _section(draft, fitting, classes, max_spans)
        for picture, uri in zip(sections[number]["thumbnails"], filter(None, own), strict=True):
            picture["uri"] = uri
    return render_page("report.html", {**values, "videos": sections})


def _chart_bytes(classes: ClassSet, bins: int) -> int:
    """About as many bytes as a timeline takes in the page, rather more: each area names all areas below it."""
    return 12_000 + 1_200 * len(classes) + 8 * len(classes) ** 2 + bins * (110 + 6 * len(classes))


def _most_videos(classes: ClassSet) -> int:
    return max(1, _CHARTS_BYTES // _chart_bytes(classes, _FEWEST_BINS))


def _choose_bins(classes: ClassSet, num_videos: int) -> int:
    room = _CHARTS_BYTES // max(1, num_videos) - _chart_bytes(classes, 0)
    return int(np.clip(room // (_chart_bytes(classes, 1) - _chart_bytes(classes, 0)), _FEWEST_BINS, MAX_BINS))


def _section(draft: _Draft, thumbnails: Sequence[Thumbnail], classes: ClassSet, max_spans: int) -> dict[str, Any]:
    """What the template shows of a video; its pictures are named NUMBER-0, NUMBER-1, ... and have no bytes yet."""
    summary, number = draft.facts.summary, draft.number
    assert summary is not None
    nearest = _nearest([each.time_s for each in thumbnails], draft.timeline)
    return {
        **describe_video(draft.facts, draft.spans, classes),
        "has_drift": draft.timeline.drift is not None,
        "chart": draw_timeline(
            draft.timeline,
            classes,
            draft.spans,
            frame_s=summary.frame_s,
            pictures=[HoverPicture(name=f"{number}-{at}", frame_index=thumbnails[at].frame_index) for at in nearest],
            aspect=f"{summary.width} / {summary.height}",
            max_spans=max_spans,
        ),
        "thumbnails": [
            {
                "name": f"{number}-{at}",
                "uri": "",
                "frame": f"{each.frame_index:,}",
                "time": clock(each.time_s),
                "confidence": "?" if each.confidence is None else f"{each.confidence:.2f}",
                "drift": "" if each.choice.drift is None else f"{each.choice.drift:.3f}",
                "why": each.choice.why,
            }
            for at, each in enumerate(thumbnails)
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


def describe_pictures(strips: Sequence[Strip]) -> str:
    """Said once for all videos: why pictures show labels alone, and why there are fewer than asked for."""
    sentences = []
    if problems := [strip.problem for strip in strips if strip.problem]:
        which = "All pictures" if len(problems) == len(strips) else f"Pictures of {count(len(problems), 'video')}"
        sentences.append(
            f"{which} show labels alone, as the source could not be read: {problems[0].rstrip('.')}. "
            "--source says where videos are now."
        )
    if num_skipped := sum(strip.num_skipped for strip in strips):
        sentences.append(f"{count(num_skipped, 'picture')} would have taken too long to read.")
    return " ".join(sentences)
