"""`gsvnet benchmark`: prepare, measure row after row, write each at once, show them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gsvnet.benchmark.config import BenchmarkConfig
from gsvnet.benchmark.footage import describe_clip
from gsvnet.benchmark.machine import describe_machine
from gsvnet.benchmark.preparing import prepare
from gsvnet.benchmark.record import Row
from gsvnet.benchmark.suite import run_rows
from gsvnet.benchmark.table import show_machine, show_rows


def benchmark(config: BenchmarkConfig, console: Console) -> int:
    """Measure and show the rows; the exit code: 0, or 1 if a row failed that should have run here."""
    rows: list[Row] = []
    with _json_lines(config.json) as write, console.status("preparing") as status:
        setting = prepare(config, report=status.update)
        torch.set_num_threads(setting.threads)
        facts = {"threads": setting.threads, "device": setting.device, "rounds": setting.rounds}
        machine = {**describe_machine(), **facts, "clip": describe_clip(setting.video)}
        write({"machine": machine})
        show_machine(machine, console)
        for row in run_rows(
            config.rows,
            lambda folder: replace(setting, folder=folder),
            report=lambda names: status.update(f"measuring {names}"),
        ):
            write(row.to_dict())
            rows.append(row)
    show_rows(rows, console)
    return 1 if any("error" in row.detail for row in rows) else 0


@contextmanager
def _json_lines(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one object a line at once, so that an interrupted run leaves what it measured."""
    if path is None:
        yield lambda record: None
        return
    with path.open("w") as file:

        def write(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        yield write
