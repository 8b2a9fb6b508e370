"""Label videos on the cluster that this job was submitted to.

ray job submit --working-dir . -- python -m jobs.label VIDEO... --out URI [the options of `gsvnet label`]
"""

import sys

from gsvnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["label", *sys.argv[1:]]))
