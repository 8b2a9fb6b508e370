"""What a whole output lacks: with the videos of all jobs of an array, and of earlier runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from gsvnet.chunks import shard_name
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.plan import plan_from_dict
from gsvnet.store.job import list_failures, list_plans, read_plan

READING_THREADS = 16
State = Literal["complete", "settled", "partial"]
Shards = Collection[tuple[str, str]]  # (video id, shard name)


def state_of_output(
    config: LabelConfig, *, asked: Collection[str], known: Mapping[str, int], committed: Shards
) -> State:
    """complete: every shard of every video has its labels. settled: the others are recorded as given up. partial: more
    is missing.

    asked: ids of all videos that were named. known: number of shards of the videos planned in this run, by id.
    """
    labeled = {name for name, num_shards in known.items() if _is_labeled(name, num_shards, committed)}
    records = list_failures(config.out, config.storage_options, committed=committed, complete_videos=labeled)
    failed = {(record.video, record.shard) for record in records}

    def is_settled(name: str, num_shards: int) -> bool:
        shards = ((name, shard_name(index)) for index in range(num_shards))
        return (name, None) in failed or all(shard in committed or shard in failed for shard in shards)

    def stored_is_settled(name: str) -> bool:
        plan = read_plan(config.out, name, config.storage_options)
        return plan is not None and is_settled(name, len(plan_from_dict(plan, name).shards))

    if not all(is_settled(name, num_shards) for name, num_shards in known.items()):
        return "partial"
    stored = set(list_plans(config.out, config.storage_options))
    if any(name not in stored and (name, None) not in failed for name in asked):
        return "partial"
    with ThreadPoolExecutor(READING_THREADS) as pool:
        others_settled = all(pool.map(stored_is_settled, sorted(stored - known.keys())))
    return "partial" if not others_settled else "settled" if failed else "complete"


def labeled_videos(config: LabelConfig, names: Collection[str], committed: Shards) -> set[str]:
    """Of these videos (ids) those that have a plan in the output, and all its labels."""
    planned = set(names) and set(names).intersection(list_plans(config.out, config.storage_options))

    def has_all(name: str) -> bool:
        plan = read_plan(config.out, name, config.storage_options)
        return plan is not None and _is_labeled(name, len(plan_from_dict(plan, name).shards), committed)

    with ThreadPoolExecutor(READING_THREADS) as pool:
        return {name for name, has in zip(planned, pool.map(has_all, planned), strict=True) if has}


def _is_labeled(name: str, num_shards: int, committed: Shards) -> bool:
    return all((name, shard_name(index)) in committed for index in range(num_shards))
