"""The rows of the benchmark, by name, and how they are run: one after another, none stops the others."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gsvnet.benchmark.altering import measure_altering
from gsvnet.benchmark.batched import measure_batched
from gsvnet.benchmark.compute import measure_compute
from gsvnet.benchmark.keyframe import measure_keyframe
from gsvnet.benchmark.masks import measure_masks
from gsvnet.benchmark.overhead import measure_overhead
from gsvnet.benchmark.overlap import measure_overlap
from gsvnet.benchmark.plain_loop import measure_plain_loop
from gsvnet.benchmark.ray_data import measure_ray_data
from gsvnet.benchmark.reach import REACH
from gsvnet.benchmark.record import Row, skip
from gsvnet.benchmark.setting import Setting
from gsvnet.benchmark.sides import measure_sides
from gsvnet.benchmark.speedup import measure_speedup
from gsvnet.benchmark.stages import measure_stages
from gsvnet.benchmark.upsampling import measure_upsampling
from gsvnet.errors import MissingExtra

Measure = Callable[[Setting], Row | tuple[Row, ...]]

ROWS: dict[str, Measure] = {
    **dict.fromkeys(("speedup_l4_fp32", "speedup_l4_fast", "speedup_l12_fp32", "speedup_l12_fast"), measure_speedup),
    **dict.fromkeys(("sides_l12", "sides_l6"), measure_sides),
    **dict.fromkeys(("arseg_codec", "arseg_proxy"), measure_altering),
    **dict.fromkeys(("tdnet_batched", "tdnet_batched_gpu"), measure_batched),
    **dict.fromkeys(("plain_fp32", "plain_equal"), measure_plain_loop),
    "ray_data": measure_ray_data,
    "overlap": measure_overlap,
    "upsample": measure_upsampling,
    **dict.fromkeys(("mask_bytes", "mask_encode", "mask_decode"), measure_masks),
    "keyframe_fast": measure_keyframe,
    "overhead": measure_overhead,
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
