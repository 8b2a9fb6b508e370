"""H.264 headers: whatever bytes a packet or a parameter set holds, an answer or ValueError, and soon."""

from __future__ import annotations

import contextlib

from gsvnet.video.h264 import header_units, is_unreferenced, length_bytes, nal_units, parse_parameters
from tests.fuzz.choices import Choices

_SPS = bytes.fromhex("67640014acd94141fb0110000003001000000303c0f142996000")


def fuzz_one(data: bytes) -> None:
    """Read bytes as a packet, as a container's header and as a parameter set."""
    choices = Choices(data)
    match choices.below(3):
        case 0:
            units = nal_units(choices.rest(), choices.below(5))
        case 1:
            extradata = choices.rest()
            assert 0 <= length_bytes(extradata) <= 4
            units = header_units(extradata)
        case _:
            prefix = _SPS[: choices.below(len(_SPS))]
            units = iter([prefix + choices.rest()])
    with contextlib.suppress(ValueError):
        for unit in units:
            if unit:
                is_unreferenced(unit)
            parameters = parse_parameters(unit)
            assert parameters is None or parameters.max_references >= 0
