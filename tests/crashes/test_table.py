"""The table in cluster/README.md names a test for each row, and these tests exist."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_row_of_the_crash_table_has_its_test():
    text = (HERE.parents[1] / "cluster" / "README.md").read_text().partition("## What survives what")[2]
    rows = [line.split(" | ")[-1] for line in text.splitlines() if line.startswith("| ")][1:]
    sources = "\n".join(path.read_text() for path in sorted(HERE.glob("test_*.py")))
    assert len(rows) >= 15
    for row in rows:
        names = re.findall(r"`(?:(test_\w+))?(?:\[([^]]+)\])?`", row)
        assert names, row
        for name, case in names:
            assert not name or f"def {name}(" in sources, name
            assert not case or f'"{case}"' in sources, case
