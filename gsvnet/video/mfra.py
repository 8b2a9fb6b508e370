"""The index at the end of a fragmented MP4 (`mfra`), and whether it can be believed.

With it FFmpeg need not read the headers of all fragments, but takes their times from it, in place of those that the
fragments hold themselves (`tfdt`). Where the two differ, frames would be found at the place of others.
ISO/IEC 14496-12, 8.8.9 to 8.8.12.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from gsvnet.video.boxes import Box, find_boxes, read_boxes, read_number
from gsvnet.video.source import MediaFile

_MOST_BOXES, _MOST_TRACKS = 1000, 64
_WITH_CTS, _BEFORE_CTS, _BEFORE_SAMPLES = 0x800, (0x100, 0x200, 0x400), (0x1, 0x4)  # flags of a run of samples


@dataclass(frozen=True)
class _Track:
    """A video track. start: the time of its media that is shown at 0, in ticks."""

    number: int
    start: int


def has_fragments(source: MediaFile) -> bool:
    """Whether an MP4 file has all of its media in fragments, from the headers of its first boxes."""
    for box in islice(read_boxes(source), _MOST_BOXES):
        if box.kind in (b"moof", b"mdat") or not box.kind.isalnum():
            return box.kind == b"moof"
    return False


def is_index_right(source: MediaFile) -> bool:
    """Whether there is an index at the end, and the first and the last fragment have the times that it says.

    Where media stand before the first fragment it never is: FFmpeg skips a fragment then.
    """
    if not has_fragments(source):
        return False
    index = _find_index(source)
    tracks = _video_tracks(source)
    if index is None or not tracks:
        return False
    tables = {read_number(source, table.body + 4): table for table in find_boxes(source, b"tfra", inside=index)}
    return all(track.number in tables and _is_table_right(source, tables[track.number], track) for track in tracks)


def _find_index(source: MediaFile) -> Box | None:
    start = source.size - read_number(source, source.size - 4)  # the file ends with its length
    index = next(read_boxes(source, start), None) if 0 < start < source.size else None
    return index if index is not None and index.kind == b"mfra" else None


def _video_tracks(source: MediaFile) -> list[_Track]:
    """None of them if the edit list of one is more than a start."""
    found: list[_Track] = []
    tables = next(find_boxes(source, b"moov"), None)  # not the next one, behind all fragments
    if tables is None:
        return found
    for box in islice(find_boxes(source, b"trak", inside=tables), _MOST_TRACKS):
        handler = next(find_boxes(source, b"mdia", b"hdlr", inside=box), None)
        header = next(find_boxes(source, b"tkhd", inside=box), None)
        if header is None or handler is None or source.read_at(handler.body + 8, 4) != b"vide":
            continue
        start = _edit_start(source, box)
        if start is None:
            return []
        found.append(_Track(read_number(source, header.body + (20 if _version(source, header) == 1 else 12)), start))
    return found


def _edit_start(source: MediaFile, track: Box) -> int | None:
    edits = next(find_boxes(source, b"edts", b"elst", inside=track), None)
    if edits is None:
        return 0
    start, num_bytes = (16, 8) if _version(source, edits) == 1 else (12, 4)
    time = int.from_bytes(source.read_at(edits.body + start, num_bytes), "big", signed=True)
    return time if read_number(source, edits.body + 4) == 1 and time >= 0 else None


def _is_table_right(source: MediaFile, table: Box, track: _Track) -> bool:
    lengths, count = read_number(source, table.body + 8), read_number(source, table.body + 12)
    num_bytes = 8 if _version(source, table) == 1 else 4
    length = 2 * num_bytes + sum((lengths >> shift & 3) + 1 for shift in (0, 2, 4))
    if count == 0 or table.body + 16 + count * length > table.stop:
        return False
    for place in {0, count - 1}:  # both stand where the file is read anyway
        entry = source.read_at(table.body + 16 + place * length, 2 * num_bytes)
        time, start = (int.from_bytes(half, "big") for half in (entry[:num_bytes], entry[num_bytes:]))
        if time != _first_time(source, start, track):
            return False
    return True


def _first_time(source: MediaFile, start: int, track: _Track) -> int | None:
    """When the first frame of the fragment at this byte is shown, in ticks; None where that is not plain to see."""
    fragment = next(read_boxes(source, start), None)
    if fragment is None or fragment.kind != b"moof":
        return None
    for part in islice(find_boxes(source, b"traf", inside=fragment), _MOST_TRACKS):
        boxes: dict[bytes, Box] = {}
        for box in islice(read_boxes(source, part.body, part.stop), _MOST_BOXES):
            boxes.setdefault(box.kind, box)
        if not boxes.keys() >= {b"tfhd", b"tfdt", b"trun"}:
            return None
        if read_number(source, boxes[b"tfhd"].body + 4) == track.number:
            delay = _first_delay(source, boxes[b"trun"])
            decoded = boxes[b"tfdt"]
            num_bytes = 8 if _version(source, decoded) == 1 else 4
            time = int.from_bytes(source.read_at(decoded.body + 4, num_bytes), "big")
            return None if delay is None else time + delay - track.start
    return None


def _first_delay(source: MediaFile, run: Box) -> int | None:
    """Ticks from decoding to showing the first frame of a run; None where frames may be shown before that.

    FFmpeg then counts times from the earliest of them, which the index does not.
    """
    flags = read_number(source, run.body) & 0xFFFFFF
    if not flags & _WITH_CTS:
        return 0
    if _version(source, run) != 0:
        return None
    place = 8 + 4 * sum(flags & flag != 0 for flag in (*_BEFORE_SAMPLES, *_BEFORE_CTS))
    return read_number(source, run.body + place)


def _version(source: MediaFile, box: Box) -> int:
    return int.from_bytes(source.read_at(box.body, 1), "big")
