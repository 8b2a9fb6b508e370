"""The sound clips that are damaged here, and what is known of them: which bytes and frames hang on which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from tests.damage.elements import Element, read_elements
from tests.video.media import ZOO, write_clip

NUM_FRAMES = 60
_SHORT_CLUSTERS = {"container_options": {"cluster_time_limit": "400", "fflags": "bitexact"}}  # else ids are random

# name -> how it differs from the clip of the zoo with that name
CLIPS: dict[str, dict[str, Any]] = {
    "b_frames_mp4": {},
    "faststart_mp4": {},
    "fragmented_mp4": {},
    "one_i_frame_mp4": {},
    "hevc_mp4": {},
    "mjpeg_mov": {},
    "b_frames_ts": {},
    "intra_refresh_ts": {},
    "hevc_ts": {},
    "b_frames_mkv": _SHORT_CLUSTERS,
    "open_gop_mkv": _SHORT_CLUSTERS,
    "vp9_webm": _SHORT_CLUSTERS,
    "mpeg4_avi": {},
}
_SUFFIX_TO_CONTAINER = {".mp4": "mp4", ".mov": "mp4", ".mkv": "mkv", ".webm": "mkv", ".ts": "ts", ".avi": "avi"}
_FINE = {"libx264": {"crf": "12"}, "libx265": {"crf": "12"}, "libvpx-vp9": {"crf": "12", "b": "0"}}
_HARMLESS = {"Cues", "SeekHead", "Void", "Tags", "free", "udta", "JUNK"}  # no frame hangs on these


@dataclass(frozen=True)
class Packet:
    """A frame as it is stored. [start, stop): its bytes, headers with them. gop: which I-frame it follows, from 0."""

    start: int
    stop: int
    size: int
    pts: int
    gop: int
    leads: bool


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A sound clip. packets: in file order. headers: bytes on which the frames named with them hang, by their pts."""

    name: str
    path: Path
    data: bytes
    container: str
    codec: str
    elements: list[Element]
    packets: list[Packet]
    headers: list[tuple[int, int, frozenset[int]]]

    @property
    def all_pts(self) -> frozenset[int]:
        """Of all frames."""
        return frozenset(packet.pts for packet in self.packets)

    @property
    def media(self) -> tuple[int, int]:
        """[start, stop) in bytes, from the first packet to behind the last one."""
        return self.packets[0].start, self.packets[-1].stop

    def hang_on(self, touched: Iterable[tuple[int, int]]) -> frozenset[int]:
        """The pts of frames that may change where these ranges of bytes do: of their packets, and what these lead to.

        A frame is predicted from its own GOP alone; where it is shown before the GOP's I-frame, from the one before as
        well. Pictures that an intra refresh repairs little by little are whole one refresh later.
        """
        hit: set[int] = set()
        for start, stop in touched:
            hit |= self._hit(start, max(stop, start + 1))
        gops = {packet.gop for packet in self.packets if packet.pts in hit}
        refreshes = self.name.startswith("intra_refresh")
        spoilt = {p.pts for p in self.packets if p.gop in gops or ((p.leads or refreshes) and p.gop - 1 in gops)}
        return frozenset(hit | spoilt)

    def _hit(self, start: int, stop: int) -> set[int]:
        hit = {packet.pts for packet in self.packets if packet.start < stop and start < packet.stop}
        for first, end, pts in self.headers:
            if first < stop and start < end:
                hit |= pts
        return hit


def draw_clip(name: str, folder: Path) -> Clip:
    """Encode a clip into the folder and say what it holds."""
    file_name, arguments = ZOO[name]
    changed = arguments | CLIPS[name]
    changed["options"] = changed.get("options", {}) | _FINE.get(changed.get("codec", "libx264"), {})
    path = write_clip(folder / file_name, num_frames=NUM_FRAMES, **changed)
    return _describe(name, path)


def _describe(name: str, path: Path) -> Clip:
    data, container = path.read_bytes(), _SUFFIX_TO_CONTAINER[path.suffix]
    elements = read_elements(container, data)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        codec = stream.codec.canonical_name
        found = [(p.pos, p.size, p.pts, p.is_keyframe) for p in file.demux(stream) if p.size]
    packets = list(_make_packets(found, container, elements, len(data)))
    return Clip(
        name=name, path=path, data=data, container=container, codec=codec, elements=elements, packets=packets,
        headers=list(_headers(container, elements, packets, len(data))),
    )  # fmt: skip


def _make_packets(
    found: list[tuple[int, int, int, bool]], container: str, elements: list[Element], size: int
) -> Iterator[Packet]:
    """found: place, size, pts and whether it is an I-frame, of each packet in file order."""
    gop, i_frame_pts = -1, -(1 << 63)
    holders = [e for e in elements if e.name in ("SimpleBlock", "BlockGroup", "00dc")]
    for number, (place, num_bytes, pts, is_i_frame) in enumerate(found):
        if is_i_frame:
            gop, i_frame_pts = gop + 1, pts
        start, stop = place, place + num_bytes
        if container in ("mkv", "avi"):
            holder = next(e for e in holders if e.start <= place < e.stop)
            start, stop = holder.start, holder.stop
        elif container == "ts":
            stop = found[number + 1][0] if number + 1 < len(found) else size
        yield Packet(start, stop, num_bytes, pts, gop, pts < i_frame_pts)


def _headers(
    container: str, elements: list[Element], packets: list[Packet], size: int
) -> Iterator[tuple[int, int, frozenset[int]]]:
    """(start, stop, pts of the frames that hang on these bytes): of blocks, and of what all frames hang on."""
    every = frozenset(packet.pts for packet in packets)
    known = [(packet.start, packet.stop) for packet in packets]
    if container == "ts":
        return  # tables are repeated and have checksums
    groups = [e for e in elements if e.name == {"mp4": "moof", "mkv": "Cluster"}.get(container)]
    for number, group in enumerate(groups):
        end = groups[number + 1].start if number + 1 < len(groups) else group.stop if container == "mkv" else size
        inside = [packet for packet in packets if group.start <= packet.start < end]
        if inside:
            # The times of a fragment or cluster, if damaged, may be those of any others.
            yield group.start, inside[0].start, every
            known.append((group.start, inside[0].start))
        if container == "mkv":  # whoever misreads a block's length finds the way again in the next cluster
            for place, packet in enumerate(inside):
                yield packet.start, packet.stop - packet.size, frozenset(later.pts for later in inside[place:])
    known += [(e.start, e.stop) for e in elements if e.name in _HARMLESS]
    place = 0
    for start, stop in sorted(known):
        if start > place:
            yield place, start, every
        place = max(place, stop)
    if place < size:
        yield place, size, every
