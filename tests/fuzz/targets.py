"""What is fuzzed: by each target's name the module with its `fuzz_one(data)`, and where the corpus of each lies."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

TARGETS = {
    "masks": "tests.fuzz.masks",
    "label_files": "tests.fuzz.label_files",
    "queries": "tests.fuzz.queries",
    "records": "tests.fuzz.records",
    "chunk_plans": "tests.fuzz.chunk_plans",
    "h264": "tests.fuzz.h264",
    "containers": "tests.fuzz.containers",
    "lists": "tests.fuzz.lists",
    "settings": "tests.fuzz.settings",
}
