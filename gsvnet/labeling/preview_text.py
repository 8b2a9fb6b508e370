"""A preview in words, one line per fact, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape

from gsvnet.labeling.forecast import Forecast
from gsvnet.labeling.ledger import describe_motion
from gsvnet.labeling.preview import Preview
from gsvnet.labeling.survey import Group, Survey
from gsvnet.words import count, size_in_words

NUM_SIZES_SHOWN = 3
_COLOURS = {"failed": "red", "problems": "yellow"}

Lines = list[tuple[str, str]]


def show_preview(preview: Preview, console: Console) -> None:
    """Print the preview; lines are never wrapped. A fact without a name of its own belongs to the one above."""
    for name, text in describe_preview(preview):
        colour = _COLOURS.get(name, "bold")
        console.print(f"[{colour}]{name:<9}[/{colour}] {escape(text)}", highlight=False, soft_wrap=True)


def describe_preview(preview: Preview) -> Lines:
    """(name, text) of each line."""
    survey, expected = preview.survey, preview.forecast
    lines = _describe_videos(survey) if survey.num_videos else [("videos", "none that can be used")]
    lines += _describe_shares(survey)
    lines += _describe_groups("problems", survey.problems, with_text=True)
    lines += _describe_groups("failed", survey.failed, with_text=False)
    if survey.num_videos and not survey.frames_to_label:
        lines.append(("to do", "nothing: every frame has its labels"))
    elif expected is not None:
        lines += _describe_forecast(expected)
        lines += _describe_price(preview)
    return lines


def preview_to_dict(preview: Preview) -> dict[str, Any]:
    """JSON-ready form. Sizes are "HEIGHTxWIDTH"; bytes of files and labels; hours are of the whole job."""
    survey, expected = preview.survey, preview.forecast
    return {
        "videos": survey.num_videos,
        "videos_failed": survey.num_failed,
        "hours": round(survey.media_s / 3600, 4),
        "frames": survey.num_frames,
        "frames_to_label": survey.frames_to_label,
        "shards": survey.num_shards,
        "shards_to_label": survey.num_shards - survey.num_shards_done,
        "bytes": survey.num_bytes,
        "videos_scanned": survey.num_scanned,
        "bytes_scanned": survey.scanned_bytes,
        "sizes": {f"{h}x{w}": {"videos": size.videos, "frames": size.frames} for (h, w), size in survey.sizes.items()},
        "motion": dict(survey.motion),
        "videos_with_problems": survey.num_with_problems,
        "problems": [asdict(group) for group in survey.problems.values()],
        "failed": [asdict(group) for group in survey.failed.values()],
        "shares": [asdict(share) for share in survey.shares],
        "forecast": None if expected is None else _forecast_to_dict(expected),
        "gpu_hour_price": preview.config.gpu_hour_price,
        "price": None if preview.price is None else round(preview.price, 4),
        "exit_code": preview.exit_code,
    }


def _forecast_to_dict(expected: Forecast) -> dict[str, Any]:
    return {
        "device": expected.device,
        "precision": expected.precision,
        "num_actors": expected.num_actors,
        "gpu_hours": round(expected.gpu_hours, 4),
        "core_hours": round(expected.core_hours, 4),
        "wall_s": round(expected.wall_s, 3),
        "start_s": round(expected.start_s, 3),
        "label_bytes": expected.label_bytes,
        "frames_like_others": expected.frames_like_others,
        "speeds": [asdict(speed) | {"frames_per_s": round(speed.frames_per_s, 3)} for speed in expected.speeds],
    }


def _describe_videos(survey: Survey) -> Lines:
    from_headers = survey.num_videos - survey.num_scanned
    scanned = f", {survey.num_scanned:,} from a full scan ({size_in_words(survey.scanned_bytes)} read)"
    done = f", of which {survey.num_shards_done:,} are labeled already" if survey.num_shards_done else ""
    motion: Lines = [("motion", describe_motion(survey.motion))] if survey.motion else []
    return [
        ("videos", f"{survey.num_videos:,}, {hours(survey.media_s)}, {size_in_words(survey.num_bytes)}"),
        ("frames", f"{survey.num_frames:,}"),
        ("sizes", _describe_sizes(survey)),
        ("shards", f"{survey.num_shards:,}{done}"),
        ("numbers", f"{from_headers:,} from headers{scanned if survey.num_scanned else ''}"),
        *motion,
    ]


def _describe_sizes(survey: Survey) -> str:
    sizes = sorted(survey.sizes.items(), key=lambda item: item[1].videos, reverse=True)
    shown = [f"{size.videos:,} of {h}x{w}" for (h, w), size in sizes[:NUM_SIZES_SHOWN]]
    if others := sizes[NUM_SIZES_SHOWN:]:
        shown.append(f"{sum(size.videos for _, size in others):,} of {count(len(others), 'other size')}")
    return ", ".join(shown)


def _describe_shares(survey: Survey) -> Lines:
    if not survey.shares:
        return []
    videos, frames = [share.videos for share in survey.shares], [share.frames for share in survey.shares]
    spread = f"{min(videos):,} to {max(videos):,} videos, {min(frames):,} to {max(frames):,} frames each"
    return [("array", f"{count(len(survey.shares), 'job')}: {spread}")]


def _describe_groups(name: str, groups: dict[str, Group], *, with_text: bool) -> Lines:
    lines: Lines = []
    for group in sorted(groups.values(), key=lambda group: group.count, reverse=True):
        videos = count(group.count, "video")
        heading = f"{videos}, such as:" if with_text and group.count > 1 else f"{videos}:" if with_text else ""
        lines.append(("" if lines else name, heading or f"{videos}: {group.text}"))
        lines += [("", f"  {text}") for text in ([group.text] if with_text else []) + group.examples]
        if group.count > len(group.examples):
            lines.append(("", f"  and {group.count - len(group.examples):,} more"))
    return lines


def _describe_forecast(expected: Forecast) -> Lines:
    lines: Lines = []
    for speed in expected.speeds:
        measured = f"measured on {speed.num_frames:,} frames"
        rate = f"{speed.frames_per_s:,.1f} frames/s per actor at {speed.height}x{speed.width}"
        lines.append(("" if lines else "speed", f"{rate} ({measured})"))
    if expected.frames_like_others:
        lines.append(("", f"{expected.frames_like_others:,} frames of other sizes count as the next in size"))
    actors = f"{count(expected.num_actors, 'actor')} ({expected.device}, {expected.precision})"
    amount = f"{amount_of(expected.gpu_hours)} GPU hours" if expected.gpus_per_actor else ""
    amount = amount or f"{amount_of(expected.core_hours)} core hours"
    lines.append(("to do", f"{amount}: {duration(expected.wall_s)} on {actors}"))
    lines.append(("labels", f"about {size_in_words(expected.label_bytes)}"))
    if 0 < expected.gpus_per_actor < 1:
        lines.append(("", "measured with the GPU for itself; actors that share one slow each other down"))
    return lines


def _describe_price(preview: Preview) -> Lines:
    price = preview.config.gpu_hour_price
    if price is None:
        return []
    if preview.price is None:
        return [("price", "no GPU here: plan where the job will run")]
    return [("price", f"{preview.price:,.2f} at {price:,.2f} a GPU hour")]


def hours(seconds: float) -> str:
    """ "0.2 hours", "1,204.3 hours"; seconds where it is less than a tenth of an hour."""
    return f"{seconds / 3600:,.1f} hours" if seconds >= 360 else f"{seconds:,.1f} s"


def duration(seconds: float) -> str:
    """ "42 s", "18 min", "16.1 hours"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def amount_of(hours: float) -> str:
    """Hours with three significant digits below a hundred."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"
