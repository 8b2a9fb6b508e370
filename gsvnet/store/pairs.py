"""Which videos of two outputs are the same."""

from __future__ import annotations

from collections.abc import Sequence

from gsvnet.errors import ConfigError
from gsvnet.store.read import Labels
from gsvnet.uris import redact_uri


def match_videos(first: Labels, second: Labels, chosen: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Ids of each video in both outputs: the same id, else the same URI. chosen: only these of `first`; none: all.

    Raises ConfigError where there is no pair, or where a chosen video has none.
    """
    wanted = list(dict.fromkeys(first.find_video(name) for name in chosen)) or first.videos
    there = set(second.videos)
    by_uri = {}
    if not there.issuperset(wanted):
        by_uri = {second.footer(video).uri: video for video in second.videos}
    pairs = []
    for video in wanted:
        other = video if video in there else by_uri.get(first.footer(video).uri)
        if other is not None:
            pairs.append((video, other))
        elif chosen:
            raise ConfigError(f"{redact_uri(second.uri)} has no labels of {video}, by id or URI")
    if not pairs:
        raise ConfigError(f"no video has labels in both {redact_uri(first.uri)} and {redact_uri(second.uri)}")
    return pairs
