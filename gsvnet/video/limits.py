"""How large a video may claim to be. FFmpeg asks for memory on the word of a header, long before a picture is there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import av

from gsvnet.errors import NotAVideo
from gsvnet.uris import redact_uri
from gsvnet.video.boxes import Box, find_boxes, read_boxes, read_number
from gsvnet.video.source import MediaFile

MAX_PIXELS = 36_000_000  # per frame: 8K (8192 x 4320). A decoder may hold 17 and more: 0.9 GB in 8 bits, 4:2:0
MAX_FRAMES = 20_000_000  # per video: a week at 30 frames/s; FFmpeg and the index take some 50 bytes for each

_MOST_FRAGMENTS = 8  # looked at: for each a store may be asked once more


def limit_pixels(stream: av.VideoStream, uri: str) -> None:
    """Keep the stream's decoder from larger frames than MAX_PIXELS, also later in the stream.

    Raises NotAVideo where the header has them already.
    """
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise NotAVideo(
            f"its frames are {width} x {height} pixels, more than the {MAX_PIXELS:,} that are read; "
            "scale it down: ffmpeg -i IN -vf scale=7680:-2 OUT.mp4",
            uri=redact_uri(uri),
        )
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}


def check_sample_counts(source: MediaFile, uri: str) -> None:
    """Raise NotAVideo where an MP4 file claims more samples than it has bytes, or than a week has frames.

    FFmpeg makes 24 bytes of index and more for each, however many a number in a header says.
    """
    for count in _claimed_samples(source):
        if count > min(source.size, MAX_FRAMES):
            raise NotAVideo(
                f"the header claims {count:,} samples in {source.size:,} bytes; it is damaged or no video",
                uri=redact_uri(uri),
            )


def _claimed_samples(source: MediaFile) -> Iterator[int]:
    """Of each track, and of each run of the first fragments."""
    tables = next(find_boxes(source, b"moov"), None)
    for media in () if tables is None else find_boxes(source, b"trak", b"mdia", inside=tables):
        for table in find_boxes(source, b"minf", b"stbl", inside=media):
            found = {box.kind: box for box in read_boxes(source, table.body, table.stop)}
            if b"stsz" in found and not _is_plain_sound(source, media, found.get(b"stts")):
                yield read_number(source, found[b"stsz"].body + 8)
    for fragment in islice(find_boxes(source, b"moof"), _MOST_FRAGMENTS):
        for run in find_boxes(source, b"traf", b"trun", inside=fragment):
            yield read_number(source, run.body + 4)


def _is_plain_sound(source: MediaFile, media: Box, times: Box | None) -> bool:
    """Whether a track's samples are numbers of sound, one a tick, for which FFmpeg makes no index."""
    handlers = [source.read_at(box.body + 8, 4) for box in find_boxes(source, b"hdlr", inside=media)]
    if handlers != [b"soun"] or times is None:
        return False
    return read_number(source, times.body + 4) == 1 == read_number(source, times.body + 12)
