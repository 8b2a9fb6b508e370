"""The clips of the zoo, and the module that draws them (tests are no package, so it cannot be imported by name)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest


def _load_media() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gsvnet_test_media", Path(__file__).with_name("media.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_media = _load_media()


@pytest.fixture(scope="session")
def media() -> ModuleType:
    return _media


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """zoo(name) -> path of the clip, encoded when first asked for."""
    folder = tmp_path_factory.mktemp("zoo")

    def clip(name: str) -> Path:
        file_name, arguments = _media.ZOO[name]
        path = folder / file_name
        return path if path.exists() else _media.write_clip(path, num_frames=_media.ZOO_FRAMES, **arguments)

    return clip


@pytest.fixture(scope="session", params=_media.ZOO)
def zoo_clip(request, zoo) -> Path:
    return zoo(request.param)


@pytest.fixture(scope="session")
def decode_all():
    """decode_all(path) -> (pts, plain RGB) of every frame, decoded from the start by PyAV alone."""
    decoded: dict[Path, list[tuple[int, np.ndarray]]] = {}

    def decode(path: Path) -> list[tuple[int, np.ndarray]]:
        if path not in decoded:
            with av.open(str(path)) as container:
                frames = container.decode(video=0)
                decoded[path] = [(frame.pts, frame.to_ndarray(format="rgb24")) for frame in frames]
        return decoded[path]

    return decode


@pytest.fixture
def small_windows(monkeypatch):
    """Files of some hundred kB are read from stores as large ones are: in windows, and not whole."""
    for name in ("FIRST_WINDOW_BYTES", "NEXT_WINDOW_BYTES", "TAIL_BYTES"):
        monkeypatch.setattr(f"gsvnet.video.ranges.{name}", 4096)
    monkeypatch.setattr("gsvnet.video.probe._BUFFER_BYTES", 4096)
