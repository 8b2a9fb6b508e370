"""What an export does with its target, and the same killed at lines of target.py.

In a process of its own, `python -m tests.export.writing FOLDER EVERY OLD`: forking a small process is fast. FOLDER
gets to-1, to-(1 + EVERY), ...; the last was not killed. OLD: "" or a finished export of other settings that each of
them replaces.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import gsvnet.export.target as target_module
from gsvnet.export.target import open_target
from tests.dying import die_at_every_line

SETTINGS = {"format": "png", "every": 2}


def write_all(folder: Path, *, settings: dict = SETTINGS, overwrite: bool = False, num_frames: int = 3) -> int:
    """Write two files for each frame, then one for all; the number of frames."""
    with open_target(folder, settings, overwrite=overwrite) as target:
        for index in range(target.last_frame("v") + 1, num_frames):
            target.write(f"masks/v-{index}.png", f"mask {index}")
            target.write(f"images/v-{index}.jpg", f"image {index}")
            target.record("v", index, 1, {"index": index, "text": "ä\n"})
        if not target.is_complete:
            target.write("all.json", json.dumps(list(target.records())))
            target.complete()
        return target.num_frames


def main(folder: Path, every: int, old: str) -> None:
    """Write into to-<n> in a fork that is killed at line n of the target's module, for every so-manyth n from 1 on.

    Print the n of the first one that was not killed.
    """

    def write(step: int) -> None:
        if old:
            shutil.copytree(old, folder / f"to-{step}")
        write_all(folder / f"to-{step}", overwrite=bool(old), num_frames=2)

    print(die_at_every_line([target_module], write, every=every))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
