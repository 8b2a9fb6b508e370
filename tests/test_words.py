"""Numbers for people."""

from __future__ import annotations

import pytest

from gsvnet.words import count, size_in_words


@pytest.mark.parametrize(("number", "text"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (2000, "2,000 shards")])
def test_a_noun_has_its_number(number, text):
    assert count(number, "shard") == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (812, "812 bytes"),
        (1_000, "1.0 kB"),
        (3_400, "3.4 kB"),
        (1_200_000_000, "1.2 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_a_size_has_its_unit(num_bytes, text):
    assert size_in_words(num_bytes) == text
