"""What a benchmark ran on: facts that a reader needs to judge its figures, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import gsvnet

_PACKAGES = ("torch", "av", "numpy", "pyarrow", "ray", "pillow")


def describe_machine() -> dict[str, Any]:
    """JSON-ready facts: processor, usable cores, memory, versions, CUDA device. No host name, no path."""
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": _has_bf16_instructions(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "gsvnet": gsvnet.__version__,
        "commit": _commit(),
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _has_bf16_instructions() -> bool | None:
    """Whether this processor multiplies bf16 (AVX512-BF16, AMX); None where that is not known."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    names = [name for name in known if "bf16" in name.lower()]
    return any(bool(known[name]) for name in names) if names else None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, "+" where files differ from it; None without one."""
    folder = Path(gsvnet.__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        describe = ["git", "-C", str(folder), "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
