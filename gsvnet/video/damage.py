"""Which pictures damage may show in: a decoder says where it met damage, not how far that spreads.

Later pictures are predicted from a damaged one, so everything up to the next I-frame is suspect. What no decoder
notices (a flipped bit that still makes sense) is not found here either; gsvnet/video/README.md says how often that is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import av
from av.video.frame import PictureType

_MOST_B_FRAMES = 8  # in a row; encoders make up to 16, and few make more than 7
_B_FRAMES = (PictureType.B, PictureType.BI)


@dataclass(frozen=True)
class Picture:
    """A frame of a video in display order. pts: ticks. image: None where the decoder never gave it out.

    damaged: the decoder met damage in it, or in a picture that it may have been predicted from.
    """

    pts: int
    image: av.VideoFrame | None
    damaged: bool = False


class DamageTrail:
    """Follows damage through the pictures that come out of one decoder, in display order."""

    def __init__(self) -> None:
        self._damage_pts: int | None = None

    def begin(self, pts: int | None) -> None:
        """Hear of damage in the packet of this time, in ticks; None: in one whose time is not known.

        Pictures that went into the decoder before and have not come out yet are suspect too: it may have used them up.
        """
        self._damage_pts = max((p for p in (pts, self._damage_pts) if p is not None), default=-(1 << 63))

    def take(self, image: av.VideoFrame) -> Picture:
        """The next picture out of the decoder. Suspicion ends with a sound I-frame that is shown after the damage."""
        assert image.pts is not None, "asked before"
        if image.is_corrupt:
            self.begin(image.pts)
        elif self._damage_pts is not None and image.key_frame and image.pts > self._damage_pts:
            self._damage_pts = None
        return Picture(image.pts, image, damaged=self._damage_pts is not None)


def mark_after_losses(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """The same pictures; those between a lost one and the next I-frame, predicted from who knows what, are damaged."""
    lost = False
    for picture in pictures:
        if picture.image is None:
            lost = True
        elif picture.image.key_frame:
            lost = False
        yield replace(picture, damaged=True) if lost and picture.image is not None else picture


def mark_backwards(pictures: Iterable[Picture]) -> Iterator[Picture]:
    """The same pictures; B-frames before one that is damaged or lost, which was decoded first, are damaged too.

    B-frames come as many pictures later as there are of them in a row.
    """
    held: deque[Picture] = deque()
    for picture in pictures:
        if picture.damaged or picture.image is None:
            while held:
                yield replace(held.popleft(), damaged=True)
        is_b = picture.image is not None and picture.image.pict_type in _B_FRAMES
        if not is_b or picture.damaged:
            yield from held
            held.clear()
            yield picture
            continue
        held.append(picture)
        if len(held) > _MOST_B_FRAMES:
            yield held.popleft()
    yield from held
