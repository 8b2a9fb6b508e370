"""Frames to review as one HTML page of pictures, worst first, that needs nothing else to be read."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from gsvnet.store.read import Labels
from gsvnet.uris import redact_uri
from gsvnet.viewing.config import ReviewConfig, ViewConfig
from gsvnet.viewing.page import render_page
from gsvnet.viewing.report import describe_pictures
from gsvnet.viewing.review import Review, ReviewFrame
from gsvnet.viewing.review_text import NO_DRIFT, count_reasons, explain
from gsvnet.viewing.thumbnails import Choice, draw_frames, encode_within
from gsvnet.viewing.words import clock
from gsvnet.words import count

_PICTURES_BYTES = 20_000_000
_PORT = ViewConfig.port


def build_review_page(labels: Labels, review: Review, config: ReviewConfig) -> str:
    """The page. Raises StoreError and its kin where labels cannot be read."""
    chosen: dict[str, list[Choice]] = {}
    for frame in review.frames:
        chosen.setdefault(frame.video, []).append(Choice(frame=frame.frame_index))
    strips = draw_frames(labels, chosen, source=config.source, video_options=config.video_options or None)
    images = {(v, each.frame_index): each.image for v, strip in zip(chosen, strips) for each in strip.thumbnails}
    uris = encode_within([images[frame.video, frame.frame_index] for frame in review.frames], _PICTURES_BYTES)
    values = {
        "name": redact_uri(config.out),
        "sentence": f"{count(len(review.frames), 'frame')} of {review.usual.frames:,} in "
        f"{count(review.num_videos, 'video')}, the worst first, at least {config.min_gap_seconds:g} s apart.",
        "notes": [note for note in (describe_pictures(strips), _note_on_size(uris), _note_on_drift(review)) if note],
        "port": _PORT,
        "reasons": [{"name": name, "num": f"{num:,}"} for name, num in count_reasons(review).items()],
        "frames": _describe_frames(review.frames, uris),
    }
    return render_page("review.html", values)


def _note_on_size(uris: Sequence[str]) -> str:
    left_out = uris.count("")
    return f"{count(left_out, 'picture')} left out, so that the page stays small." if left_out else ""


def _note_on_drift(review: Review) -> str:
    return "" if review.usual.measured else f"{NO_DRIFT[0].upper()}{NO_DRIFT[1:]}."


def _describe_frames(frames: Sequence[ReviewFrame], uris: Sequence[str]) -> list[dict[str, str]]:
    return [
        {
            "uri": uri,
            "video": frame.video,
            "place": f"{clock(frame.time_s)} · frame {frame.frame_index:,}",
            "reason": frame.reason,
            "what": explain(frame),
            "link": f"http://127.0.0.1:{_PORT}/#{quote(frame.video, safe='')}/{frame.frame_index}",
        }
        for frame, uri in zip(frames, uris, strict=True)
    ]
