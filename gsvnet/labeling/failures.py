"""What was given up: recorded in the output, and left alone by the next run unless that is told to try again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from gsvnet.chunks import shard_name
from gsvnet.errors import NoSpace, SourceUnavailable, StoreRefused, StoreUnavailable
from gsvnet.labeling.completeness import labeled_videos
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.progress import JobProgress
from gsvnet.labeling.tasks import ShardFailure
from gsvnet.store.job import FailureRecord, list_failures, remove_failure, write_failure
from gsvnet.uris import absolute_uri

_NO_VERDICTS = {error.__name__ for error in (SourceUnavailable, StoreUnavailable, StoreRefused, NoSpace)}


def earlier_failures(
    config: LabelConfig, videos: Collection[str], committed: Collection[tuple[str, str]]
) -> set[tuple[str, str | None]]:
    """What `_failed/` lists of these videos (ids): (video, shard or None). With --retry-failed it is forgotten.

    A record is void once the labels exist: of the shard, or of all shards that the video was planned with.
    """
    records = list_failures(config.out, config.storage_options, committed=committed)
    records = [record for record in records if record.video in videos]
    labeled = labeled_videos(config, {record.video for record in records if record.shard is None}, committed)
    records = [record for record in records if record.shard is not None or record.video not in labeled]
    if not config.retry_failed:
        return {(record.video, record.shard) for record in records}
    for record in records:
        remove_failure(config.out, record, config.storage_options)
    return set()


def failure_recorder(
    config: LabelConfig, videos: Mapping[str, str], progress: JobProgress
) -> Callable[[ShardFailure], None]:
    """What to do with a video or shard that was given up: show it, and record it in the output.

    An outage or a full disk says nothing of the video, so it is not recorded: the next run tries again. So does it
    where the record cannot be written because the output does not answer.
    """

    def give_up(failure: ShardFailure) -> None:
        progress.fail(failure)
        if failure.error in _NO_VERDICTS:
            return
        record = failure_record(failure, videos[failure.video_id])
        try:
            write_failure(config.out, record, config.storage_options, config.unsafe_commit)
        except StoreRefused:
            raise
        except StoreUnavailable as error:
            progress.note(f"not recorded, the next run tries again: {error}")

    return give_up


def failure_record(failure: ShardFailure, uri: str) -> FailureRecord:
    """The failure as `_failed/` keeps it. uri: of its video; credentials are left out."""
    return FailureRecord(
        video=failure.video_id,
        uri=absolute_uri(uri),
        shard=None if failure.shard_index is None else shard_name(failure.shard_index),
        error=failure.error,
        message=failure.message,
        attempts=failure.attempts,
    )
