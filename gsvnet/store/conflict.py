"""How the settings of a job differ from those that an output was made with, in the words of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gsvnet.uris import redact_uri

_FLAGS = {  # others: the field's own name
    "model_hash": "--model",
    "model_settings": "--model (its settings)",
    "classes": "--model (its classes)",
}
_OWN = {"schema_version", "codec"}  # no flag: another version of the program


def explain_conflict(out: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """One line that names every differing field of two records by its flag, with both values."""
    missing = object()
    differences = {}
    for name in sorted({*ours, *theirs}):
        here, there = ours.get(name, missing), theirs.get(name, missing)
        if here != there:
            flag = name if name in _OWN else _FLAGS.get(name, "--" + name.replace("_", "-"))
            differences[flag] = f"{flag}: {_shown(there, missing)} in the output, {_shown(here, missing)} now"
    return (
        f"{redact_uri(out)} belongs to a job with other settings; use the same, or another --out. "
        + "Different are " + "; ".join(differences.values())
    )  # fmt: skip


def _shown(value: Any, missing: object) -> str:
    if value is missing:
        return "not set"
    if isinstance(value, dict) and "name" in value:
        return f"{value['name']} ({len(value.get('names', ()))} classes)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
