"""Where the optional real data is, and what to do without it or without CUDA."""

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(variable: str, fallback: Path) -> Path | None:
    """The folder named by the variable (an error if empty), else the fallback if it is there."""
    named = os.environ.get(variable)
    if named is not None:
        path = Path(named)
        if not path.is_dir() or not any(path.iterdir()):
            raise pytest.UsageError(f"{variable}={named}: not a folder with files")
        return path
    return fallback if fallback.is_dir() else None


def pytest_configure(config):
    config.parity_dir = _folder("GSVNET_PARITY", _SHARED / "parity")
    config.data_dir = _folder("GSVNET_DATA", _SHARED / "data")


def pytest_collection_modifyitems(config, items):
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") and os.environ.get("REQUIRE_CUDA") != "1":
            item.add_marker(pytest.mark.skip(reason="no CUDA here; REQUIRE_CUDA=1 makes this a failure"))


@pytest.fixture(scope="session")
def data_dir(pytestconfig) -> Path:
    if pytestconfig.data_dir is None:
        pytest.skip("real data is absent; name its folder in GSVNET_DATA")
    return pytestconfig.data_dir


@pytest.fixture(scope="session")
def parity_dir(pytestconfig) -> Path:
    if pytestconfig.parity_dir is None:
        pytest.skip("parity files are absent; name their folder in GSVNET_PARITY")
    return pytestconfig.parity_dir
