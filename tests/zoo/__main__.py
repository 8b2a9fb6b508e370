"""Makes and reads every video of the zoo: `python -m tests.zoo` prints the table of `gsvnet/video/README.md`.

What each was found to be goes to standard error; the exit code is 1 where one is not read as the catalogue says.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.zoo.catalogue import THEMES, ZOO
from tests.zoo.checking import check
from tests.zoo.table import table


def main() -> int:
    """Exit code. Names on the command line choose exhibits: part of a file's name is enough."""
    chosen = [e for e in ZOO.values() if not sys.argv[1:] or any(part in e.file for part in sys.argv[1:])]
    num_wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for exhibit in chosen:
            path = Path(folder) / exhibit.file
            try:
                exhibit.make(path)
                error = check(exhibit, path)
                found = "refused" if error is None else f"exact, colours within {error:.1f} levels"
            except Exception as wrong:
                num_wrong += 1
                found = f"WRONG: {type(wrong).__name__}: {' '.join(str(wrong).split())[:300]}"
            print(f"{exhibit.file}: {found}", file=sys.stderr)
    if not sys.argv[1:]:
        print(table(THEMES))
    return int(num_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
