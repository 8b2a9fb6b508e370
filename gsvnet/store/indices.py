"""Frame indices as callers hand them in: several integers, and nothing that only looks like it."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index as to_integer
from typing import SupportsIndex

import numpy as np

from gsvnet.errors import ConfigError


def to_integers(indices: Iterable[SupportsIndex]) -> list[int]:
    """Frame indices as Python's integers.

    Raises ConfigError for one index alone, for fractions, and for booleans: a mask is no index.
    """
    check_are_several(indices)
    if isinstance(indices, np.ndarray) and indices.ndim == 1 and np.issubdtype(indices.dtype, np.integer):
        return indices.tolist()  # all frames of a day are millions
    found = []
    for each in indices:
        try:
            if isinstance(each, bool):
                raise TypeError
            found.append(to_integer(each))
        except TypeError as error:
            problem = "an integer is needed; of a mask, take np.flatnonzero"
            raise ConfigError(f"{each!r} is no frame index: {problem}") from error
    return found


def check_are_several(indices: object) -> None:
    """Raise ConfigError for one index alone."""
    try:
        iter(indices)  # type: ignore[call-overload]
    except TypeError as error:
        raise ConfigError(f"{indices!r}: frame indices come as a list, that of one frame as [{indices!r}]") from error
