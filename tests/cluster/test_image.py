"""cluster/Dockerfile, read line by line: nothing here can build it."""

from __future__ import annotations

import json
import re

import pytest


@pytest.fixture(scope="module")
def steps(cluster_dir):
    """(instruction, rest) of every step, continued lines joined, comments left out."""
    text = (cluster_dir / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in joined]


def values(steps, instruction):
    return [rest for name, rest in steps if name == instruction]


def test_it_starts_from_one_named_version(steps):
    (base,) = values(steps, "FROM")
    assert re.fullmatch(r"[a-z]+:[\w.-]+", base)
    assert not base.endswith(":latest")


def test_only_known_instructions_stand_there(steps):
    assert {name for name, _ in steps} <= {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}


def test_it_does_not_run_as_root(steps):
    (user,) = values(steps, "USER")
    assert int(user) > 0  # a number: Kubernetes cannot tell whether a name is root
    last_run = max(i for i, (name, _) in enumerate(steps) if name == "RUN")
    assert last_run < [name for name, _ in steps].index("USER")


def test_signals_reach_the_program(steps):
    assert json.loads(values(steps, "ENTRYPOINT")[0])[0] == "tini"
    assert json.loads(values(steps, "CMD")[0])[:2] == ["gsvnet", "label"]


def test_rays_launcher_finds_what_it_runs_in_the_container(steps):
    (install,) = [run for run in values(steps, "RUN") if "apt-get install" in run]
    assert {"rsync", "openssh-client"} <= set(install.split())


def test_versions_are_those_that_are_tested(steps):
    (install,) = [run for run in values(steps, "RUN") if "[label,s3,gcs,azure]" in run]
    assert "-c constraints.txt" in install


def test_what_it_copies_is_there_and_is_not_ignored(steps, cluster_dir):
    copied = [name for rest in values(steps, "COPY") for name in rest.split()[:-1]]
    ignored = (cluster_dir / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied
    for name in copied:
        assert (cluster_dir.parent / name).exists(), name
        assert f"!{name}" in ignored


def test_video_engines_are_let_in(steps):
    (variables,) = values(steps, "ENV")
    (capabilities,) = re.findall(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", variables)
    assert set(capabilities.split(",")) == {"compute", "utility", "video"}
