"""Fuzzed bytes as decisions, so that a target can build hostile input out of sound input, and values that were trouble
before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

INTEGERS = (0, 1, -1, 2, 7, 255, 256, 2**15, 2**16 - 1, 2**28, 2**31 - 1, -(2**31), 2**31, 2**32, 2**53, 2**63 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "", " ", "\0", "\n", "ok", "decode_error", "contour1", "..", "../..", "/", "a/b", "-", "_x", ".x", "~", "*", "[",
    "?", "é", "\u202e", "\U0001f600", "x" * 300, "'", '"', "';--", "%s", "{}", "1/0", "1/12800", "-1/3", "nan", "inf",
    "1e999", "0x10", "9" * 25, "９", "²", "²²²²²²", "file:///", "s3://", "://", "::", "a::b://c", "http://u:p@h/x?q#f", "http://[",
    "memory://x", "000000", "999999", "1000000", "drive-0123456789ab", "video", "null", "true", "[]", "{}", "\ud800",
)  # fmt: skip


class Choices:
    """Decisions taken from the front of some bytes; once they are used up every decision is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        """Whether there are bytes left to decide by."""
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data))

    def below(self, stop: int) -> int:
        """An integer 0..stop-1, stop >= 1, out of as few bytes as hold one."""
        return int.from_bytes(self.take(((stop - 1).bit_length() + 7) // 8), "big") % stop

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def flag(self) -> bool:
        """True or, once the bytes are used up, False."""
        return self.below(2) == 1

    def integer(self) -> int:
        """An integer of at most 64 bits with a sign: often one at some border."""
        match self.below(4):
            case 0:
                return self.pick(INTEGERS)
            case 1:
                return self.below(256) - 128
            case 2:
                return self.pick(INTEGERS) + self.below(5) - 2
        return int.from_bytes(self.take(8), "big", signed=True)

    def number(self) -> float:
        """A float, often an odd one."""
        return self.pick(FLOATS) if self.flag() else float(self.integer())

    def text(self) -> str:
        """A text, often an odd one."""
        if self.flag():
            return self.pick(TEXTS)
        return self.take(self.below(24)).decode("utf-8", "surrogateescape" if self.flag() else "replace")

    def json(self, depth: int = 2) -> Any:
        """A JSON value."""
        match self.below(9 if depth else 7):
            case 0:
                return None
            case 1:
                return self.flag()
            case 2 | 3:
                return self.integer()
            case 4:
                return self.number()
            case 5 | 6:
                return self.text()
            case 7:
                return [self.json(depth - 1) for _ in range(self.below(4))]
        return {self.text(): self.json(depth - 1) for _ in range(self.below(4))}


def change_json(value: Any, choices: Choices) -> Any:
    """The same JSON value with one thing in it changed, left out, doubled or put where it does not belong."""
    inside = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inside or choices.below(4) == 0:
        return choices.json()
    at = choices.pick(inside)
    changed = dict(value) if isinstance(value, dict) else list(value)
    match choices.below(6):
        case 0:
            del changed[at]
        case 1 if isinstance(value, list):
            changed.insert(choices.below(len(value) + 1), value[at])
        case 1:
            changed[choices.text()] = value[at]
        case 2:
            changed[at] = choices.json()
        case _:
            changed[at] = change_json(value[at], choices)
    return changed


def damage(data: bytes, choices: Choices) -> bytes:
    """The same bytes with some of them flipped, cut out, doubled or put in."""
    changed = bytearray(data)
    while choices and changed:
        at = choices.below(len(changed))
        match choices.below(6):
            case 0:
                changed[at] ^= 1 << choices.below(8)
            case 1:
                changed[at] = choices.below(256)
            case 2:
                changed[at : at + 1 + choices.below(16)] = choices.take(choices.below(16))
            case 3:
                del changed[at:]
            case 4:
                changed[at:at] = changed[at : at + choices.below(64)]
            case 5:
                changed[at : at + 8] = (choices.integer() % 2**64).to_bytes(8, choices.pick(("big", "little")))
    return bytes(changed)
