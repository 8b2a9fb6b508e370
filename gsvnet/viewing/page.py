"""HTML pages from the templates beside this module; every value that goes into one is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from gsvnet.classes import ClassSet

_PAGES = files("gsvnet.viewing") / "pages"


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """The page of a template in pages/. `include_asset(name)` there gives a CSS or JS file of pages/ as it is."""
    return _environment().get_template(template).render(values)


def read_asset(name: str) -> bytes:
    """A CSS or JS file of pages/; Bokeh's own for "bokeh.min.js"."""
    if name == "bokeh.min.js":
        return _bokeh_path().read_bytes()
    return (_PAGES / name).read_bytes()


def class_chips(classes: ClassSet) -> list[dict[str, str]]:
    """name and colour of each class, for templates and the browser."""
    return [{"name": name, "colour": colour} for name, colour in zip(classes.names, classes.hex_colours)]


def _bokeh_path() -> Path:
    from bokeh.resources import Resources

    return Path(Resources(mode="absolute", components=["bokeh"], minified=True).js_files[0])


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: (_PAGES / name).read_text()),
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # Bokeh reads its models in order
    environment.globals["include_asset"] = lambda name: Markup(read_asset(name).decode())  # our own and Bokeh's
    return environment
