"""The catalogue as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from tests.zoo.exhibit import Exhibit, Refused


def table(themes: Mapping[str, tuple[Exhibit, ...]]) -> str:
    """Markdown: a row for each exhibit below a heading for its theme."""
    return "\n\n".join(_theme(name, exhibits) for name, exhibits in themes.items())


def _theme(name: str, exhibits: tuple[Exhibit, ...]) -> str:
    rows = ["| file | what it is | frames | result | colour error at most |", "|---|---|---|---|---|"]
    return "\n".join([f"### {name}", "", *rows, *map(_row, exhibits)])


def _row(exhibit: Exhibit) -> str:
    expect = exhibit.expect
    if isinstance(expect, Refused):
        result = f"refused: {expect.message}" + (f" ({exhibit.happens})" if exhibit.happens else "")
        return f"| `{exhibit.file}` | {exhibit.shows} | | {result} | |"
    notes = [*([exhibit.happens] if exhibit.happens else []), *(f"noted: {problem}" for problem in expect.problems)]
    result = "; ".join(["exact", *notes])
    return f"| `{exhibit.file}` | {exhibit.shows} | {len(expect.times_s)} | {result} | {expect.colour_error:g} |"
