"""Say what a labeling job would do and cost on the cluster that this job was submitted to.

ray job submit --working-dir . -- python -m jobs.plan VIDEO... [the options of `gsvnet label`]
"""

import sys

from gsvnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["plan", *sys.argv[1:]]))
