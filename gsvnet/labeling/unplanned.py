"""Videos that have labels, but whose plan is gone: is it still the file that was labeled?"""

from __future__ import annotations

from collections.abc import Mapping

from gsvnet.chunks import shard_name
from gsvnet.errors import CorruptLabels, SourceChanged, VideoError
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.planning import Planned, failed_video
from gsvnet.store.committed import Committed
from gsvnet.store.filesystem import open_filesystem
from gsvnet.store.job import JobRecord, list_plans
from gsvnet.store.label_file import LabelFileReader
from gsvnet.store.layout import shard_uri
from gsvnet.store.threads import map_in_threads
from gsvnet.uris import redact_uri
from gsvnet.video.probe import video_identity

_THREADS = 16


def changed_without_plan(
    config: LabelConfig, job: JobRecord, videos: Mapping[str, str], committed: Committed
) -> list[Planned]:
    """Of these videos (id -> URI) those that have labels of another file, and no plan that would say so: failures.

    Without a plan a video is planned anew, and what its file is now would be labeled beside what it was.
    Raises StoreUnavailable, StoreRefused or StoreError.
    """
    labeled = [name for name in videos if committed.indices(name)]
    if not labeled:
        return []
    planned = frozenset(list_plans(config.out, config.storage_options))
    files = LabelFileReader(open_filesystem(config.out, config.storage_options)[0], job.fingerprint)

    def check(name: str) -> Planned | None:
        uri, shard = videos[name], shard_name(committed.indices(name)[0])
        path = open_filesystem(shard_uri(config.out, name, shard), config.storage_options)[1]
        try:
            was, now = files.open(path).sources[0].footer.identity, video_identity(uri, config.video_options)
        except (VideoError, CorruptLabels):  # planning, and the manifest, say more
            return None
        if was == now:
            return None
        message = f"the file changed since it was labeled (was {was}, is {now}); use another output"
        error = SourceChanged(message, uri=redact_uri(uri))
        return failed_video(uri, error=type(error).__name__, message=str(error))

    unplanned = (name for name in labeled if name not in planned)
    return [found for found in map_in_threads(check, unplanned, num_threads=_THREADS) if found is not None]
