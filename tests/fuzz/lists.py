"""What names videos: whatever a list file or an argument holds, URIs come out or ConfigError.

No network and nothing outside one small folder is listed: inputs that lead there are left out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from gsvnet.errors import GsvnetError
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.uris import absolute_uri, local_path, protocol_of_uri, redact_uri
from gsvnet.video.source import video_id
from tests.fuzz.choices import TEXTS, Choices
from tests.fuzz.workplace import folder

_PIECES = (
    *TEXTS, "a.mp4", "b [1].mkv", "day=1/", "*.mp4", "**", "**/*.mp4", "?", "[!a]*", "[a", "#", " #", "@", "@list.txt",
    "memory://", "file://", "local://", "http://host/x?y", "\r", "\r\n", "\x0b", "\x1c", "\u2028", "\ufeff", "loop/",
    "./", "day=1/c.ts", "{a,b}.mp4", "\\", "!", "+", "(", "|", "^", "$", ".", "-", "**a", "***", "[]", "[]]", "[^",
)  # fmt: skip


def fuzz_one(data: bytes) -> None:
    """Expand a list file of any bytes, or arguments."""
    choices = Choices(data)
    place = _place()
    if choices.flag():
        content = choices.rest()
    else:
        content = "".join(choices.pick(_PIECES) for _ in range(choices.below(16))).encode("utf-8", "surrogatepass")
    (place / "list.txt").write_bytes(content)
    text = content.decode(errors="replace")
    if all(map(_stays_here, text.splitlines())):
        _expand([f"@{place / 'list.txt'}"])
    if all(map(_stays_here, text.split("\n"))):
        _expand([str(place / part) if "://" not in part else part for part in text.split("\n")])


def _expand(given: list[str]) -> None:
    try:
        uris = expand_inputs(given)
    except GsvnetError as error:
        str(error).encode()  # fit for a terminal
        return
    assert len(set(uris)) == len(uris)
    for uri in uris:
        assert uri.strip() or given
        video_id(uri).encode("ascii")
        redact_uri(uri)
        absolute_uri(uri)


def _stays_here(text: str) -> bool:
    """Whether looking at what the text names stays in the folder and off the network."""
    text = text.split(" #")[0].strip()
    parts = text.partition("://")[2] if "://" in text else text
    if protocol_of_uri(text) not in ("file", "memory", "http", "https"):
        return False
    is_below = "://" not in text and ".." not in parts and not parts.startswith(("/", "~", "@"))
    return local_path(text) is None or is_below


@cache
def _place() -> Path:
    """A folder with a few files, a folder below it and a link that leads in a circle."""
    place = folder() / "videos"
    (place / "day=1").mkdir(parents=True)
    for name in ("a.mp4", "b [1].mkv", "notes.txt", "day=1/c.ts"):
        (place / name).touch()
    (place / "day=1" / "loop").symlink_to(place)
    return place
