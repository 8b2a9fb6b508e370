from __future__ import annotations

import math

import pytest

from gsvnet.errors import ConfigError
from gsvnet.labeling.limits import LimitsConfig


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"max_attempts": 0}, "--max-attempts 0: at least 1"),
        ({"max_failed_fraction": 1.5}, "--max-failed-fraction 1.5: must be within 0..1"),
        ({"max_failed_fraction": math.nan}, "--max-failed-fraction nan: must be within 0..1"),
        ({"max_replacements": -1}, "--max-replacements -1: at least 0"),
        ({"drain_seconds": -1.0}, "--drain-seconds -1.0: must be finite and at least 0"),
        ({"shard_timeout_s": -1.0}, "--shard-timeout-s -1.0: must be positive"),
        ({"outage_timeout_s": math.inf}, "--outage-timeout-s inf: must be positive and finite"),
        ({"actor_start_timeout_s": 0.0}, "--actor-start-timeout-s 0.0: must be positive"),
    ],
    ids=str,
)
def test_limits_that_cannot_be_are_named_by_their_flag(changes, problem):
    with pytest.raises(ConfigError) as refused:
        LimitsConfig(**changes)
    assert problem in str(refused.value)
