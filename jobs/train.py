"""Train on the machine that this job was submitted to.

ray job submit --working-dir . -- python -m jobs.train keyframe|propagation [the options of `gsvnet train`]
"""

import sys

from gsvnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
