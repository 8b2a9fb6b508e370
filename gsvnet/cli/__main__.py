"""`python -m gsvnet.cli`: the command `gsvnet`."""

import sys

from gsvnet.cli import main

sys.exit(main())
