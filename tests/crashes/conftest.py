from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gsvnet.labeling.ray.cluster import connect

SITE = Path(__file__).with_name("site")


@pytest.fixture(scope="module")
def fault_file(tmp_path_factory):
    """Where processes of the module read at which point they die or wait; see site/sitecustomize.py."""
    return tmp_path_factory.mktemp("fault") / "fault.json"


@pytest.fixture(scope="module")
def deadly_environment(fault_file):
    """Variables of processes that die where `die_at` says, or wait where `hold_at` does."""
    search_path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": search_path, "GSVNET_FAULT": str(fault_file)}


@pytest.fixture(scope="module")
def deadly_ray(deadly_environment):
    """A local Ray with room for two actors, which die where `die_at` says or wait where `hold_at` does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in deadly_environment.items():
            patch.setenv(name, text)
        with connect(min_cpus=2):
            yield


class Fate:
    """What the next process that comes to a point meets there."""

    def __init__(self, fault_file, fate):
        self.file, self.fate = fault_file, fate
        self.met_file = fault_file.with_suffix(".json.met")

    def __call__(self, where, *, call=1, when="before"):
        written = self.file.with_suffix(".new")
        written.write_text(json.dumps({"where": where, "call": call, "when": when, "fate": self.fate}))
        written.rename(self.file)

    def met(self):
        """Whether a process has come there."""
        return self.met_file.exists()

    def end(self):
        """Nothing happens there any more; who waits there goes on."""
        self.file.unlink(missing_ok=True)
        self.met_file.unlink(missing_ok=True)


@pytest.fixture
def die_at(fault_file):
    """die_at("module:function", call=1, when="before"): the next process to come there is gone; `.met()` if it was."""
    fate = Fate(fault_file, "die")
    yield fate
    fate.end()


@pytest.fixture
def hold_at(fault_file):
    """As `die_at`, but that process waits there until `.end()`."""
    fate = Fate(fault_file, "hold")
    yield fate
    fate.end()
