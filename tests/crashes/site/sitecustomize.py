"""Lets a process die or wait at a chosen point: Python imports this first where this folder is on PYTHONPATH.

The JSON file that GSVNET_FAULT names says where: {"where": "gsvnet.store.write:ShardWriter.append", "call": 7,
"when": "before", "fate": "die"}. The first process that comes to its seventh call renames the file and kills itself;
with "fate": "hold" it waits there until the renamed file is gone.
"""

import functools
import importlib.abc
import importlib.machinery
import json
import os
import pathlib
import signal
import sys
import time

POINTS = {
    "gsvnet.video.decode": ["read_frames"],
    "gsvnet.store.job": ["write_plan"],
    "gsvnet.store.write": ["ShardWriter.append"],
    "gsvnet.store.publish": ["publish_file", "replace_bytes"],
    "gsvnet.store.manifest": ["write_derived"],
}


class DeadlyFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of POINTS as usual and wraps their functions once they are loaded."""

    def find_spec(self, name, path, target=None):
        if name not in POINTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_and_wrap(module):
            load(module)
            for dotted in POINTS[name]:
                *holders, function = dotted.split(".")
                holder = functools.reduce(getattr, holders, module)
                setattr(holder, function, deadly(getattr(holder, function), f"{name}:{dotted}"))

        spec.loader.exec_module = load_and_wrap
        return spec


def deadly(function, where):
    calls = 0

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        nonlocal calls
        calls += 1
        meet_fate(where, calls, "before")
        result = function(*args, **kwargs)
        meet_fate(where, calls, "after")
        return result

    return wrapper


def meet_fate(where, call, when):
    path = pathlib.Path(os.environ["GSVNET_FAULT"])
    try:
        fate = json.loads(path.read_text())
        if (fate["where"], fate["when"]) == (where, when) and call >= fate["call"]:
            met = path.rename(f"{path}.met")  # by one process
            if fate["fate"] == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            while met.exists():
                time.sleep(0.02)
    except FileNotFoundError:
        pass


if "GSVNET_FAULT" in os.environ:
    sys.meta_path.insert(0, DeadlyFinder())
