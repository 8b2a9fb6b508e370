"""What a class query over a day of labels costs: `python -m tests.store.measure_queries FOLDER`.

FOLDER/out is written first unless it is there: 1,440 files, 2.6 million rows, 10.4 GB. Seconds are of the fastest of
five runs, in this process; bytes are those that DuckDB asked a file system of ours for, so that no cache hides any.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb

from gsvnet.store.query import run_sql
from gsvnet.store.read import open_labels
from tests.counting import CountingFileSystem, num_bytes, reads_of_masks
from tests.days import draw_masks, write_days

QUERY = "select count(*) from {} where pixels.car > {}"
LIMITS = (20_000, 10**7)  # many frames; none, which the statistics of the row groups tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    out = folder / "out"
    if not (out / "_job.json").exists():
        spool = folder / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        write_days(out, draw_masks(), spool=spool)
    files = f"{out}/labels/**/*.parquet"
    all_bytes = sum(path.stat().st_size for path in out.rglob("labels/*/*.parquet"))
    labels = open_labels(str(out))
    print(f"{len(labels.paths)} files, {labels.frames.count_rows()} rows, {all_bytes / 1e9:.2f} GB")
    for limit in LIMITS:
        local = QUERY.format(f"'{files}'", limit)
        duckdb_s = fastest_s(partial(run_local, local))
        store_s = fastest_s(partial(run_sql, labels, QUERY.format("frames", limit)))
        print(f"pixels.car > {limit}: DuckDB {duckdb_s:.2f} s, run_sql {store_s:.2f} s")
        counted = CountingFileSystem()
        with duckdb.connect() as database:
            database.register_filesystem(counted)
            rows = database.sql(QUERY.format(f"'counted://{files}'", limit)).fetchall()
        assert rows == run_local(local)
        read = num_bytes(counted.reads)
        share = f"{read / 1e6:.1f} MB, {100 * read / all_bytes:.2f} % of all"
        print(f"  read {share}; reads of masks: {len(reads_of_masks(counted.reads))}")


def run_local(query: str) -> list[tuple]:
    return duckdb.sql(query).fetchall()


def fastest_s(query: Callable[[], object]) -> float:
    seconds = []
    for _ in range(5):
        start_s = time.perf_counter()
        query()
        seconds.append(time.perf_counter() - start_s)
    return min(seconds)


if __name__ == "__main__":
    main()
