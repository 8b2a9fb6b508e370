"""Measure the machine that this job was submitted to: python -m jobs.benchmark [--json FILE], as `gsvnet benchmark`."""

import sys

from gsvnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
