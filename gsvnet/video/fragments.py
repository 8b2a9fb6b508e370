"""Fragmented MP4: the tables are spread over the file, a piece before each fragment's media.

With an index (`sidx`, `mfra`) a reader finds a fragment by it; without one, FFmpeg walks through the headers of all
fragments before it can seek, once per opening. Reading everything in order needs neither.
"""

from __future__ import annotations

from gsvnet.errors import SourceChanged, SourceUnavailable, VideoError
from gsvnet.video.probe import open_container
from gsvnet.video.source import MediaFile

_MAX_JUMPS = 100


def has_fragments(source: MediaFile) -> bool:
    """Whether an MP4 file has its media in fragments, from the headers of its first boxes."""
    position = 0
    while position + 8 <= source.size:
        header = source.read_at(position, 16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        length = int.from_bytes(header[8:16], "big") if length == 1 else length
        if kind in (b"moof", b"mdat") or length < 8 or not kind.isalnum():
            return kind == b"moof"
        position += length
    return False


def describe_fragments(source: MediaFile, uri: str, num_sync_frames: int) -> list[str]:
    """What to tell a person about a fragmented file: nothing where seeking in it is cheap, else cost and remedy.

    num_sync_frames: I-frames of the video; encoders usually begin a fragment with each.
    """
    try:
        with open_container(_FewJumps(source), uri):
            return []
    except (SourceUnavailable, SourceChanged):
        raise
    except VideoError:  # too many jumps
        return [
            "fragmented without an index: each shard first reads the header of every fragment "
            f"(often one per I-frame, here {num_sync_frames:,}; one request each); "
            "remux it: ffmpeg -i IN -c copy -movflags +faststart OUT.mp4"
        ]


class _FewJumps(MediaFile):
    """Fails once opening has jumped about in the file more often than a file with an index asks for."""

    def __init__(self, source: MediaFile) -> None:
        super().__init__(source.read_at, source.size)
        self._jumps_left = _MAX_JUMPS
        self._expected = 0

    def read(self, num_bytes: int) -> bytes:
        """As the file's. Raises VideoNotFound after too many jumps."""
        self._jumps_left -= self._position != self._expected
        if self._jumps_left < 0:
            raise ValueError("too many jumps")
        data = super().read(num_bytes)
        self._expected = self._position
        return data
