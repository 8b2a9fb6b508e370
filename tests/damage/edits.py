"""Writing other bytes into a container, with the lengths of all around them put right, so that just one thing lies."""

from __future__ import annotations

from tests.damage.clips import Clip
from tests.damage.elements import Element, one, vint


def put(clip: Clip, path: str, offset: int, new: bytes, *, which: int = 0) -> bytes:
    """Over the bytes at `offset` in the body of an element; of those at the path, the one with number `which`."""
    place = _find(clip, path, which).body + offset
    return clip.data[:place] + new + clip.data[place + len(new) :]


def put_each(clip: Clip, path: str, offset: int, new: bytes) -> bytes:
    """The same in all elements at the path."""
    data = bytearray(clip.data)
    for element in clip.elements:
        if element.path == path:
            data[element.body + offset : element.body + offset + len(new)] = new
    return bytes(data)


def replace_body(clip: Clip, path: str, new: bytes, *, which: int = 0) -> bytes:
    """Another body of any length for an element; what lies around it says so."""
    element = _find(clip, path, which)
    return _splice(clip, element.body, element.stop, new, own=element)


def insert_before(clip: Clip, path: str, new: bytes, *, which: int = 0) -> bytes:
    """A whole element before another one."""
    element = _find(clip, path, which)
    return _splice(clip, element.start, element.start, new, own=None)


def body(clip: Clip, path: str, *, which: int = 0) -> bytes:
    """What an element holds."""
    element = _find(clip, path, which)
    return clip.data[element.body : element.stop]


def lie_about_length(clip: Clip, path: str, length: int, *, which: int = 0) -> bytes:
    """Another length for an element, and nothing else changed; as the header counts it."""
    element = _find(clip, path, which)
    data = bytearray(clip.data)
    if clip.container == "mp4":
        data[element.start : element.start + 4] = length.to_bytes(4, "big")
    elif clip.container == "avi":
        data[element.start + 4 : element.start + 8] = length.to_bytes(4, "little")
    else:
        start = element.start + _id_bytes(data[element.start])
        data[start : element.body] = vint(length, element.body - start)
    return bytes(data)


def nest(make: bytes, depth: int, *, container: str) -> bytes:
    """An element that holds one of its kind, and so on. make: four letters, or an EBML id."""
    headers: list[bytes] = []
    size = 0
    for _ in range(depth):
        if container == "mp4":
            headers.append((size + 8).to_bytes(4, "big") + make)
        elif container == "avi":
            headers.append(b"LIST" + (size + 4).to_bytes(4, "little") + make)
        else:
            headers.append(make + vint(size, 4))
        size += len(headers[-1])
    return b"".join(reversed(headers))


def _find(clip: Clip, path: str, which: int) -> Element:
    return one([element for element in clip.elements if element.path == path][which:], path)


def _splice(clip: Clip, start: int, stop: int, new: bytes, *, own: Element | None) -> bytes:
    data, growth = bytearray(clip.data), len(new) - (stop - start)
    data[start:stop] = new
    holders = [e for e in clip.elements if e == own or (e.start < e.body <= start < e.stop and stop <= e.stop)]
    for element in sorted(holders, key=lambda e: e.start, reverse=True):  # the inner ones first: they stand behind
        size, width = element.stop - element.body + growth, 4
        place = element.start
        if clip.container == "mp4":
            new_size = (size + 8).to_bytes(4, "big")
        elif clip.container == "avi":
            place, new_size = place + 4, size.to_bytes(4, "little")
        else:
            place += _id_bytes(data[place])
            width = element.body - place
            new_size = vint(size, width if size < 1 << 7 * width else 8)
        data[place : place + width] = new_size
        growth += len(new_size) - width
    return bytes(data)


def _id_bytes(first: int) -> int:
    return 9 - first.bit_length()
