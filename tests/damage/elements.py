"""The elements of a container file, read from its bytes alone: MP4 boxes, EBML elements, RIFF chunks, TS packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TS_PACKET = 188

_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf", b"mfra"}
_EBML_NAMES = {
    "1a45dfa3": "EBML", "18538067": "Segment", "1f43b675": "Cluster", "1654ae6b": "Tracks", "ae": "TrackEntry",
    "e0": "Video", "1549a966": "Info", "114d9b74": "SeekHead", "4dbb": "Seek", "1c53bb6b": "Cues", "bb": "CuePoint",
    "b7": "CueTrackPositions", "1254c367": "Tags", "a0": "BlockGroup", "a3": "SimpleBlock", "a1": "Block",
    "e7": "Timestamp", "63a2": "CodecPrivate", "b0": "PixelWidth", "ba": "PixelHeight", "2ad7b1": "TimestampScale",
    "4489": "Duration", "23e383": "DefaultDuration", "d7": "TrackNumber", "ec": "Void", "86": "CodecID",
    "f1": "CueClusterPosition", "53ac": "SeekPosition", "b3": "CueTime",
}  # fmt: skip
_EBML_MASTERS = {
    "Segment", "Cluster", "Tracks", "TrackEntry", "Video", "Info", "SeekHead", "Seek", "Cues", "CuePoint",
    "CueTrackPositions", "BlockGroup",
}  # fmt: skip
UNKNOWN_SIZE = -1


@dataclass(frozen=True)
class Element:
    """One element: [start, stop) in bytes, its body begins at `body`. path: names from the outermost on, with /."""

    path: str
    start: int
    body: int
    stop: int

    @property
    def name(self) -> str:
        """Of the element alone."""
        return self.path.rpartition("/")[2]


def read_elements(container: str, data: bytes) -> list[Element]:
    """All elements in file order, each before what it holds. container: mp4, mkv, avi or ts."""
    readers = {"mp4": _boxes, "mkv": _ebml, "avi": _chunks, "ts": _packets}
    return list(readers[container](data, 0, len(data), ""))


def one(elements: list[Element], path: str) -> Element:
    """The first element at this path."""
    return next(element for element in elements if element.path == path)


def _boxes(data: bytes, start: int, stop: int, path: str) -> Iterator[Element]:
    while start + 8 <= stop:
        size, body = int.from_bytes(data[start : start + 4], "big"), start + 8
        if size == 1:
            size, body = int.from_bytes(data[start + 8 : start + 16], "big"), start + 16
        kind = data[start + 4 : start + 8]
        element = Element(f"{path}{kind.decode('latin-1')}", start, body, start + size if size else stop)
        yield element
        if kind in _BOXES:
            yield from _boxes(data, body, element.stop, f"{element.path}/")
        start = element.stop


def _ebml(data: bytes, start: int, stop: int, path: str) -> Iterator[Element]:
    while start < stop:
        id_bytes = _vint_bytes(data[start])
        kind = data[start : start + id_bytes].hex()
        size_bytes = _vint_bytes(data[start + id_bytes])
        body = start + id_bytes + size_bytes
        size = int.from_bytes(data[start + id_bytes : body], "big") & ((1 << 7 * size_bytes) - 1)
        end = stop if size == (1 << 7 * size_bytes) - 1 else body + size
        element = Element(path + _EBML_NAMES.get(kind, kind), start, body, end)
        yield element
        if element.name in _EBML_MASTERS:
            yield from _ebml(data, body, end, f"{element.path}/")
        start = end


def _vint_bytes(first: int) -> int:
    """Bytes of an EBML number, from its first byte."""
    return 9 - first.bit_length()


def vint(value: int, num_bytes: int) -> bytes:
    """An EBML size in so many bytes; UNKNOWN_SIZE: all ones."""
    most = (1 << 7 * num_bytes) - 1
    return (1 << 7 * num_bytes | (most if value == UNKNOWN_SIZE else value)).to_bytes(num_bytes, "big")


def _chunks(data: bytes, start: int, stop: int, path: str) -> Iterator[Element]:
    while start + 8 <= stop:
        kind = data[start : start + 4].decode("latin-1").strip()
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        holds = kind in ("RIFF", "LIST")
        if holds:
            kind = data[start + 8 : start + 12].decode("latin-1").strip()
        end = min(start + 8 + size + size % 2, stop)
        yield Element(path + kind, start, start + 8, end)
        if holds and kind != "INFO":
            yield from _chunks(data, start + 12, end, f"{path}{kind}/")
        start = end


def _packets(data: bytes, start: int, stop: int, path: str) -> Iterator[Element]:
    for place in range(start, stop, TS_PACKET):
        pid = int.from_bytes(data[place + 1 : place + 3], "big") & 0x1FFF
        yield Element(f"{path}{pid}", place, place + 4, place + TS_PACKET)
