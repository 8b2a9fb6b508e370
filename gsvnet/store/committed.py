"""Which shards of an output have labels, in few bytes each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from gsvnet.chunks import shard_name

_NAME = re.compile(r"\d{6,7}")  # as `shard_name` makes them; other files below labels/ are no shards of a plan


class Committed(Set[tuple[str, str]]):
    """Set of (video id, shard name). Holds one bit per shard and one dictionary entry per video.

    Compares with other sets and iterates by video id and shard.
    """

    def __init__(self, shards: Set[tuple[str, str]] = frozenset()) -> None:
        self._bits: dict[str, int] = {}
        self._num = 0
        for video_id, name in shards:
            self.add(video_id, name)

    def add(self, video_id: str, name: str) -> None:
        """Note a label file; names that are no shard's are left out."""
        if _is_shard_name(name) and not self.has(video_id, int(name)):
            self._bits[video_id] = self._bits.get(video_id, 0) | 1 << int(name)
            self._num += 1

    def has(self, video_id: str, index: int) -> bool:
        """Whether shard `index` of the video has labels."""
        return bool(self._bits.get(video_id, 0) >> index & 1)

    def indices(self, video_id: str) -> list[int]:
        """Ascending indices of the video's shards that have labels."""
        return [index for index, bit in enumerate(reversed(f"{self._bits.get(video_id, 0):b}")) if bit == "1"]

    @property
    def videos(self) -> list[str]:
        """Ids of the videos that have labels, sorted."""
        return sorted(self._bits)

    def __contains__(self, shard: object) -> bool:
        match shard:
            case (str(video_id), str(name)) if _is_shard_name(name):
                return self.has(video_id, int(name))
        return False

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((video_id, shard_name(index)) for video_id in self.videos for index in self.indices(video_id))

    def __len__(self) -> int:
        return self._num


def _is_shard_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and shard_name(int(name)) == name
