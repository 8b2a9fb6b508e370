"""All exhibits, by theme."""

from __future__ import annotations

from tests.zoo.codecs import CODECS
from tests.zoo.colours import COLOURS
from tests.zoo.containers import CONTAINERS
from tests.zoo.edits import EDITS
from tests.zoo.exhibit import Exhibit
from tests.zoo.sizes import TURNS_AND_SIZES
from tests.zoo.streams import STREAMS
from tests.zoo.times import TIMES

THEMES: dict[str, tuple[Exhibit, ...]] = {
    "Codecs": CODECS,
    "Containers": CONTAINERS,
    "Times": TIMES,
    "Edit lists": EDITS,
    "Orientation and size": TURNS_AND_SIZES,
    "Colours and fields": COLOURS,
    "Streams": STREAMS,
}
ZOO = {exhibit.name: exhibit for exhibits in THEMES.values() for exhibit in exhibits}
