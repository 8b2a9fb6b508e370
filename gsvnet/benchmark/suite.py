"""The rows of the benchmark, by name, and how they are run: one after another, none stops the others."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gsvnet.benchmark.compute import measure_compute
from gsvnet.benchmark.keyframe import measure_keyframe
from gsvnet.benchmark.masks import measure_masks
from gsvnet.benchmark.reach import REACH
from gsvnet.benchmark.record import Row, skip
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.stages import measure_stages
from gsvnet.benchmark.upsampling import measure_upsampling
from gsvnet.errors import MissingExtra

Measure = Callable[[Setting], Row | tuple[Row, ...]]

ROWS: dict[str, Measure] = {
    "upsample": measure_upsampling,
    "mask_bytes": measure_masks,
    "mask_encode": measure_masks,
    "mask_decode": measure_masks,
    "keyframe_fast": measure_keyframe,
    "stages": measure_stages,
    "h200_compute": measure_compute,
}
"""What measures each row. Rows that share a function are measured by one call."""


def run_rows(
    names: Sequence[str],
    make_setting: Callable[[Path], Setting],
    *,
    rows: dict[str, Measure] = ROWS,
    report: Callable[[str], None] = lambda name: None,
) -> Iterator[Row]:
    """Rows as they are done, in the order of `names`; each function gets a scratch folder that is gone afterwards.

    What cannot run here (an extra that is not installed) is skipped; so is what raises, with `error` in its detail.
    make_setting: the setting around a scratch folder. report: told the names of what is measured next.
    """
    for measure in dict.fromkeys(rows[name] for name in names):
        wanted = [name for name in names if rows[name] is measure]
        report(", ".join(wanted))
        with tempfile.TemporaryDirectory(prefix="gsvnet-benchmark-") as folder:
            yield from _run(measure, wanted, lambda folder=folder: make_setting(Path(folder)))  # type: ignore[misc]


def _run(measure: Measure, wanted: Sequence[str], make_setting: Callable[[], Setting]) -> list[Row]:
    try:
        measured = measure(make_setting())
        found = {row.name: row for row in ([measured] if isinstance(measured, Row) else measured)}
        return [found[name] for name in wanted]
    except MissingExtra as error:
        return [skip(name, REACH[name].what, str(error)) for name in wanted]
    except Exception as error:  # one row that fails must not cost the others
        reason = f"{type(error).__name__}: {error}"
        detail = {"error": traceback.format_exc()}
        return [Row(name=n, ratio=None, unit=REACH[n].what, detail=detail, skipped=reason) for n in wanted]
