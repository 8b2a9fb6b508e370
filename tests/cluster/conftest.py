from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def cluster_dir() -> Path:
    return Path(__file__).resolve().parents[2] / "cluster"


@pytest.fixture(scope="session")
def rayjob(cluster_dir) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((cluster_dir / "rayjob.yaml").read_text())


@pytest.fixture(scope="session")
def launcher(cluster_dir) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((cluster_dir / "launcher-aws.yaml").read_text())
