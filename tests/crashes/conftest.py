from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

SITE = Path(__file__).with_name("site")


@pytest.fixture(scope="module")
def fault_file(tmp_path_factory):
    """Where processes of the module read at which point they die; see site/sitecustomize.py."""
    return tmp_path_factory.mktemp("fault") / "fault.json"


@pytest.fixture(scope="module")
def deadly_environment(fault_file):
    """Variables of processes that die where `die_at` says."""
    search_path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": search_path, "GSVNET_FAULT": str(fault_file)}


@pytest.fixture
def die_at(fault_file):
    """die_at("module:function", call=1, when="before"): the next process to come there is gone; `.met()` if it was."""

    class Fate:
        def __call__(self, where, *, call=1, when="before"):
            written = fault_file.with_suffix(".new")
            written.write_text(json.dumps({"where": where, "call": call, "when": when}))
            written.rename(fault_file)

        def met(self):
            return fault_file.with_suffix(".json.met").exists()

    yield Fate()
    for path in (fault_file, fault_file.with_suffix(".json.met")):
        path.unlink(missing_ok=True)
