"""Is the output what an undisturbed run writes? Read from the server itself, object by object, not through gsvnet."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Key = tuple[str, int]


@dataclass(kw_only=True)
class Findings:
    """What was found in one output or, added up, in several. problems: anything that must not be, in words."""

    frames_expected: int = 0
    frames_found: int = 0
    doubled: int = 0
    labels_differing: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Count another output's findings too."""
        self.frames_expected += other.frames_expected
        self.frames_found += other.frames_found
        self.doubled += other.doubled
        self.labels_differing += other.labels_differing
        self.problems += other.problems

    @property
    def is_good(self) -> bool:
        """Every frame once, with the labels that it should have, and nothing else."""
        wrong = self.doubled or self.labels_differing or self.problems
        return self.frames_found == self.frames_expected and not wrong


def read_local(out: Path) -> dict[str, bytes]:
    """Content of every label file of a local output, by its path below OUT."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.glob("labels/*/*.parquet"))}


def read_objects(client: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    """Content of every object below a prefix, by its path below it."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
    return {key.removeprefix(f"{prefix}/"): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def dangling_uploads(client: Any, bucket: str) -> list[str]:
    """Keys of multipart uploads that nobody finished."""
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def compare(objects: dict[str, bytes], expected: dict[str, bytes]) -> Findings:
    """What is in an output's objects against the label files of an undisturbed run."""
    wanted, _, broken = read_rows(expected)
    assert not broken
    labels = {name: content for name, content in objects.items() if name.startswith("labels/")}
    rows, doubled, problems = read_rows(labels)
    problems += [f"{name} is no object of the job" for name in labels.keys() - expected.keys()]
    problems += [f"{name}: something was given up" for name in objects if name.startswith("_failed/")]
    if "_SUCCESS" not in objects:
        problems.append("no _SUCCESS")
    differing = sum(row != rows[key] for key, row in wanted.items() if key in rows)
    return Findings(
        frames_expected=len(wanted),
        frames_found=len(rows.keys() & wanted.keys()),
        doubled=doubled,
        labels_differing=differing,
        problems=problems,
    )


def read_rows(files: dict[str, bytes]) -> tuple[dict[Key, dict[str, Any]], int, list[str]]:
    """Rows by (video, frame), how many came twice, and files that do not open, in words."""
    rows: dict[Key, dict[str, Any]] = {}
    doubled, problems = 0, []
    for name, content in files.items():
        try:
            table = pq.read_table(io.BytesIO(content))
        except pa.ArrowException as error:
            problems.append(f"{name} cannot be read: {error}")
            continue
        for row in table.to_pylist():
            key = (row["video"], row["frame_index"])
            doubled += key in rows
            rows[key] = row
    return rows, doubled, problems
