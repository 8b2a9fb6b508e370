"""The walls of the house: what may import what, and what may not be there at all."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gsvnet"
FLOORS = (
    {"errors", "process", "uris", "outages", "words", "terminal"},
    {"choices", "classes", "chunks"},
    {"nn", "video", "store", "synthetic"},
    {"models", "reading"},
    {"labeling", "evaluation", "export", "maintenance", "viewing"},
    {"training", "benchmark"},
    {"cli", "demo"},
)
ONE_ROOM = {"demo": "cli", "chunks": "classes"}  # counted as the same room, so they may see each other
ONLY_IN = {
    "av": ("video/", "synthetic/", "export/", "benchmark/"),
    "pyarrow": ("store/",),
    "ray": ("labeling/ray/", "benchmark/"),
    "duckdb": ("store/",),
}
LONG_LINES, TOO_LONG_LINES = 350, 500

MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(name: str) -> str:
    """First part of a module's path or dotted name below the package: "store/read.py" -> "store"."""
    first = name.replace("/", ".").removesuffix(".py").split(".")[0]
    return ONE_ROOM.get(first, first)


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports anywhere, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def test_every_room_has_a_floor():
    rooms = {room_of(name) for name in MODULES if name not in ("__init__.py", "__main__.py")}
    assert rooms <= {ONE_ROOM.get(room, room) for floor in FLOORS for room in floor}


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__init__.py"])
def test_imports_only_go_down(name):
    room = room_of(name)
    for imported in imports(MODULES[name]):
        if imported.startswith("gsvnet.") and imported != "gsvnet.__version__":
            other = room_of(imported.removeprefix("gsvnet."))
            assert (PACKAGE / other).exists() or (PACKAGE / f"{other}.py").exists(), f"{imported}: import it from home"
            assert other == room or floor_of(other) < floor_of(room), f"gsvnet/{name} may not import {imported}"


@pytest.mark.parametrize("package", ONLY_IN)
def test_packages_stay_in_their_rooms(package):
    users = [name for name, path in MODULES.items() if package in {i.split(".")[0] for i in imports(path)}]
    assert [name for name in users if not name.startswith(ONLY_IN[package])] == []


def test_nothing_below_the_command_line_prints():
    printing = [
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert {name for name in printing if not name.startswith("cli/")} == set()


def test_there_is_no_drawer_for_odds_and_ends():
    assert [name for name in MODULES if Path(name).stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_modules_are_read_in_one_sitting():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    for name, count in lines.items():
        if count > LONG_LINES:
            warnings.warn(f"gsvnet/{name} has {count} lines; think of splitting it", stacklevel=1)
    assert {name: count for name, count in lines.items() if count > TOO_LONG_LINES} == {}


def test_every_module_says_what_it_is_for():
    silent = [
        n for n, path in MODULES.items() if path.read_text() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
