"""What an H.264 stream says of itself: how many reference frames it uses, and which frames nothing refers to.

ITU-T H.264, 7.3.1 (NAL units), 7.3.2.1.1 (sequence parameter set) and 9.1 (Exp-Golomb codes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

_SPS, _SLICE_TYPES = 7, (1, 2, 5)
_MOST_BYTES = 1024  # of a parameter set that are looked at: every bit read costs as much as what is left is long
_LONGEST_CYCLE = 255  # frames of a picture order cycle; 7.4.2.1.1
_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # profiles that say more about samples


@dataclass(frozen=True, kw_only=True)
class SequenceParameters:
    """max_references: frames that the decoder keeps to predict from. frames_only: no frame is coded as two fields.

    corner_cropped: what is shown begins farther right or down than what is coded.
    """

    max_references: int
    frames_only: bool
    corner_cropped: bool


def nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """NAL units of a packet. length_bytes: of the length before each unit; 0: units follow start codes (Annex B).

    Raises ValueError at an empty unit, which no encoder writes: there could be millions.
    """
    if length_bytes == 0:
        starts = chain(re.finditer(rb"\x00\x00\x01", data), [None])
        for start, following in pairwise(starts):
            assert start is not None, "only the last one is none"
            yield _refuse_empty(data[start.end() : following and following.start()].rstrip(b"\x00"))
        return
    place = 0
    while place + length_bytes < len(data):
        size = int.from_bytes(data[place : place + length_bytes], "big")
        yield _refuse_empty(data[place + length_bytes : place + length_bytes + size])
        place += length_bytes + size


def _refuse_empty(unit: bytes) -> bytes:
    if not unit:
        raise ValueError("an empty NAL unit")
    return unit


def length_bytes(extradata: bytes | None) -> int:
    """Bytes of the length before each NAL unit (avcC), 0 for a stream with start codes."""
    return (extradata[4] & 3) + 1 if extradata and len(extradata) > 6 and extradata[0] == 1 else 0


def header_units(extradata: bytes | None) -> Iterator[bytes]:
    """NAL units with the stream's parameters that the container keeps. Raises ValueError at an empty one."""
    if not extradata:
        return
    if not length_bytes(extradata):
        yield from nal_units(extradata, 0)
        return
    place = 6
    for _ in range(extradata[5] & 31):
        size = int.from_bytes(extradata[place : place + 2], "big")
        yield _refuse_empty(extradata[place + 2 : place + 2 + size])
        place += 2 + size


def parse_parameters(unit: bytes) -> SequenceParameters | None:
    """What a NAL unit says, if it is a sequence parameter set. Raises ValueError for one that cannot be read."""
    if not unit or unit[0] & 31 != _SPS:
        return None
    bits = _Bits(unit[1:_MOST_BYTES].replace(b"\x00\x00\x03", b"\x00\x00"))
    profile = bits.read(8)
    bits.read(16)  # constraints, level
    bits.read_code()  # its id
    if profile in _WITH_CHROMA:
        _skip_samples(bits)
    bits.read_code()  # log2_max_frame_num_minus4
    order = bits.read_code()
    if order == 0:
        bits.read_code()
    elif order == 1:
        bits.read(1)
        for _ in range(2):
            bits.read_code()
        cycle = bits.read_code()
        if cycle > _LONGEST_CYCLE:
            raise ValueError(f"a picture order cycle of {cycle} frames; at most {_LONGEST_CYCLE} are allowed")
        for _ in range(cycle):
            bits.read_code()
    references = bits.read_code()
    bits.read(1)  # gaps_in_frame_num_value_allowed_flag
    for _ in range(2):
        bits.read_code()  # size in macroblocks
    frames_only = bits.read(1) == 1
    bits.read(1 if frames_only else 2)  # field and direct prediction
    left, top = (bits.read_code(), bits.read_code(), bits.read_code())[::2] if bits.read(1) else (0, 0)
    return SequenceParameters(max_references=references, frames_only=frames_only, corner_cropped=left > 0 or top > 0)


def is_unreferenced(unit: bytes) -> bool:
    """Whether a NAL unit is a slice of a frame that no other frame refers to."""
    return unit[0] & 31 in _SLICE_TYPES and unit[0] >> 5 & 3 == 0


def _skip_samples(bits: _Bits) -> None:
    chroma = bits.read_code()
    if chroma == 3:
        bits.read(1)
    for _ in range(2):
        bits.read_code()  # depths
    bits.read(1)
    if not bits.read(1):
        return
    for i in range(8 if chroma != 3 else 12):
        if bits.read(1):
            last = following = 8
            for _ in range(16 if i < 6 else 64):
                if following:
                    step = bits.read_code()
                    following = (last + ((step + 1) // 2 if step & 1 else -(step // 2))) % 256
                last = following or last


class _Bits:
    """Reads bits, most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self._left:
            raise ValueError("a sequence parameter set is cut short")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def read_code(self) -> int:
        """An unsigned Exp-Golomb code."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("a sequence parameter set holds a code of over 32 bits")
        return (1 << zeros) - 1 + self.read(zeros)
