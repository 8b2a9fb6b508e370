"""Fragmented MP4: the tables are spread over the file, a piece before each fragment's media.

With an index (`sidx`, `mfra`) a reader finds a fragment by it; without one, FFmpeg walks through the headers of all
fragments before it can seek, once per opening. Reading everything in order needs neither.
"""

from __future__ import annotations

from gsvnet.errors import SourceChanged, SourceUnavailable, VideoError
from gsvnet.video.probe import open_container
from gsvnet.video.source import MediaFile

# FFmpeg reads on over gaps of less than 32 KiB, so small fragments cost bytes, not jumps.
_MAX_JUMPS, _MAX_BYTES = 100, 16 << 20


def describe_fragments(source: MediaFile, uri: str, num_sync_frames: int) -> list[str]:
    """What to tell a person about a fragmented file: nothing where seeking in it is cheap, else cost and remedy.

    num_sync_frames: I-frames of the video; encoders usually begin a fragment with each.
    """
    probe = _FewJumps(source)
    try:
        with open_container(probe, uri):
            pass
    except (SourceUnavailable, SourceChanged):
        raise
    except VideoError:  # it seemed to end too early
        pass
    if not probe.had_enough:
        return []
    return [
        "fragmented without an index that can be used: each shard first walks through the headers of all fragments "
        f"(often one per I-frame, here {num_sync_frames:,}, and as many requests to a store); "
        "remux it: ffmpeg -i IN -c copy -movflags +faststart OUT.mp4"
    ]


class _FewJumps(MediaFile):
    """Seems to end once opening has jumped about, or read, more than a file with an index asks for."""

    def __init__(self, source: MediaFile) -> None:
        super().__init__(source.read_at, source.size)
        self._jumps_left, self._bytes_left = _MAX_JUMPS, _MAX_BYTES
        self._expected = 0
        self.had_enough = False

    def read(self, num_bytes: int) -> bytes:
        """As the file's; empty, as at its end, after too many jumps."""
        self._jumps_left -= self._position != self._expected
        self.had_enough |= self._jumps_left < 0 or self._bytes_left < 0
        if self.had_enough:
            return b""
        data = super().read(num_bytes)
        self._bytes_left -= len(data)
        self._expected = self._position
        return data
