"""Damage as disks, networks and recorders do it: bits, holes, garbage, missing packets, files cut short or joined.

Each kind is a function of a clip, a source of chance and a running number. It returns the damaged bytes and the ranges
of the sound file's bytes on which something may hang that is now otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.damage.clips import Clip
from tests.damage.elements import TS_PACKET, Element, vint

Damaged = tuple[bytes, list[tuple[int, int]]]
Kind = Callable[[Clip, Random, int], Damaged]


def flip_few(clip: Clip, chance: Random, number: int) -> Damaged:
    """Three bits of the media."""
    return _flip(clip, chance, 3, *clip.media)


def flip_many(clip: Clip, chance: Random, number: int) -> Damaged:
    """One bit in two thousand of the media."""
    return _flip(clip, chance, (clip.media[1] - clip.media[0]) * 8 // 2000, *clip.media)


def flip_header(clip: Clip, chance: Random, number: int) -> Damaged:
    """Two bits of what is no media: tables, headers of clusters and fragments, the first TS packets."""
    places = [(start, stop) for start, stop, _ in clip.headers] or [(0, 3 * TS_PACKET)]
    data, touched = bytearray(clip.data), []
    for _ in range(2):
        start, stop = chance.choices(places, [stop - start for start, stop in places])[0]
        place = chance.randrange(start, stop)
        data[place] ^= 1 << chance.randrange(8)
        touched.append((place, place + 1))
    return bytes(data), touched


def _flip(clip: Clip, chance: Random, count: int, start: int, stop: int) -> Damaged:
    data, touched = bytearray(clip.data), []
    for _ in range(count):
        place = chance.randrange(start, stop)
        data[place] ^= 1 << chance.randrange(8)
        touched.append((place, place + 1))
    return bytes(data), touched


def cut_at_border(clip: Clip, chance: Random, number: int) -> Damaged:
    """Ends where an element ends: outer ones first, then tables, then blocks."""
    return _cut_off(clip, _nth_element(clip, number).stop)


def cut_in_middle(clip: Clip, chance: Random, number: int) -> Damaged:
    """Ends in the middle of an element."""
    element = _nth_element(clip, number)
    return _cut_off(clip, (element.start + element.stop) // 2)


def cut_in_header(clip: Clip, chance: Random, number: int) -> Damaged:
    """Ends behind half of an element's own header."""
    element = _nth_element(clip, number)
    return _cut_off(clip, (element.start + element.body) // 2)


def _nth_element(clip: Clip, number: int) -> Element:
    """Of those that are the first at their path, in an order in which any few stand all over the file."""
    first = _firsts(clip)
    return first[number * 7919 % len(first)]


def num_paths(clip: Clip) -> int:
    """How many elements are the first at their path."""
    return len(_firsts(clip))


def _firsts(clip: Clip) -> list[Element]:
    """Of packets and fragments, of which there are many, the last one before the middle of the media."""
    by_path: dict[str, Element] = {}
    for element in clip.elements:
        if element.path not in by_path or element.start < sum(clip.media) // 2:
            by_path[element.path] = element
    return list(by_path.values())


def _cut_off(clip: Clip, place: int) -> Damaged:
    end = len(clip.data)
    if clip.container == "avi":  # frames are counted as they come, also without the index
        end = clip.media[1]
    return clip.data[:place], [(place, end)] if place < end else []


def insert_garbage(clip: Clip, chance: Random, number: int) -> Damaged:
    """Some bytes more, somewhere in the media."""
    place = chance.randrange(*clip.media)
    garbage = chance.randbytes(chance.choice((1, 100, 5000)))
    return clip.data[:place] + garbage + clip.data[place:], [(place, place + 1), *_moved(clip, place)]


def overwrite(clip: Clip, chance: Random, number: int) -> Damaged:
    """Garbage in place of some bytes of the media."""
    return _replace(clip, chance, chance.randbytes)


def hole(clip: Clip, chance: Random, number: int) -> Damaged:
    """Zeros in place of some bytes of the media, as in a sparse copy."""
    return _replace(clip, chance, bytes)


def swap_bytes(clip: Clip, chance: Random, number: int) -> Damaged:
    """Two bytes each in the other order, as after a transfer that took the media for words."""

    def swapped(size: int) -> bytes:
        source = clip.data[start : start + size]
        return bytes(source[i ^ 1] if i ^ 1 < size else source[i] for i in range(size))

    start, size = _place_to_replace(clip, chance)
    return _put(clip, start, swapped(size))


def _place_to_replace(clip: Clip, chance: Random) -> tuple[int, int]:
    start, stop = clip.media
    size = min(chance.choice((16, 300, 2000)), stop - start)
    return chance.randrange(start, stop - size + 1), size


def _replace(clip: Clip, chance: Random, make: Callable[[int], bytes]) -> Damaged:
    start, size = _place_to_replace(clip, chance)
    return _put(clip, start, make(size))


def _put(clip: Clip, start: int, new: bytes) -> Damaged:
    return clip.data[:start] + new + clip.data[start + len(new) :], [(start, start + len(new))]


def cut_out(clip: Clip, chance: Random, number: int) -> Damaged:
    """Without its middle: two ends of a file put together."""
    start, stop = clip.media
    length = (stop - start) // chance.choice((3, 10))
    first = chance.randrange(start, stop - length)
    end = first + length
    return clip.data[:first] + clip.data[end:], [(first, end), *_moved(clip, first, end)]


def without_frames(clip: Clip, chance: Random, number: int) -> Damaged:
    """Some frames are missing: TS packets dropped, MKV blocks and AVI chunks taken out, MP4 samples zeroed."""
    if clip.container == "ts":
        return _drop_ts_packets(clip, chance)
    chosen = sorted(chance.sample(clip.packets[1:], chance.choice((1, 3, 8))), key=lambda packet: packet.start)
    touched = [(packet.start, packet.stop) for packet in chosen]
    data = bytearray(clip.data)
    for start, stop in reversed(touched):
        if clip.container == "mp4":
            data[start:stop] = bytes(stop - start)
        else:
            del data[start:stop]
    if clip.container == "mkv":
        _shorten_clusters(data, clip, touched)
    return bytes(data), touched + (_moved(clip, touched[0][0]) if clip.container == "avi" else [])


def _drop_ts_packets(clip: Clip, chance: Random) -> Damaged:
    number = chance.choice((1, 4, 20))
    chosen = {TS_PACKET * chance.randrange(3, len(clip.data) // TS_PACKET) for _ in range(number)}
    kept = [clip.data[p : p + TS_PACKET] for p in range(0, len(clip.data), TS_PACKET) if p not in chosen]
    return b"".join(kept), [(place, place + TS_PACKET) for place in chosen]


def _shorten_clusters(data: bytearray, clip: Clip, removed: list[tuple[int, int]]) -> None:
    """Write the new sizes of clusters whose blocks were taken out; that of the segment as well."""
    for element in clip.elements:
        if element.name in ("Cluster", "Segment"):
            inside = sum(stop - start for start, stop in removed if element.start < start < element.stop)
            before = sum(stop - start for start, stop in removed if start < element.start)
            id_bytes, start = 4, element.start - before
            new = vint(element.stop - element.body - inside, element.body - element.start - id_bytes)
            data[start + id_bytes : element.body - before] = new


def glue_twice(clip: Clip, chance: Random, number: int) -> Damaged:
    """The same recording twice in one file. What belongs to the second copy has the first one's times."""
    return clip.data * 2, [(0, len(clip.data))]


def glue_cut(clip: Clip, chance: Random, number: int) -> Damaged:
    """A recording cut short, with its second half behind it from its very beginning: a recorder that started anew."""
    place = chance.randrange(*clip.media)
    return clip.data[:place] + clip.data, [(0, len(clip.data))]


def swap_halves(clip: Clip, chance: Random, number: int) -> Damaged:
    """Two stretches of the media in each other's place, as blocks of a file system."""
    start, stop = clip.media
    size = (stop - start) // 5
    first = start + chance.randrange(size)
    second = first + 2 * size
    data = clip.data
    mixed = data[:first] + data[second : second + size] + data[first + size : second] + data[first : first + size]
    return mixed + data[second + size :], [(first, first + size), (second, second + size)]


def _moved(clip: Clip, place: int, stop: int | None = None) -> list[tuple[int, int]]:
    """What stands elsewhere when bytes come or go from `place` to `stop`, and cannot be found.

    Tables of MP4 and AVI say where it was. In a cluster of Matroska each block says how far it is to the next.
    """
    stop = place if stop is None else stop
    fragmented = any(element.name == "moof" for element in clip.elements)
    if clip.container == "avi" or (clip.container == "mp4" and not fragmented):
        return [(place, len(clip.data))]
    return [(place, e.stop) for e in clip.elements if e.name == "Cluster" and e.start <= stop < e.stop]


# kind -> function, and how many of it there are for each clip; None: as many as there are different elements
KINDS: dict[str, tuple[Kind, int | None]] = {
    "flip_few": (flip_few, 6),
    "flip_many": (flip_many, 2),
    "flip_header": (flip_header, 5),
    "cut_at_border": (cut_at_border, None),
    "cut_in_middle": (cut_in_middle, None),
    "cut_in_header": (cut_in_header, 2),
    "insert_garbage": (insert_garbage, 2),
    "overwrite": (overwrite, 3),
    "hole": (hole, 3),
    "swap_bytes": (swap_bytes, 1),
    "swap_halves": (swap_halves, 1),
    "cut_out": (cut_out, 2),
    "without_frames": (without_frames, 3),
    "glue_twice": (glue_twice, 1),
    "glue_cut": (glue_cut, 1),
}
# kinds that leave containers as they are
IN_THE_MEDIA = ("flip_few", "flip_many", "overwrite", "hole", "swap_bytes")
