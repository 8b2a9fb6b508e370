"""SQL and what is built on it: whatever the label files and the condition hold, a table or one of gsvnet's errors."""

from __future__ import annotations

from functools import cache

from gsvnet.store.drift import find_farthest, read_drift
from gsvnet.store.query import run_sql, select_frames
from gsvnet.store.read import open_labels
from gsvnet.store.timeline import read_timelines, summarise_videos
from tests.fuzz import sound
from tests.fuzz.choices import Choices
from tests.fuzz.hostile_parquet import hostile_file
from tests.fuzz.workplace import refused, sound_output

_WORDS = (
    "frame_index", "pts", "time_s", "is_keyframe", "status", "pixels.road", "pixels", "mask", "confidence", "video",
    "=", "<", "<>", "and", "or", "not", "is null", "(", ")", "'ok'", "1", "0", "-1", "1e999", "9223372036854775807",
    "/", "%", "*", "in", "like", "--", "/*", ";", "select", "from", "frames", "limit", "copy", "'", '"', "sqrt(-1)",
    "read_text('/etc/hostname')", "cast('x' as int)", "unnest([1,2])", "regexp_matches(video, '(((')",
)  # fmt: skip


def fuzz_one(data: bytes) -> None:
    """Query a hostile label file, or a sound one with a hostile condition."""
    choices = Choices(data)
    if choices.below(4):
        query = choices.below(5)
        _query_file(hostile_file(choices), query)
    else:
        _query_with(choices)


@cache
def _output() -> sound.Folder:
    return sound_output("queries")


@cache
def _sound_file() -> bytes:
    return sound.make_labels()


def _query_file(file: bytes, query: int) -> None:
    folder = _output()
    folder.write(sound.LABEL_PATH, file)
    labels = open_labels(folder.out)
    with refused():
        match query:
            case 0:
                run_sql(labels, "select * from frames")
            case 1:
                select_frames(labels, where="pixels.road > 2 and status = 'ok'")
            case 2:
                read_drift(labels, sound.VIDEO)
            case 3:
                find_farthest(labels, {sound.VIDEO: [0, 5]})
            case 4:
                read_timelines(labels, summarise_videos(labels), max_bins=4)


def _query_with(choices: Choices) -> None:
    folder = _output()
    folder.write(sound.LABEL_PATH, _sound_file())
    labels = open_labels(folder.out)
    text = choices.text() if choices.flag() else " ".join(choices.pick(_WORDS) for _ in range(choices.below(12)))
    with refused():
        found = select_frames(labels, where=text, every=1 + choices.below(3), limit=choices.below(20), videos=["drive"])
        assert all(0 <= index < sound.NUM_FRAMES for indices in found.values() for index in indices)
    with refused():
        run_sql(labels, f"select count(*) from frames where {text}", timeout_s=5)
