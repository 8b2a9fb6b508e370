"""A job's status in lines for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from gsvnet.labeling.progress import format_clock
from gsvnet.labeling.status import JobStatus
from gsvnet.words import count, size_in_words

FAILURES_SHOWN = 5


def show_status(status: JobStatus, console: Console) -> None:
    """Print the status, one line per fact; lines are never wrapped, so that scripts can use them."""
    for name, text in describe_status(status).items():
        colour = "red" if name == "failed" else "bold"
        console.print(f"[{colour}]{name:<8}[/{colour}] {escape(text)}", highlight=False, soft_wrap=True)
    for failure in status.failures[:FAILURES_SHOWN]:
        where = failure.video if failure.shard is None else f"{failure.video}/{failure.shard}"
        text = " ".join(f"{where} {failure.error}: {failure.message}".split())
        console.print(f"{'':8} {escape(text)}", highlight=False, soft_wrap=True)


def describe_status(status: JobStatus) -> dict[str, str]:
    """The lines of the status by name."""
    family = f"{status.family}, " if status.family else ""
    share = f" ({100 * status.shards_done / status.shards:.1f} %)" if status.shards else ""
    lines = {
        "output": status.out,
        "job": f"{status.fingerprint[:12]}: {family}model hash {status.model_hash[:12]}, "
        f"keyframe interval {status.interval_text}",
        "state": _describe_state(status),
        "videos": f"{status.videos_done:,} done of {status.videos:,} planned",
        "shards": f"{status.shards_done:,} done of {status.shards:,}{share}",
        "frames": f"{status.frames_done:,} done of {status.frames:,}",
    }
    if status.frames_done:
        per_frame = f"{status.label_bytes / status.frames_done:.0f} bytes a frame"
        lines["labels"] = f"{size_in_words(status.label_bytes)}, {per_frame}"
    if status.frames_per_s:
        to_go = f", {format_clock(status.to_go_s)} to go" if status.to_go_s else ""
        lines["speed"] = f"{status.frames_per_s:,.1f} frames/s in the last hour with labels{to_go}"
    if status.num_failed:
        hidden = status.num_failed - FAILURES_SHOWN
        lines["failed"] = f"{status.num_failed:,}" + (f", the first {FAILURES_SHOWN}:" if hidden > 0 else ":")
    return lines


def _describe_state(status: JobStatus) -> str:
    ago = "" if status.quiet_s is None else f"last label {format_clock(status.quiet_s)} ago"
    ended = "" if status.last_exit_code is None else f"the last run that ended had exit code {status.last_exit_code}"
    if status.copy_of is not None:
        state = f"{'complete ' if status.complete else ''}compacted copy of {status.copy_of}"
        missing = status.shards - status.shards_done
        state += f", {count(missing, 'shard')} without labels" if missing else ""
    elif status.complete:
        state = "complete"
    elif status.at_work:
        state = "at work"
    elif not status.shards_done:
        state = "no labels yet"
    elif missing := status.shards - status.shards_done:
        state = f"not at work, {count(missing, 'shard')} without labels"
    else:
        state = "not at work, every planned shard has labels"
    return ", ".join(part for part in (state, ago, ended) if part)
