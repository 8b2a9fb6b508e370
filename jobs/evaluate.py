"""Score a model on the cluster or here: python -m jobs.evaluate camvid|cityscapes|cost|plot, as `gsvnet evaluate`."""

import sys

from gsvnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
