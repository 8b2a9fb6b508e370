"""What an adaptation gave, in figures and as a table: agreement by distance, and the keyframe interval it allows."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from gsvnet.evaluation.agreement import Agreement, longest_interval, mean_by_interval


@dataclass(frozen=True, kw_only=True)
class AdaptReport:
    """Agreement with the keyframe network on the held-out frames. start, adapted: with the weights before and after.

    wished: the agreement, in percent, that the recommended keyframe intervals keep as the mean over a chunk. videos:
    those that are reported on, by name. keyframe_model: what labeling must be told beside the checkpoint, because the
    keyframe network is not in it; None where it is.
    """

    videos: tuple[str, ...]
    start: Agreement
    adapted: Agreement
    wished: float
    keyframe_model: str | None = None

    @property
    def longest_measured(self) -> int:
        """The longest keyframe interval that was measured: no longer one can be recommended."""
        return len(self.adapted.propagated)

    @property
    def recommended(self) -> dict[str, int]:
        """The longest keyframe interval that keeps the wished agreement, by "miou" and by "pixels"."""
        figures = {"miou": self.adapted.miou, "pixels": self.adapted.pixels}
        return {name: longest_interval(by_distance, self.wished) for name, by_distance in figures.items()}

    def label_options(self, out: str) -> str:
        """What to tell `gsvnet label`, with the checkpoint `out` and the interval that is recommended by mIoU."""
        keyframe_model = ["--keyframe-model", self.keyframe_model] if self.keyframe_model else []
        words = ["--model", out, *keyframe_model, "--keyframe-interval", str(self.recommended["miou"])]
        return shlex.join(words)

    def to_dict(self) -> dict:
        """JSON-ready, in percent. By distance 0, 1, ...; the means by keyframe interval 1, 2, ..."""
        means = {"miou": mean_by_interval(self.adapted.miou), "pixels": mean_by_interval(self.adapted.pixels)}
        return {
            "videos": list(self.videos),
            "num_frames": self.adapted.num_frames,
            "hold": {"miou": self.adapted.held_miou, "pixels": self.adapted.held_pixels},
            "start": {"miou": self.start.miou, "pixels": self.start.pixels},
            "adapted": {"miou": self.adapted.miou, "pixels": self.adapted.pixels},
            "adapted_mean": means,
            "wished_agreement": self.wished,
            "recommended": {
                name: {
                    "keyframe_interval": interval,
                    "mean": means[name][interval - 1],
                    "keyframe_runs_saved": runs_saved(interval),
                }
                for name, interval in self.recommended.items()
            },
        }


def runs_saved(interval: int) -> float:
    """Share of frames, in percent, that the keyframe network need not see at this keyframe interval.

    >>> runs_saved(4)
    75.0
    """
    return round(100 - 100 / interval, 1)


def show_report(report: AdaptReport, console: Console) -> None:
    """Print agreement by distance and by keyframe interval, and the recommended intervals below."""
    names = ", ".join(report.videos) if len(report.videos) <= 3 else f"{len(report.videos)} videos"
    figures = report.to_dict()
    console.print(
        f"agreement with the keyframe network on {report.adapted.num_frames} held-out frames of {names}, in percent"
    )
    console.print(_table_by_distance(figures))
    console.print(
        "the adapted weights by keyframe interval: mean over a chunk, and frames the keyframe network is spared"
    )
    console.print(_table_by_interval(figures))
    for name, words in (("miou", "mIoU"), ("pixels", "equal pixels")):
        console.print(_recommend(words, figures["recommended"][name], report), soft_wrap=True)
    for note in _notes(figures):
        console.print(note, soft_wrap=True)


def _notes(figures: dict) -> list[str]:
    """What a reader must not overlook: adapted weights that are worse than none."""
    notes = []
    for name, words in (("miou", "mIoU"), ("pixels", "equal pixels")):
        held, adapted = (mean_by_interval(figures[who][name])[-1] for who in ("hold", "adapted"))
        if held > adapted:
            notes.append(
                f"note: by {words} the adapted weights agree less than holding the keyframe's labels does (mean "
                f"{adapted:.1f} against {held:.1f} %): train longer (--steps), on more video, or with another --init"
            )
    return notes


def _table_by_distance(figures: dict) -> Table:
    columns = [(what, who) for what in ("miou", "pixels") for who in ("hold", "start", "adapted")]
    headings = [f"{'mIoU' if what == 'miou' else 'pixels'}\n{who}" for what, who in columns]
    rows = zip(*(figures[who][what] for what, who in columns))
    return _table(["distance", *headings], [[str(i), *map(_figure, row)] for i, row in enumerate(rows)])


def _table_by_interval(figures: dict) -> Table:
    means = zip(figures["adapted_mean"]["miou"], figures["adapted_mean"]["pixels"])
    rows = [[str(i), *map(_figure, row), f"{runs_saved(i):.0f} %"] for i, row in enumerate(means, start=1)]
    return _table(["keyframe\ninterval", "mean\nmIoU", "mean\npixels", "runs\nsaved"], rows)


def _table(headings: list[str], rows: list[list[str]]) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _figure(percent: float) -> str:
    return f"{percent:.1f}"


def _recommend(words: str, figures: dict, report: AdaptReport) -> str:
    interval = figures["keyframe_interval"]
    if figures["mean"] < report.wished or interval == 1:
        return f"{report.wished:g} % by {words}: no keyframe interval keeps it; every frame is a keyframe"
    longest = " (the longest measured)" if interval == report.longest_measured else ""
    return (
        f"{report.wished:g} % by {words}: --keyframe-interval {interval}{longest}, mean {figures['mean']:.1f} %; "
        f"the keyframe network runs on 1 frame in {interval}, {figures['keyframe_runs_saved']:.0f} % fewer"
    )
