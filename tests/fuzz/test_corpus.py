"""Every input that was trouble once, or that covers something, through its target; no fuzzer needed."""

from __future__ import annotations

import importlib
import random

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

ENTRIES = [(path.parent.name, path.name) for path in sorted(CORPUS.glob("*/*"))]
SAMPLES = {"label_files": 2, "queries": 2, "records": 2}  # those of the other targets cost nothing
MOST_BYTES = 100_000


@pytest.mark.parametrize(("target", "name"), ENTRIES)
def test_nothing_that_was_found_breaks_a_promise_again(target, name):
    importlib.import_module(TARGETS[target]).fuzz_one((CORPUS / target / name).read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_random_bytes_break_no_promise(target):
    fuzz_one, chance = importlib.import_module(TARGETS[target]).fuzz_one, random.Random(target)
    for _ in range(SAMPLES.get(target, 20)):
        fuzz_one(chance.randbytes(chance.randrange(200)))


def test_every_target_has_a_corpus_and_all_of_it_is_small():
    assert {target for target, _ in ENTRIES} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < MOST_BYTES
