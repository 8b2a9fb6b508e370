"""MP4 files whose tables lie: counts, sizes, times, lengths and pointers that no encoder would write."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

from tests.damage.clips import Clip
from tests.damage.edits import body, insert_before, lie_about_length, nest, put, put_each, replace_body
from tests.damage.elements import one

Lie = Callable[[Clip], bytes]

_STBL = "moov/trak/mdia/minf/stbl"
_MOST, _HALF = 0xFFFFFFFF, 0x7FFFFFFF


def _u32(*values: int) -> bytes:
    return b"".join((value & _MOST).to_bytes(4, "big") for value in values)


def _table(name: str, offset: int, *values: int) -> Lie:
    return lambda clip: put(clip, f"{_STBL}/{name}", offset, _u32(*values))


def _all_sizes(value: int) -> Lie:
    return lambda clip: put(clip, f"{_STBL}/stsz", 12, _u32(*[value] * len(clip.packets)))


def _edits(*entries: tuple[int, int, int], claimed: int | None = None) -> Lie:
    text = b"".join(struct.pack(">IiI", *entry) for entry in entries)
    count = len(entries) if claimed is None else claimed
    return lambda clip: replace_body(clip, "moov/trak/edts/elst", _u32(0, count) + text)


def _long_length(path: str, length: int) -> Lie:
    """The length in 64 bits, which stand where the body began."""

    def lie(clip: Clip) -> bytes:
        data = lie_about_length(clip, path, 1)
        element = one(clip.elements, path)
        return data[: element.body] + struct.pack(">Q", length) + data[element.body + 8 :]

    return lie


def _nested(kind: bytes, depth: int) -> Lie:
    return lambda clip: insert_before(clip, "moov/mvhd", nest(kind, depth, container="mp4"))


def _sample_entry(offset: int, new: bytes) -> Lie:
    return lambda clip: put(clip, f"{_STBL}/stsd", 8 + offset, new)


def _many_tracks(count: int) -> Lie:
    def lie(clip: Clip) -> bytes:
        track = one(clip.elements, "moov/trak")
        return insert_before(clip, "moov/trak", clip.data[track.start : track.stop] * count)

    return lie


def _length(path: str, length: int) -> Lie:
    return partial(lie_about_length, path=path, length=length)


def _own_length_twice(clip: Clip) -> bytes:
    element = one(clip.elements, f"{_STBL}/stsz")
    return lie_about_length(clip, element.path, 2 * (element.stop - element.start))


TABLES: dict[str, Lie] = {
    "stsz_count_million": _table("stsz", 8, 1_000_000),
    "stsz_count_most": _table("stsz", 8, _MOST),
    "stsz_billions_of_one_byte": _table("stsz", 4, 1, _MOST),
    "stsz_billions_of_no_byte": _table("stsz", 4, 0, _MOST),
    "stsz_as_many_as_bytes": lambda clip: put(clip, f"{_STBL}/stsz", 4, _u32(1, len(clip.data) - 1)),
    "stsz_fixed_2_gb": _table("stsz", 4, 1 << 31),
    "stsz_one_of_2_gb": _table("stsz", 32, _HALF),
    "stsz_all_of_2_gb": _all_sizes(_HALF),
    "stsz_all_of_4_gb": _all_sizes(_MOST),
    "stsz_all_empty": _all_sizes(0),
    "stsz_none": _table("stsz", 8, 0),
    "stts_count_million": _table("stts", 8, 1_000_000),
    "stts_count_most": _table("stts", 8, _MOST),
    "stts_count_zero": _table("stts", 8, 0),
    "stts_entries_most": _table("stts", 4, _MOST),
    "stts_step_zero": _table("stts", 12, 0),
    "stts_step_most": _table("stts", 12, _HALF),
    "stts_step_negative": _table("stts", 12, -512),
    "ctts_entries_most": _table("ctts", 4, _MOST),
    "ctts_count_most": _table("ctts", 8, _MOST),
    "ctts_far_ahead": _table("ctts", 12, _HALF),
    "ctts_far_back": _table("ctts", 12, -(1 << 31)),
    "stsc_entries_most": _table("stsc", 4, _MOST),
    "stsc_samples_most": _table("stsc", 12, _MOST),
    "stsc_first_zero": _table("stsc", 8, 0),
    "stco_count_most": _table("stco", 4, _MOST),
    "stco_to_itself": lambda clip: put(clip, f"{_STBL}/stco", 8, _u32(len(clip.data) - 400)),
    "stco_behind_the_end": _table("stco", 8, _MOST),
    "stco_to_the_start": _table("stco", 8, 0),
    "stss_count_most": _table("stss", 4, _MOST),
    "stss_zeros": _table("stss", 8, 0, 0, 0),
    "mdhd_timescale_zero": lambda clip: put(clip, "moov/trak/mdia/mdhd", 12, _u32(0)),
    "mdhd_timescale_most": lambda clip: put(clip, "moov/trak/mdia/mdhd", 12, _u32(_MOST)),
    "mdhd_duration_negative": lambda clip: put(clip, "moov/trak/mdia/mdhd", 16, _u32(-5)),
    "mvhd_timescale_zero": lambda clip: put(clip, "moov/mvhd", 12, _u32(0)),
    "elst_entries_most": _edits((1000, 0, 1 << 16), claimed=_MOST),
    "elst_hundred_thousand": _edits(*[(1, n % 60, 1 << 16) for n in range(100_000)]),
    "elst_many_times_the_whole": _edits(*[(2000, 0, 1 << 16)] * 20),
    "elst_starts_never": _edits((1000, _HALF, 1 << 16)),
    "elst_starts_before": _edits((1000, -5, 1 << 16)),
    "elst_waits_long": _edits((_MOST, -1, 1 << 16), (1000, 0, 1 << 16)),
    "elst_lasts_nothing": _edits((0, 0, 1 << 16)),
    "elst_stands_still": _edits((1000, 0, 0)),
    "tkhd_size_most": lambda clip: put(clip, "moov/trak/tkhd", 76, _u32(_MOST, _MOST)),
    "stsd_size_most": _sample_entry(32, b"\xff\xff\xff\xff"),
    "stsd_size_zero": _sample_entry(32, bytes(4)),
    "stsd_entries_most": _table("stsd", 4, _MOST),
    "stsd_entry_long": _table("stsd", 8, _MOST),
    "many_tracks": _many_tracks(2000),
    "length_moov_to_the_end": _length("moov", 0),
    "length_moov_tiny": _length("moov", 7),
    "length_moov_most": _length("moov", _MOST),
    "length_moov_half": _length("moov", 600),
    "length_moov_64_bits": _long_length("moov", 1 << 63),
    "length_mdat_most": _length("mdat", _MOST),
    "length_mdat_to_the_end": _length("mdat", 0),
    "length_mdat_64_bits": _long_length("mdat", (1 << 63) - 1),
    "length_mdat_negative": _long_length("mdat", (1 << 64) - 64),
    "length_trak_overlaps": _length("moov/trak", 4000),
    "length_stbl_tiny": _length(_STBL, 4),
    "length_stsd_overlaps": _length(f"{_STBL}/stsd", 900),
    "length_stsz_twice": _own_length_twice,
    "nested_moov": _nested(b"moov", 20_000),
    "nested_trak": _nested(b"trak", 20_000),
    "nested_udta": _nested(b"udta", 20_000),
    "nested_moof": _nested(b"moof", 20_000),
    **{
        f"codec_{tag.decode().strip()}": _sample_entry(4, tag)
        for tag in (b"hev1", b"mp4v", b"jpeg", b"png ", b"rle ", b"raw ", b"av01", b"vp09", b"apcn", b"SVQ3", b"zzzz")
    },
}


def change_configuration(change: Callable[[bytes], bytes]) -> Lie:
    """Another avcC, or hvcC: the rest of the sample entry as it was."""

    def lie(clip: Clip) -> bytes:
        entry = body(clip, f"{_STBL}/stsd")
        kind = b"avcC" if b"avcC" in entry else b"hvcC"
        start = entry.index(kind) - 4
        size = int.from_bytes(entry[start : start + 4], "big")
        new = change(entry[start + 8 : start + size])
        grown = entry[:start] + _u32(len(new) + 8) + kind + new + entry[start + size :]
        entry_size = int.from_bytes(grown[8:12], "big") + len(new) + 8 - size
        return replace_body(clip, f"{_STBL}/stsd", grown[:8] + _u32(entry_size) + grown[12:])

    return lie


CONFIGURATIONS: dict[str, Lie] = {
    "extradata_empty": change_configuration(lambda old: b""),
    "extradata_zeros": change_configuration(lambda old: bytes(len(old))),
    "extradata_ones": change_configuration(lambda old: b"\x01" + b"\xff" * (len(old) - 1)),
    "extradata_cut": change_configuration(lambda old: old[: len(old) // 2]),
    "extradata_many_sets": change_configuration(lambda old: old[:5] + b"\xff" + old[6:]),
    "extradata_set_too_long": change_configuration(lambda old: old[:6] + b"\xff\xff" + old[8:]),
    "extradata_short_lengths": change_configuration(lambda old: old[:4] + b"\xfc" + old[5:]),
    "extradata_one_mb": change_configuration(lambda old: old + bytes(1 << 20)),
}


def _run(offset: int, *values: int, which: int = 0) -> Lie:
    return lambda clip: put(clip, "moof/traf/trun", offset, _u32(*values), which=which)


def _bare_runs(count: int, times: int = 1) -> Lie:
    """Runs whose samples are all alike, so that a count is all they are; `times` in each fragment."""

    def lie(clip: Clip) -> bytes:
        run = _u32(20) + b"trun" + _u32(1, count, 900)
        return insert_before(clip, "moof/traf/trun", run * times)

    return lie


def _index(*references: tuple[int, int], claimed: int | None = None) -> Lie:
    """A segment index before the first fragment. references: (kind and size, duration)."""

    def lie(clip: Clip) -> bytes:
        count = len(references) if claimed is None else claimed
        text = _u32(0, 1, 15360, 0, 0) + (count & 0xFFFF).to_bytes(4, "big")
        text += b"".join(_u32(size, duration, 0x90000000) for size, duration in references)
        return insert_before(clip, "moof", _u32(len(text) + 8) + b"sidx" + text)

    return lie


def _random_access(offset_of: Callable[[Clip], int]) -> Lie:
    """Other offsets in the list of fragments at the end. Entries of tfra: time, offset, three numbers of a byte."""

    def lie(clip: Clip) -> bytes:
        old = body(clip, "mfra/tfra")
        width = 8 if old[0] else 4
        data = bytearray(old)
        for place in range(16, len(old), 2 * width + 3):
            data[place + width : place + 2 * width] = offset_of(clip).to_bytes(width, "big")
        return replace_body(clip, "mfra/tfra", bytes(data))

    return lie


_EMPTY_FRAGMENT = _u32(16) + b"moof" + _u32(8) + b"mfhd"

FRAGMENTS: dict[str, Lie] = {
    "trun_count_million": _run(4, 1_000_000),
    "trun_count_most": _run(4, _MOST),
    "trun_count_most_later": _run(4, _MOST, which=5),
    "trun_alike_most": _bare_runs(_MOST),
    "trun_alike_as_many_as_bytes": _bare_runs(15_000),
    "trun_alike_again_and_again": _bare_runs(15_000, times=2000),
    "trun_offset_most": _run(8, _MOST),
    "trun_offset_behind": _run(8, _HALF),
    "trun_size_2_gb": _run(16, _HALF),
    "trun_flags_all": _run(0, _MOST),
    "trun_flags_none": _run(0, 0),
    "tfdt_last": lambda clip: put(clip, "moof/traf/tfdt", 4, struct.pack(">Q", (1 << 63) - 1), which=3),
    "tfdt_far": lambda clip: put(clip, "moof/traf/tfdt", 4, struct.pack(">Q", 1 << 61), which=3),
    "tfdt_all_zero": lambda clip: put_each(clip, "moof/traf/tfdt", 4, bytes(8)),
    "tfdt_backwards": lambda clip: put(clip, "moof/traf/tfdt", 4, struct.pack(">Q", 512 * 300), which=2),
    "tfhd_other_track": lambda clip: put(clip, "moof/traf/tfhd", 4, _u32(99), which=2),
    "tfhd_flags_all": lambda clip: put(clip, "moof/traf/tfhd", 0, _u32(0x3FFFF), which=2),
    "tfra_entries_most": lambda clip: put(clip, "mfra/tfra", 12, _u32(_MOST)),
    "tfra_to_itself": _random_access(lambda clip: one(clip.elements, "mfra").start),
    "tfra_to_the_first": _random_access(lambda clip: one(clip.elements, "moof").start),
    "tfra_behind_the_end": _random_access(lambda clip: _HALF),
    "tfra_lengths_all": lambda clip: put(clip, "mfra/tfra", 8, _u32(0x3F)),
    "mfro_zero": lambda clip: put(clip, "mfra/mfro", 4, _u32(0)),
    "mfro_whole_file": lambda clip: put(clip, "mfra/mfro", 4, _u32(len(clip.data))),
    "mfro_most": lambda clip: put(clip, "mfra/mfro", 4, _u32(_MOST)),
    "sidx_to_itself": _index((0x80000000, 1000), (0x80000000, 1000)),
    "sidx_back": _index((_HALF, 1000), (_MOST, 1000)),
    "sidx_most": _index((100, 1), claimed=0xFFFF),
    "sidx_many": _index(*[(0x80000000 | 44, 0)] * 60_000),
    "length_moof_to_the_end": _length("moof", 0),
    "length_moof_tiny": _length("moof", 8),
    "length_moof_most": _length("moof", _MOST),
    "length_traf_overlaps": _length("moof/traf", 5000),
    "nested_moof": lambda clip: insert_before(clip, "moof/mfhd", nest(b"moof", 20_000, container="mp4")),
    "nested_traf": lambda clip: insert_before(clip, "moof/mfhd", nest(b"traf", 20_000, container="mp4")),
    "trex_size_2_gb": lambda clip: put(clip, "moov/mvex/trex", 16, _u32(_HALF)),
    "hundred_thousand_fragments": lambda clip: insert_before(clip, "mfra", _EMPTY_FRAGMENT * 100_000),
}  # fmt: skip
