"""Texts on a terminal as they are: a name out of a file moves no cursor, sets no colour and looks like itself."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

# control characters but tab and line feed, and those that turn the direction of writing
_ACTIVE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with every character that a terminal would act upon written out, such as "\\x1b"."""
    return _ACTIVE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PlainConsole(Console):
    """A rich console for lines that hold names out of files: nothing in them is acted upon or taken for an emoji."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "emoji": False} | options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich does, of the printable text."""
        return super().render_str(printable(text), **options)

    def out(self, *objects: Any, **options: Any) -> None:
        """As rich does, of the printable texts."""
        super().out(*(printable(str(each)) for each in objects), **options)
