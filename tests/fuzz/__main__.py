"""`python -m tests.fuzz TARGET --seconds 600`: look for inputs that break what a target promises, by coverage.

Needs Atheris (see `make fuzz`). Begins with the target's corpus; what covers more is kept in --found FOLDER. The first
input that breaks a promise ends the run with its traceback, exit code 77, and a file `crash-...` in that folder:
`python -m tests.fuzz TARGET --input FILE` runs it alone, without Atheris.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

MOST_BYTES = 512
LONGEST_S, MOST_MIB = 20, 4096  # of one input; more is a finding


def main() -> int:
    """The exit code, where Atheris does not end the process itself."""
    options = _parse()
    if options.input:
        importlib.import_module(TARGETS[options.target]).fuzz_one(options.input.read_bytes())
        return 0
    import atheris

    with atheris.instrument_imports(include=["gsvnet"], enable_loader_override=False):
        fuzz_one = importlib.import_module(TARGETS[options.target]).fuzz_one
    found = options.found or Path(tempfile.mkdtemp(prefix=f"gsvnet-fuzz-{options.target}-"))
    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-max_total_time={options.seconds}",
        f"-max_len={MOST_BYTES}",
        "-len_control=0",
        f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        *([f"-seed={options.seed}"] if options.seed else []),
    ]
    callback = _drained(fuzz_one, time.monotonic() + options.seconds - 1)
    atheris.Setup([sys.argv[0], *arguments, str(found), str(CORPUS / options.target)], callback)
    atheris.Fuzz()
    return 0


def _drained(fuzz_one: Callable[[bytes], None], end: float) -> Callable[[bytes], None]:
    """`fuzz_one` that waits a little towards the end: libFuzzer ends the process with the interpreter's lock in hand,
    and would wait for ever for a thread of Arrow's that needs it to let a buffer go."""

    def callback(data: bytes) -> None:
        fuzz_one(data)
        if time.monotonic() > end:
            time.sleep(0.02)

    return callback


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--found", type=Path, help="folder that keeps what was found; default: a temporary one")
    parser.add_argument("--input", type=Path, help="run this one input, without Atheris")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
