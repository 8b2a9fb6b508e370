"""Does an actor see what the driver sees? A small object that the driver writes into the output, and actors look for.

Without it, OUT on a local path and actors on several nodes would scatter labels over disks that nobody reads, and a
node without the videos' disk would give up every shard that it is handed.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from dataclasses import dataclass, field

from gsvnet.errors import ConfigError, NotAVideo, StoreError, StoreUnavailable, VideoNotFound, WorkerError
from gsvnet.labeling.config import LabelConfig
from gsvnet.labeling.tasks import ShardTask
from gsvnet.store.filesystem import open_filesystem, read_bytes
from gsvnet.store.layout import probe_uri
from gsvnet.store.publish import replace_bytes
from gsvnet.uris import local_path, redact_uri
from gsvnet.video.source import stat_source

_REMEDY = "give every node the same packages, endpoint and access rights as the driver"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What an actor must see: an object under OUT that holds `token`, and a video (as the user gave it)."""

    out: str
    token: str
    video: str = field(repr=False)
    storage_options: dict | None = field(default=None, repr=False)
    video_options: dict | None = field(default=None, repr=False)


def write_probe(config: LabelConfig, first: ShardTask) -> Probe:
    """A probe for the actors of a job, written under OUT. Raises StoreError when OUT cannot be written."""
    probe = Probe(
        out=config.out,
        token=secrets.token_hex(8),
        video=first.uri,
        storage_options=config.storage_options,
        video_options=config.video_options,
    )
    replace_bytes(probe.token.encode(), _uri(probe), probe.storage_options)
    return probe


def remove_probe(probe: Probe) -> None:
    """Remove the object again. One that stays is ignored by every reader, so failing to is no error."""
    with contextlib.suppress(Exception):
        fs, path = open_filesystem(_uri(probe), probe.storage_options)
        fs.rm_file(path)


def check_sight(probe: Probe) -> None:
    """Look, from the process of an actor.

    Raises WorkerError, naming this host, what it does not see and what to do; StoreUnavailable or SourceUnavailable
    when storage does not answer.
    """
    _check_output(probe)
    _check_video(probe)


def _check_output(probe: Probe) -> None:
    shown, host = redact_uri(probe.out), socket.gethostname()
    try:
        found = read_bytes(_uri(probe), probe.storage_options)
    except StoreUnavailable:
        raise
    except (StoreError, ConfigError) as error:
        raise WorkerError(f"node {host} cannot read the output: {error}; {_REMEDY}") from error
    if found == probe.token.encode():
        return
    if local_path(probe.out) is not None:
        raise WorkerError(
            f"node {host} does not see the output {shown} of the driver: OUT is a local path, but the actors run on "
            "several nodes: use storage that all nodes share, or s3://..."
        )
    raise WorkerError(f"node {host} does not see what the driver wrote to {shown}: another store? {_REMEDY}")


def _check_video(probe: Probe) -> None:
    """A video that is gone is no fault of the node: others may move videos away that are done."""
    host, path = socket.gethostname(), local_path(probe.video)
    if path is not None:
        folder = path.absolute().parent
        if not path.exists() and not (folder.is_dir() and any(folder.iterdir())):
            raise WorkerError(
                f"node {host} does not see the videos in {folder}: videos on a local path must be on storage that all "
                "nodes share; mount it there, or use s3://..."
            )
        return
    try:
        stat_source(probe.video, probe.video_options)
    except VideoNotFound as error:
        if not isinstance(error.__context__, FileNotFoundError):
            raise WorkerError(f"node {host} cannot read the videos: {error}; {_REMEDY}") from None
    except ConfigError as error:
        raise WorkerError(f"node {host} cannot read the videos: {error}; {_REMEDY}") from None
    except NotAVideo:  # seen, and the video's own trouble
        pass


def _uri(probe: Probe) -> str:
    return probe_uri(probe.out, probe.token)
