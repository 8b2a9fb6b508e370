"""All damaged videos by name, such as "b_frames_ts/flip_few/7": the same name is always the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.damage import lies_avi, lies_mkv, lies_mp4, lies_ts
from tests.damage.clips import CLIPS, Clip, draw_clip
from tests.damage.lies_codec import from_the_middle, from_the_start, jpeg_sizes, mpeg4_sizes, vp9_sizes
from tests.damage.lies_mp4 import Lie
from tests.damage.mutations import KINDS, num_paths

_CUT_EVERYWHERE = ("faststart_mp4", "fragmented_mp4", "b_frames_mkv", "b_frames_ts", "mpeg4_avi")
_CUTS_ELSEWHERE = 4

_GIANT: dict[str, Lie] = {
    "picture_100000": from_the_start(100_000, 100_000),
    "picture_16000": from_the_start(16_000, 16_000),
    "picture_100000_later": from_the_middle(100_000, 100_000),
    "picture_16000_later": from_the_middle(16_000, 16_000),
    "picture_8k": from_the_start(8192, 4320),
    "picture_8k_later": from_the_middle(8192, 4320),
    "picture_other_later": from_the_middle(160, 128),
}
LIES: dict[str, Mapping[str, Lie]] = {
    "b_frames_mp4": lies_mp4.TABLES | lies_mp4.CONFIGURATIONS | _GIANT,
    "fragmented_mp4": lies_mp4.FRAGMENTS,
    "hevc_mp4": lies_mp4.CONFIGURATIONS | _GIANT,
    "mjpeg_mov": {
        "picture_65535": jpeg_sizes(0),
        "picture_65535_later": jpeg_sizes(30),
        "picture_8k_later": jpeg_sizes(30, 4320, 8192),
        "stsd_size_most": lies_mp4.TABLES["stsd_size_most"],
        "stsz_all_of_2_gb": lies_mp4.TABLES["stsz_all_of_2_gb"],
    },
    "b_frames_ts": lies_ts.HEADERS | _GIANT,
    "hevc_ts": _GIANT,
    "b_frames_mkv": lies_mkv.HEADERS | _GIANT,
    "vp9_webm": {"picture_65536": vp9_sizes(0), "picture_65536_later": vp9_sizes(1)},
    "mpeg4_avi": lies_avi.HEADERS | {"picture_8191": mpeg4_sizes(0), "picture_8191_later": mpeg4_sizes(1)},
}


@dataclass(frozen=True, kw_only=True)
class DamagedVideo:
    """One damaged video. inside: pts of the sound clip's frames that may be otherwise; all others may not."""

    name: str
    clip: Clip
    data: bytes
    inside: frozenset[int]

    @property
    def kind(self) -> str:
        """What was done to it."""
        return self.name.split("/")[1]

    def write(self, folder: Path) -> Path:
        """The file, named after the damage."""
        path = folder / (self.name.replace("/", "--") + self.clip.path.suffix)
        path.write_bytes(self.data)
        return path


class Catalogue:
    """The clips, drawn into a folder once, and what can be made of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clips: dict[str, Clip] = {}

    def clip(self, name: str) -> Clip:
        """A sound clip."""
        if name not in self._clips:
            self._clips[name] = draw_clip(name, self._folder)
        return self._clips[name]

    def names(self) -> Iterator[str]:
        """Of all damaged videos."""
        for clip in CLIPS:
            for kind, (_, count) in KINDS.items():
                for number in range(self._num_cuts(clip) if count is None else count):
                    yield f"{clip}/{kind}/{number}"
            for lie in LIES.get(clip, ()):
                yield f"{clip}/lie/{lie}"

    def _num_cuts(self, clip: str) -> int:
        return num_paths(self.clip(clip)) if clip in _CUT_EVERYWHERE else _CUTS_ELSEWHERE

    def make(self, name: str) -> DamagedVideo:
        """The damaged video of that name."""
        clip_name, kind, number = name.split("/")
        clip = self.clip(clip_name)
        if kind == "lie":
            return DamagedVideo(name=name, clip=clip, data=LIES[clip_name][number](clip), inside=clip.all_pts)
        data, touched = KINDS[kind][0](clip, Random(name), int(number))
        return DamagedVideo(name=name, clip=clip, data=data, inside=clip.hang_on(touched))
