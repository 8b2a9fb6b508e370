"""Every command line of ours in cluster/ is one that the program takes."""

from __future__ import annotations

import functools
import re
import shlex

import pytest

from gsvnet import cli

_COMMAND = re.compile(r"(?:^|[\s`])(?:gsvnet (?P<name>[a-z]+)|python -m jobs\.(?P<job>[a-z]+)) (?P<rest>[^`]*)")
_STANDS_FOR = {
    '"$@"': "s3://bucket/videos/ --out s3://bucket/labels",
    '"${SLURM_ARRAY_TASK_ID:?submit with --array}"': "0",
    '"$SLURM_ARRAY_TASK_COUNT"': "16",
}


def commands(text):
    """(command, its arguments) for every line that calls the program; lines that name no output are prose."""
    text = re.sub(r"\\\n[#\s]*", "", text)
    for line in text.splitlines():
        for variable, value in _STANDS_FOR.items():
            line = line.replace(variable, value)
        if (found := _COMMAND.search(line)) and ("--out " in line or found["name"] in ("plan", "status")):
            yield found["name"] or found["job"], shlex.split(found["rest"].rstrip(" &"), comments=True)


@pytest.fixture
def parsed(monkeypatch):
    """parsed(name, arguments): what the command would be called with."""
    calls = []
    for name, function in cli.COMMANDS.items():

        def record(*args, **kwargs):
            calls.append([*args, *kwargs.values()])
            return 0

        monkeypatch.setitem(cli.COMMANDS, name, functools.wraps(function)(record))

    def parse(name, arguments):
        assert cli.main([name, *arguments]) == 0
        return calls[-1][0]

    return parse


def test_the_rayjobs_entrypoint(parsed, rayjob):
    words = shlex.split(rayjob["spec"]["entrypoint"])
    assert words[0] == "gsvnet"
    config = parsed(words[1], words[2:])
    assert (config.num_actors, config.gpus_per_actor, config.device) == (16, 1, "cuda")
    assert (config.limits.drain_seconds, config.limits.partial_ok) == (90, True)


@pytest.mark.parametrize(("name", "least"), [("slurm.sh", 1), ("slurm-ray.sh", 1), ("README.md", 3)])
def test_commands_of_scripts_and_documents(parsed, cluster_dir, name, least):
    found = list(commands((cluster_dir / name).read_text()))
    assert len(found) >= least
    for command, arguments in found:
        parsed(command, arguments)


def test_a_flag_that_is_gone_is_noticed(parsed):
    (command, arguments), *_ = commands("gsvnet label a.mp4 --out b --gpu-per-actor 1")
    with pytest.raises(SystemExit):
        parsed(command, arguments)
