"""Train on the machine that this job was submitted to.

ray job submit --working-dir . -- python -m jobs.train keyframe|propagation|arseg|tdnet [the options of `gsvnet train`]

On N GPUs of one machine: torchrun --nproc-per-node N -m jobs.train ... (see `gsvnet/training/parallel.py`)
"""

import sys

from gsvnet.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
