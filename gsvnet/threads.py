"""How the threads of torch behave beside others."""

from __future__ import annotations

import os


def yield_idle_cores() -> None:
    """Let OpenMP threads sleep while they wait instead of spinning; call before torch is imported.

    A worker decodes, segments and encodes at once, so cores are shared by design. Spinning threads then hold up those
    that they wait for: on two cores of which another process used one, labeling ran up to twenty times slower.
    A policy that the user set stands. Labels do not change.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
