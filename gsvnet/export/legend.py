"""What is written around an overlaid picture: the band below, with a line of text and the classes with their colours,
those present lit up, and the strip above, with a caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from gsvnet.classes import ClassSet
from gsvnet.export.format import import_extra

_MAX_SHARE = 0.35  # of the picture's height
_MIN_TEXT_PX, _TEXT_SHARE = 13, 1 / 42
_KEPT_STRIPS = 64
BACKGROUND, _TEXT, _ABSENT = (18, 18, 18), (240, 240, 240), (125, 125, 125)
_NOTE, _PROBLEM = (185, 185, 185), (255, 180, 60)
_DOTS = "..."
_WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf")  # for names that the built-in font has no letters for


class Legend:
    """Draws bands of one size. height: in pixels.

    Each class has its place, if there is room for all; else those present fill the places, the largest of them in the
    order of their ids.
    """

    def __init__(self, classes: ClassSet, height: int, width: int) -> None:
        self._draw = import_extra("PIL.ImageDraw")
        self._images = import_extra("PIL.Image")
        text_px = _text_px(height)
        self._font = _load_font(classes.names, text_px)
        self._line_px, self._margin_px = round(1.5 * text_px), round(0.5 * text_px)
        self._classes, self._width = classes, width
        names_px = max(self._font.getlength(name) for name in classes.names)
        self._cell_px = min(width, round(names_px) + 3 * text_px)
        columns = max(1, (width - self._margin_px) // self._cell_px)
        rows = max(1, min(-(-len(classes) // columns), int(height * _MAX_SHARE) // self._line_px - 1))
        self._num_places, self._rows = rows * columns, rows
        self.height = (rows + 1) * self._line_px + 2 * self._margin_px
        self._tiles = {(i, lit): self._draw_tile(i, lit) for i in range(len(classes)) for lit in (True, False)}

    def draw(self, present: Sequence[int], text: str) -> np.ndarray:
        """The band (height, width, 3) uint8 RGB with a line of text and the classes of these ids lit up.

        present: ids, the one with the largest area first.
        """
        image = self._images.new("RGB", (self._width, self.height), BACKGROUND)
        middle = self._margin_px + self._line_px / 2
        self._draw.Draw(image).text((self._margin_px, middle), text, _TEXT, self._font, anchor="lm")
        everything = len(self._classes) <= self._num_places
        shown = range(len(self._classes)) if everything else sorted(present[: self._num_places])
        for place, label in enumerate(shown):
            column, row = divmod(place, self._rows)
            corner = (self._margin_px + column * self._cell_px, self._margin_px + (row + 1) * self._line_px)
            image.paste(self._tiles[label, label in present], corner)
        return np.asarray(image)

    def _draw_tile(self, label: int, lit: bool) -> Any:
        image = self._images.new("RGB", (self._cell_px, self._line_px), BACKGROUND)
        draw, edge = self._draw.Draw(image), self._line_px // 5
        colour = self._classes.colours[label]
        box = (edge, edge, self._line_px - edge, self._line_px - edge)
        draw.rectangle(box, fill=colour if lit else None, outline=_TEXT if lit else _ABSENT)
        place = (self._line_px + edge, self._line_px / 2)
        draw.text(place, self._classes.names[label], _TEXT if lit else _ABSENT, self._font, anchor="lm")
        return image


class Caption:
    """Draws the strips of one size over one half of a picture. height: in pixels.

    text: what stands on the left, in printable letters; its end is left out where there is no room.
    """

    def __init__(self, text: str, height: int, width: int) -> None:
        self._draw = import_extra("PIL.ImageDraw")
        self._images = import_extra("PIL.Image")
        text_px = _text_px(height)
        self._font, self._margin_px = _load_font((text,), text_px), round(0.5 * text_px)
        self._text, self._width, self.height = text, width, round(1.5 * text_px) + self._margin_px
        self.draw = lru_cache(maxsize=_KEPT_STRIPS)(self._draw_strip)

    def _draw_strip(self, note: str, problem: str) -> np.ndarray:
        """The strip (height, width, 3) uint8 RGB with a note on the right, or a problem, which is seen from afar."""
        image = self._images.new("RGB", (self._width, self.height), BACKGROUND)
        draw, middle, right = self._draw.Draw(image), self.height / 2, self._width - self._margin_px
        end = problem or note
        draw.text((right, middle), end, _PROBLEM if problem else _NOTE, self._font, anchor="rm")
        room = right - self._margin_px - (self._font.getlength(f"{end}   ") if end else 0)
        draw.text((self._margin_px, middle), self._shorten(room), _TEXT, self._font, anchor="lm")
        return np.asarray(image)

    def _shorten(self, room: float) -> str:
        """As much of the text as so many pixels hold, with dots where that is not all; "" where not even they fit."""
        if self._font.getlength(self._text) <= room:
            return self._text
        fitting = (text for end in range(len(self._text), -1, -1) for text in [self._text[:end].rstrip() + _DOTS])
        return next((text for text in fitting if self._font.getlength(text) <= room), "")


def _text_px(height: int) -> int:
    return max(_MIN_TEXT_PX, round(height * _TEXT_SHARE))


def _load_font(names: Sequence[str], text_px: int) -> Any:
    """Pillow's own font, or for letters beyond Latin one of the system's, where it has one."""
    fonts = import_extra("PIL.ImageFont")
    if max(map(ord, "".join(names)), default=0) > 0x24F:
        for font in _WIDE_FONTS:
            try:
                return fonts.truetype(font, text_px)
            except OSError:
                continue
    return fonts.load_default(text_px)
