"""Where the optional real data is, what to do without it or without CUDA, and what tests of several rooms share."""

import importlib.util
import io
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from gsvnet.process import yield_idle_cores
from tests.material import save_tiny_model
from tests.outputs import assert_nothing_half_written, rows_of

yield_idle_cores()  # before any test imports torch

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("busy")  # the machine may be busy with other things

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


@pytest.fixture(scope="session", autouse=True)
def _torch_threads() -> int:
    """The number of torch's threads before anything changes it."""
    import torch

    return torch.get_num_threads()


@pytest.fixture(autouse=True)
def _same_torch_threads(_torch_threads):
    """Every test runs with the same number of torch's threads: kernels, and so last bits, depend on it."""
    import torch

    torch.set_num_threads(_torch_threads)
    yield
    torch.set_num_threads(_torch_threads)


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


@pytest.fixture(scope="session")
def media() -> ModuleType:
    """tests/video/media.py: draws numbered clips of any container."""
    return _load("video/media.py")


@pytest.fixture(scope="session")
def s3_servers() -> ModuleType:
    """tests/s3_servers.py: starts S3 servers on loopback."""
    pytest.importorskip("s3fs")
    return _load("s3_servers.py")


@pytest.fixture(scope="session")
def moto_s3(s3_servers):
    """An `S3Server` (see tests/s3_servers.py) in this process: strict conditions, any key is let in."""
    pytest.importorskip("moto.server")
    with s3_servers.moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def swift_s3(s3_servers):
    """An `S3Server` of real processes: OpenStack Swift, from the virtual environment that GSVNET_SWIFT_BIN names."""
    if not os.environ.get(s3_servers.SWIFT_BIN):
        pytest.skip(f"no Swift; name the bin folder of a venv with `pip install swift` in {s3_servers.SWIFT_BIN}")
    with s3_servers.swift_server() as server:
        yield server


def _load(path: str) -> ModuleType:
    """The module in a file of tests/. Tests are no package, so it is loaded by path."""
    file = Path(__file__).parent / path
    spec = importlib.util.spec_from_file_location(f"gsvnet_test_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class _Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def hold_clock(monkeypatch):
    """hold_clock(module): a clock in place of the module's `time`; its `now` (seconds, from 0) moves only by hand."""

    def hold(module: ModuleType) -> _Clock:
        clock = _Clock()
        monkeypatch.setattr(module, "time", clock)
        return clock

    return hold


@pytest.fixture
def make_console():
    """make_console(**options): a rich Console on no terminal; `console.file.getvalue()` is what it printed."""
    from rich.console import Console

    return lambda **options: Console(file=io.StringIO(), **{"width": 160} | options)


@pytest.fixture(scope="session")
def drive(tmp_path_factory) -> Path:
    """A drawn street as video: 60 frames of 72x96 pixels, 15 a second, B-frames, an I-frame at least every 12."""
    from gsvnet.synthetic import SceneConfig, write_video

    path = tmp_path_factory.mktemp("drive") / "drive.mp4"
    return write_video(path, config=SceneConfig(height=72, width=96, seed=3), num_frames=60, gop=12)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A GSVNet checkpoint with random weights that reads 48 rows: fast, and its labels are far from uniform."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def label_config(drive, tiny_model, tmp_path):
    """label_config(**changes): a small job of several shards in this process, over `drive` into `out`."""
    from gsvnet.labeling.config import LabelConfig

    usual = {
        "videos": (str(drive),),
        "out": str(tmp_path / "out"),
        "model": str(tiny_model),
        "shard_frames": 12,
        "batch_chunks": 2,
        "cpus_per_actor": 1,
        "no_ray": True,
    }
    return lambda **changes: LabelConfig(**usual | changes)


@pytest.fixture(scope="session")
def undisturbed(drive, tiny_model, tmp_path_factory):
    """All rows of `drive` as an undisturbed run in one process labels them, twelve frames a shard."""
    import gsvnet

    out = tmp_path_factory.mktemp("undisturbed") / "out"
    config = gsvnet.LabelConfig(
        videos=(str(drive),),
        out=str(out),
        model=str(tiny_model),
        shard_frames=12,
        batch_chunks=2,
        cpus_per_actor=1,
        no_ray=True,
    )
    assert gsvnet.label(config).exit_code == 0
    return rows_of(out)


@pytest.fixture(scope="module")
def ray_here():
    """A local Ray with room for two actors, which every `label` of the module joins."""
    from gsvnet.labeling.ray.cluster import connect

    with connect(min_cpus=2) as cluster:
        yield cluster


@pytest.fixture
def gsvnet_label(tiny_model, tmp_path, monkeypatch, capsys):
    """gsvnet_label(*arguments) -> exit code, standard output, standard error; videos and output stand in tmp_path."""
    from gsvnet.cli import main

    monkeypatch.chdir(tmp_path)
    usual = ["--no-ray", "--cpus-per-actor", "1", "--batch-chunks", "2", "--shard-frames", "12"]

    def run(*arguments, out="out", model=str(tiny_model)):
        capsys.readouterr()
        code = main(["label", *map(str, arguments), "--out", str(out), "--model", model, *usual])
        printed, complaint = capsys.readouterr()
        assert "Traceback" not in printed + complaint
        assert_nothing_half_written(tmp_path)
        return code, printed, complaint

    return run


@pytest.fixture
def good(drive, tmp_path):
    (tmp_path / "good.mp4").symlink_to(drive)
    return "good.mp4"
