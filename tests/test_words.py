"""Numbers for people."""

from __future__ import annotations

import pytest

from gsvnet.words import count, interval_in_words, size_in_words


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


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"keyframe_interval": 12, "model_settings": {"family": "gsvnet-swiftnet"}}, "12"),
        ({"keyframe_interval": 24, "min_agreement": 0.95}, "1 to 12, for 95 % agreement"),
        ({"keyframe_interval": 5, "model_settings": {"family": "td4-pspnet18"}}, "none"),
        ({}, ""),
    ],
)
def test_an_interval_is_told_as_the_job_had_it(fields, text):
    assert interval_in_words(fields) == text
