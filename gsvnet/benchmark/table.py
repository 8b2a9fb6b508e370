"""The benchmark's rows as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gsvnet.benchmark.reach import REACH, Reach
from gsvnet.benchmark.record import Row


def show_machine(machine: Mapping[str, Any], console: Console) -> None:
    """Print on what is measured: the machine in one line, the clip in another."""
    clip = machine["clip"]
    cuda = f", {machine['cuda']}" if machine["cuda"] else ""
    memory = f", {machine['memory_gib']:g} GiB" if machine["memory_gib"] else ""
    console.print(
        f"{machine['processor']}: {machine['threads']} of {machine['cores']} cores{memory}{cuda}; "
        f"torch {machine['torch']}, gsvnet {machine['gsvnet']}"
        + (f" ({machine['commit']})" if machine["commit"] else "")
    )
    console.print(
        f"clip: {clip['width']}x{clip['height']}, {clip['codec']}, {clip['frames']} frames at {clip['fps']:g} Hz, "
        f"{clip['bytes_per_frame'] / 1000:.1f} kB a frame, {clip['i_frames']} I-frames"
    )


def show_rows(rows: Sequence[Row], console: Console) -> None:
    """Print a line for every row: what it compares, the ratio, the mark, seconds side by side, what else to know."""
    table = Table(show_lines=False, pad_edge=False)
    table.add_column("row", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("reach", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("compares")
    table.add_column("time and notes")
    for row in rows:
        reach = REACH.get(row.name, Reach(what=row.unit))
        table.add_row(row.name, _figure(row.ratio), reach.text, _verdict(row, reach), reach.what, _notes(row))
    console.print(table)
    for row in rows:
        if row.detail.get("stages"):
            _show_stages(row.detail["stages"], console)


def _figure(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.0f}" if abs(ratio) >= 100 else f"{ratio:.3g}"


def _verdict(row: Row, reach: Reach) -> str:
    met = None if row.ratio is None else reach.met(row.ratio)
    return "" if met is None else "yes" if met else "no"


def _notes(row: Row) -> str:
    if row.skipped is not None:
        return f"skipped: {row.skipped}"
    times = ", ".join(f"{name} {duration(seconds)}" for name, seconds in row.seconds.items())
    return "; ".join(text for text in (times, row.detail.get("note", "")) if text)


def duration(seconds: float) -> str:
    """Seconds for people: "1.62 ms", "12.3 s".

    >>> duration(0.00162), duration(12.34), duration(0.31)
    ('1.62 ms', '12.3 s', '310 ms')
    """
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _show_stages(stages: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A line for every stage; the columns are the keys of the first."""
    table = Table(pad_edge=False)
    for key in stages[0]:
        table.add_column(str(key).replace("_", " "), justify="left" if key == "stage" else "right")
    for stage in stages:
        table.add_row(*(value if isinstance(value, str) else _cell(value) for value in stage.values()))
    console.print(table)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
