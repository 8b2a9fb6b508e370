from __future__ import annotations

import subprocess
import sys

import pytest

import gsvnet
from gsvnet.errors import MissingExtra

HEAVY = ("torch", "ray", "av")


def test_the_public_names_are_few_sorted_and_there():
    assert gsvnet.__all__ == sorted(gsvnet.__all__)
    assert len(gsvnet.__all__) <= 15
    assert all(getattr(gsvnet, name) is not None for name in gsvnet.__all__)
    assert set(gsvnet.__all__) <= set(dir(gsvnet))


def test_what_the_readme_promises_is_public():
    assert {"label", "LabelConfig", "open_labels", "load_model", "PerFrame", "ClassSet"} <= set(gsvnet.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'lable'"):
        gsvnet.lable  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import gsvnet, gsvnet.classes, gsvnet.chunks, gsvnet.errors",
        "import gsvnet.store.read; from gsvnet import open_labels, CAMVID, LabelConfig",
        "import gsvnet.labeling.tasks, gsvnet.labeling.config",
        "from gsvnet.cli import main\ntry: main(['label', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_light_imports_stay_light(code):
    check = f"{code}\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1:] == [""]


@pytest.mark.parametrize(("name", "module"), [("load_model", "torch"), ("label", "av")])
def test_a_missing_package_is_named_with_its_extra(name, module):
    code = f"import sys; sys.modules[{module!r}] = None\nimport gsvnet\ngsvnet.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(str(MissingExtra(module, "label")))


@pytest.mark.parametrize(("module", "extra"), [("torch", "label"), ("av", "label"), ("ray", "label")])
def test_the_command_names_a_missing_package_in_one_line(module, extra, drive, tiny_model, tmp_path):
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom gsvnet.cli import main\n"
        f"sys.exit(main(['label', {str(drive)!r}, '--out', {str(tmp_path / 'out')!r}, '--model', {str(tiny_model)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"gsvnet: {MissingExtra(module, extra)}\n")
