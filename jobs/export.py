"""Write labels for another tool on the cluster or here: python -m jobs.export FORMAT OUT --to DIR."""

import sys

from gsvnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
