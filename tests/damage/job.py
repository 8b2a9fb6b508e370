"""All damaged videos through one real job on Ray: does it end by itself, with the labels that it should have?"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

import gsvnet
from tests.damage.catalogue import Catalogue
from tests.damage.clips import CLIPS
from tests.material import save_tiny_model

MOST_MIB = 2048
_OPTIONS = (
    "--keyframe-interval", "3", "--shard-frames", "20", "--batch-chunks", "1", "--cpus-per-actor", "1",
    "--num-actors", "2", "--mask-size", "72x96",
)  # fmt: skip
_COLUMNS = ["video", "uri", "frame_index", "pts", "is_keyframe", "status", "mask"]
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, kw_only=True)
class JobFindings:
    """How the job went. peak_mib: of Ray's workers by what they did; statuses: rows by status; compared: frames
    outside the damage whose labels were compared with the sound clip's; problems: promises that were not kept.
    """

    exit_code: int
    wall_s: float
    num_videos: int
    num_labeled: int
    num_partly: int
    num_failed: int
    actors_lost: int
    peak_mib: dict[str, int]
    statuses: dict[str, int]
    compared: int
    failures: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Row:
    index: int
    pts: int
    status: str
    is_keyframe: bool
    mask: str


def run_job(folder: Path, names: Sequence[str] | None = None) -> JobFindings:
    """Label all damaged videos, or those of these names, and their sound clips, and look at the output."""
    videos, out = folder / "videos", folder / "out"
    videos.mkdir(parents=True)
    catalogue = Catalogue(folder)
    inside: dict[str, frozenset[int]] = {}
    for name in names or catalogue.names():
        video = catalogue.make(name)
        inside[video.write(videos).name] = video.inside
    for name in CLIPS:
        clip = catalogue.clip(name)
        (videos / f"sound--{name}{clip.path.suffix}").write_bytes(clip.data)
    listing = folder / "videos.txt"
    listing.write_text("".join(f"{path}\n" for path in sorted(videos.iterdir())))
    model = save_tiny_model(folder / "tiny.safetensors")
    exit_code, peaks = _label(folder, [f"@{listing}", "--out", str(out), "--model", str(model), *_OPTIONS])
    findings = _inspect(out, sorted(videos.iterdir()), inside, exit_code, peaks)
    greedy = [f"a worker ({title}) took {mib} MiB" for title, mib in peaks.items() if mib > MOST_MIB]
    return replace(findings, problems=(*findings.problems, *greedy))


def describe_job(findings: JobFindings) -> str:
    """Lines for people."""
    rows = ", ".join(f"{count} {status}" for status, count in sorted(findings.statuses.items()))
    failures = ", ".join(f"{count} {error}" for error, count in sorted(findings.failures.items()))
    peaks = ", ".join(f"{mib} MiB {title}" for title, mib in sorted(findings.peak_mib.items()))
    lines = [
        f"exit code {findings.exit_code} after {findings.wall_s:.0f} s, {findings.actors_lost} actors lost",
        f"{findings.num_videos} videos: {findings.num_labeled} labeled, {findings.num_partly} in parts, "
        f"{findings.num_failed} failed ({failures})",
        f"rows: {rows}; labels of {findings.compared} outside the damage were compared with those of sound clips",
        f"most memory: {peaks}",
        f"{len(findings.problems)} problems",
        *(f"- {problem}" for problem in findings.problems),
    ]
    return "\n".join(lines) + "\n"


def _label(folder: Path, arguments: Sequence[str]) -> tuple[int, dict[str, int]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="gsv-", dir="/tmp") as ray_folder, (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gsvnet.cli", "label", *arguments],
            env=environment | {"RAY_TMPDIR": ray_folder},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        with _watch_memory(process.pid) as peaks:
            return process.wait(), peaks


@contextmanager
def _watch_memory(process: int) -> Iterator[dict[str, int]]:
    """The highest memory in MiB that processes of Ray below this one ever had, by their title."""
    peaks: dict[str, int] = defaultdict(int)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_EVERY_S):
            for pid, title in _ray_workers(process):
                try:
                    text = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                found = re.search(r"VmHWM:\s*(\d+)", text)
                peaks[title] = max(peaks[title], int(found[1]) // 1024 if found else 0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _ray_workers(process: int) -> Iterator[tuple[int, str]]:
    try:
        children = psutil.Process(process).children(recursive=True)
    except psutil.Error:
        return
    for child in children:
        try:
            title = child.cmdline()[0]
        except (psutil.Error, IndexError):
            continue
        if title.startswith("ray::"):
            yield child.pid, title.removeprefix("ray::").split(".")[0].split("(")[0]


def _inspect(
    out: Path, paths: Sequence[Path], inside: Mapping[str, frozenset[int]], exit_code: int, peaks: dict[str, int]
) -> JobFindings:
    report = json.loads((out / "_report.json").read_text())
    rows = _read_rows(out)
    failed = _read_failures(out)
    problems = [f"exit code {exit_code}"] if exit_code != (3 if failed else 0) else []
    problems += [f"{path.name}: neither labeled nor recorded" for path in paths if path.name not in rows | failed]
    compared = 0
    for name, found in rows.items():
        partly = name in failed
        problems += [f"{name}: {said}" for said in _check_order(found, partly)]
        sound = rows.get(f"sound--{name.split('--')[0]}{Path(name).suffix}", [])
        num_equal, differing = _compare_labels(found, sound, inside.get(name, frozenset()))
        compared += num_equal
        problems += [f"{name}: other labels at pts {differing[:5]}"] if differing else []
    problems += [f"{name}: a sound clip failed" for name in failed if name.startswith("sound--")]
    verified = subprocess.run([sys.executable, "-m", "gsvnet.cli", "verify", str(out)], capture_output=True, text=True)
    if verified.returncode != exit_code:
        problems.append(f"gsvnet verify says {verified.returncode}: {verified.stdout.strip()[-300:]}")
    statuses: dict[str, int] = defaultdict(int)
    for found in rows.values():
        for row in found:
            statuses[row.status] += 1
    errors: dict[str, int] = defaultdict(int)
    for error in failed.values():
        errors[error] += 1
    return JobFindings(
        exit_code=exit_code,
        wall_s=report["wall_s"],
        num_videos=len(paths),
        num_labeled=len(rows.keys() - failed.keys()),
        num_partly=len(rows.keys() & failed.keys()),
        num_failed=len(failed.keys() - rows.keys()),
        actors_lost=report["usage"]["actors_lost"],
        peak_mib=peaks,
        statuses=dict(statuses),
        compared=compared,
        failures=dict(errors),
        problems=tuple(problems),
    )


def _read_rows(out: Path) -> dict[str, list[_Row]]:
    """Rows in frame order, by the file's name."""
    rows: dict[str, list[_Row]] = defaultdict(list)
    for batch in gsvnet.open_labels(str(out)).frames.to_batches(columns=_COLUMNS):
        for row in batch.to_pylist():
            mask = hashlib.sha1(row["mask"]).hexdigest() if row["mask"] is not None else ""
            found = _Row(row["frame_index"], row["pts"], row["status"], row["is_keyframe"], mask)
            rows[row["uri"].rpartition("/")[2]].append(found)
    return {name: sorted(found, key=lambda row: row.index) for name, found in rows.items()}


def _read_failures(out: Path) -> dict[str, str]:
    """Class of the error by the file's name."""
    records = (json.loads(path.read_text()) for path in out.glob("_failed/*/*.json"))
    return {record["uri"].rpartition("/")[2]: record["error"] for record in records}


def _check_order(rows: Sequence[_Row], partly: bool) -> Iterator[str]:
    indices = [row.index for row in rows]
    if len(set(indices)) != len(indices):
        yield "a row is there twice"
    if not partly and indices != list(range(len(indices))):
        yield "rows are missing"
    pts = [row.pts for row in rows]
    if pts != sorted(set(pts)):
        yield "times do not ascend"
    if any((row.status == "decode_error") != (not row.mask) for row in rows):
        yield "a lost frame has a mask, or another one has none"


def _compare_labels(rows: Sequence[_Row], sound: Sequence[_Row], inside: frozenset[int]) -> tuple[int, list[int]]:
    """How many frames outside the damage could be compared, and the pts of those whose labels differ.

    A frame's labels hang on its keyframe and the frames up to it: only where these have the same times in both.
    """
    expected = dict(_by_chunk(sound))
    compared, differing = 0, []
    for times, row in _by_chunk(rows):
        if times in expected and not inside & set(times) and expected[times].status == row.status == "ok":
            compared += 1
            if expected[times].mask != row.mask:
                differing.append(row.pts)
    return compared, differing


def _by_chunk(rows: Sequence[_Row]) -> Iterator[tuple[tuple[int, ...], _Row]]:
    """Each row with the pts from its keyframe up to itself."""
    times: tuple[int, ...] = ()
    for row in rows:
        times = (row.pts,) if row.is_keyframe else (*times, row.pts)
        yield times, row
