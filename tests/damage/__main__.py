"""`python -m tests.damage`: every damaged video planned and decoded, and what became of its frames, as tables.

With --job all of them are labeled by one job on Ray as well. Exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.damage.catalogue import Catalogue, DamagedVideo
from tests.damage.clips import CLIPS
from tests.damage.look import look_at_all
from tests.damage.mutations import IN_THE_MEDIA
from tests.damage.verdict import Verdict, judge

OUTCOMES = ("missing", "lost", "damaged", "spared", "right", "silent", "wrong")
_OUTSIDE = ("lost outside", "marked outside")


def main() -> int:
    """The exit code."""
    options = _parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = [name for name in options.names or Catalogue(folder).names() if options.only in name]
        verdicts = examine(folder, chosen, num_processes=options.processes)
        broken = any(verdict.broken for verdict in verdicts)
        if options.json:
            options.json.write_text("".join(json.dumps(_to_dict(verdict)) + "\n" for verdict in verdicts))
        sys.stdout.write(describe(verdicts))
        if options.job:
            from tests.damage.job import describe_job, run_job  # imports torch, which starts threads: not before forks

            findings = run_job(folder / "job", chosen)
            broken = broken or bool(findings.problems)
            sys.stdout.write(describe_job(findings))
    return 1 if broken else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.damage", description=__doc__)
    parser.add_argument("--only", default="", help="only videos whose name holds this, such as /flip_few/")
    parser.add_argument("--names", nargs="+", help="only these videos")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--job", action="store_true", help="label them by a job on Ray, too")
    parser.add_argument("--json", type=Path, help="what was found, one line per video")
    return parser.parse_args()


def examine(folder: Path, names: Sequence[str], *, num_processes: int = 2) -> list[Verdict]:
    """Verdicts on the damaged videos of these names, in this order. folder: for the files. Raises KeyError."""
    catalogue = Catalogue(folder)
    clips = [catalogue.clip(clip) for clip in CLIPS if any(name.startswith(f"{clip}/") for name in names)]
    clip_names = {clip.path: clip.name for clip in clips}
    looks = look_at_all(clip_names, num_processes=num_processes)
    sound = {clip_names[path]: look.frames for path, look in looks}
    waiting: dict[Path, DamagedVideo] = {}

    def written() -> Iterator[Path]:
        for name in names:
            video = catalogue.make(name)
            path = video.write(folder)
            waiting[path] = video
            yield path

    verdicts = {}
    for path, look in look_at_all(written(), num_processes=num_processes):
        video = waiting.pop(path)
        verdicts[video.name] = judge(video, look, sound[video.clip.name])
        path.unlink()
    return [verdicts[name] for name in names]


def describe(verdicts: Sequence[Verdict]) -> str:
    """Tables in Markdown: by kind and container, by codec, and every promise that was broken."""
    by_kind, by_codec = defaultdict(list), defaultdict(list)
    for verdict in verdicts:
        by_kind[verdict.video.kind, verdict.video.clip.container].append(verdict)
        if verdict.video.kind in IN_THE_MEDIA:
            by_codec[verdict.video.clip.codec].append(verdict)
    lines = _row("damage", "container", "videos", "refused", "frames", *OUTCOMES, *_OUTSIDE, "invented", "s", "MiB")
    lines += ["|---" * 17 + "|"]
    for (kind, container), group in by_kind.items():
        lines += _row(kind, container, *_cells(group))
    lines += _row("all", "", *_cells(verdicts))
    lines += [
        "",
        *_row("codec, bits and holes", "videos", "frames hit", "told of", "silent", "wrong"),
        "|---" * 6 + "|",
    ]
    for codec, group in by_codec.items():
        sums = _sum(group)
        told, silent = sum(sums[name] for name in ("missing", "lost", "damaged")), sums["silent"] + sums["wrong"]
        share = f"{silent} ({silent / max(1, told + silent):.0%})"
        lines += _row(codec, len(group), told + silent, told, share, sums["wrong"])
    broken = [verdict for verdict in verdicts if verdict.broken]
    lines += ["", f"{len(verdicts)} videos, {len(broken)} with broken promises"]
    lines += [f"- {verdict.video.name}: {'; '.join(verdict.broken[:3])}" for verdict in broken]
    return "\n".join(lines) + "\n"


def _row(*cells: object) -> list[str]:
    return [f"| {' | '.join(map(str, cells))} |"]


def _sum(group: Iterable[Verdict]) -> Counter[str]:
    return sum((verdict.counts for verdict in group), Counter())


def _cells(group: Sequence[Verdict]) -> list[object]:
    sums = _sum(group)
    return [
        len(group),
        sum(bool(verdict.look.refused) for verdict in group),
        sums["frames"],
        *(sums[name] for name in OUTCOMES),
        sums["outside_lost"] + sums["outside_missing"],
        sums["outside_damaged"] + sums["outside_spared"],
        sums["invented"],
        f"{max(verdict.look.seconds for verdict in group):.1f}",
        max(verdict.look.peak_mib for verdict in group),
    ]


def _to_dict(verdict: Verdict) -> dict:
    look = verdict.look
    return {
        "name": verdict.video.name, "refused": look.refused, "crash": look.crash, "mib": look.peak_mib,
        "planning_mib": look.planning_mib, "seconds": round(look.seconds, 2), "rows": look.num_frames,
        "counts": dict(verdict.counts), "broken": verdict.broken,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
