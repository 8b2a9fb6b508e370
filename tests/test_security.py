"""What no module may do, whoever wrote what it reads: run text as code, unpickle, or start a shell. See SECURITY.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    path.relative_to(ROOT).as_posix(): path
    for room in ("gsvnet", "jobs", "cluster")
    for path in (ROOT / room).rglob("*.py")
}
FORBIDDEN = {
    "eval", "exec", "compile", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnl", "pty.spawn",
    "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp", "runpy.run_path", "runpy.run_module",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "torch.hub.load",
    "torch.package.PackageImporter", "pandas.read_pickle", "joblib.load",
}  # fmt: skip
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "code", "pty"}
MUST_SAY = {"torch.load": ("weights_only", True), "jinja2.Environment": ("autoescape", True)}
MUST_NOT_SAY = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False, "verify": False}
STARTS_PROGRAMS = {"gsvnet/benchmark/machine.py"}  # `git describe`, for the record of a measurement
IMPORTS_BY_NAME = {  # import_module of a name that is not written there
    "gsvnet/__init__.py",  # one of the package's own, from a table
    "gsvnet/benchmark/material.py", "gsvnet/evaluation/drawing.py", "gsvnet/export/format.py",
    "gsvnet/training/curves.py",
    "gsvnet/models/checkpoints.py",  # --model package.module:factory, as typed
}  # fmt: skip


def find_slips(source: str) -> Iterator[str]:
    """What a module does that none may, one line each."""
    tree = ast.parse(source)
    full_names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"imports {each.name}" for each in node.names if each.name.split(".")[0] in UNPICKLERS)
            full_names |= {each.asname: each.name for each in node.names if each.asname}
        elif isinstance(node, ast.ImportFrom):
            named = {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            full_names |= named
            yield from (f"imports {each}" for each in named.values() if UNPICKLERS & set(each.split(".")[:2]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _find_slips_of_call(node, full_names)


def _find_slips_of_call(call: ast.Call, full_names: dict[str, str]) -> Iterator[str]:
    first, dot, rest = ast.unparse(call.func).partition(".")
    name = f"{full_names.get(first, first)}{dot}{rest}"
    said = {each.arg: each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)}
    if name in FORBIDDEN:
        yield f"calls {name}"
    if name in MUST_SAY and said.get(MUST_SAY[name][0]) is not MUST_SAY[name][1]:
        yield f"calls {name} without {MUST_SAY[name][0]}={MUST_SAY[name][1]}"
    yield from (f"calls {name} with {key}={value}" for key, value in MUST_NOT_SAY.items() if said.get(key) is value)


@pytest.mark.parametrize(
    "slip",
    [
        "eval(text)",
        "import os\nos.system(text)",
        "from os import popen as run\nrun(text)",
        "import pickle",
        "from ray import cloudpickle",
        "import pickle as p\np.loads(data)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import subprocess as s\ns.run(text, shell=True)",
        "import yaml\nyaml.load(text)",
        "from jinja2 import Environment\nEnvironment()",
        "session.get(url, verify=False)",
    ],
)
def test_the_search_finds_a_slip(slip):
    assert list(find_slips(slip))


def test_nothing_that_is_read_is_run_unpickled_or_given_to_a_shell():
    assert {name: slips for name, path in MODULES.items() if (slips := list(find_slips(path.read_text())))} == {}


def test_other_programs_are_started_in_one_place():
    starting = {name for name, path in MODULES.items() if "subprocess" in path.read_text()}
    assert starting == STARTS_PROGRAMS


def test_modules_are_imported_by_name_where_that_is_known():
    found = set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
                found |= set() if isinstance(node.args[0], ast.Constant) else {name}
    assert found == IMPORTS_BY_NAME


def test_every_test_that_the_threat_model_names_is_there():
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 15
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not (ROOT / path).is_file() or (test and f"def {test}(" not in (ROOT / path).read_text())
    ]
    assert missing == []
