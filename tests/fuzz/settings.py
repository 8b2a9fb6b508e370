"""What a person sets: class sets from files, URIs, the configuration of every command, lists of frames to export.

Whatever they hold, the thing itself comes out or ConfigError, and no URI that is shown holds a secret.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import types
import typing
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from gsvnet.classes import CITYSCAPES, ClassSet, find_counterparts, merge_table
from gsvnet.cli.jobs import StatusConfig
from gsvnet.cli.labels import ShowConfig
from gsvnet.errors import ConfigError, GsvnetError
from gsvnet.evaluation.config import DiffConfig
from gsvnet.export.choice import read_frames
from gsvnet.export.config import ExportConfig
from gsvnet.labeling.config import LabelConfig, parse_size
from gsvnet.labeling.limits import LimitsConfig
from gsvnet.maintenance.config import CompactConfig, VerifyConfig
from gsvnet.store.layout import check_name, shard_uri
from gsvnet.store.read import Labels, open_labels
from gsvnet.uris import absolute_uri, hide_secrets, local_path, protocol_of_uri, redact_text, redact_uri
from gsvnet.video.source import video_id
from gsvnet.viewing.config import ReportConfig, ReviewConfig, ViewConfig
from tests.fuzz import sound
from tests.fuzz.choices import Choices, change_json, damage
from tests.fuzz.workplace import folder, sound_output

CONFIGS = (
    LabelConfig, LimitsConfig, StatusConfig, VerifyConfig, CompactConfig, ExportConfig, ReportConfig, ViewConfig,
    ReviewConfig, ShowConfig, DiffConfig,
)  # fmt: skip
_SECRET = "hunter2"


def fuzz_one(data: bytes) -> None:
    """Set one hostile thing."""
    choices = Choices(data)
    match choices.below(5):
        case 0:
            _check_classes(choices)
        case 1:
            _check_uris(choices)
        case 2:
            _check_secrets(choices)
        case 3:
            _check_config(choices)
        case 4:
            _check_frames(choices)


def _check_classes(choices: Choices) -> None:
    path = folder() / "classes.json"
    path.write_bytes(_hostile(sound.CLASSES.to_dict(), choices))
    try:
        classes = ClassSet.from_file(path)
    except ConfigError:
        return
    assert ClassSet.from_dict(json.loads(json.dumps(classes.to_dict()))) == classes
    assert classes.palette.shape == (256, 3)
    assert all(len(colour) == 7 for colour in classes.hex_colours)
    assert all(name.replace("_", "a").isalnum() and not name[0].isdigit() for name in classes.identifiers)
    find_counterparts(classes, CITYSCAPES)
    with contextlib.suppress(ConfigError):
        merge_table(classes, sound.CLASSES)


def _hostile(value: Any, choices: Choices) -> bytes:
    """The file that holds a JSON value, with the value or the bytes changed."""
    match choices.below(6):
        case 0:
            return choices.rest()
        case 1:
            return choices.pick((b"[" * 100_000, b"9" * 5000, b"\xff", b"", b"{}", b"null"))
        case 2:
            return damage(json.dumps(value).encode(), choices)
    for _ in range(1 + choices.below(3)):
        value = change_json(value, choices)
    return json.dumps(value).encode()


def _check_uris(choices: Choices) -> None:
    """Any text is the name of something, and two ways to redact it agree."""
    text = "".join(choices.text() for _ in range(1 + choices.below(4)))
    redacted = redact_uri(text)
    assert redact_uri(redacted) == redacted
    assert protocol_of_uri(text) == protocol_of_uri(text).lower()
    local_path(text)
    redact_text(text)
    hide_secrets(text, text)
    absolute_uri(text).encode()
    if "\0" not in text and "\ud800" not in text:  # neither can come from a command line or a list
        assert check_name(video_id(text))
    with contextlib.suppress(ConfigError):
        assert shard_uri("out", check_name(text), "000000").count("/") == 3
    size = parse_size(text)
    assert size is None or min(size) >= 1


def _check_secrets(choices: Choices) -> None:
    """A password or a signature, wherever it stands in a URI, is not in what is shown."""
    scheme = choices.pick(("s3", "https", "http", "gs", "abfss", "az", "ftp", "S3", "HTTPS"))
    user = choices.pick(
        ("", f"key:{_SECRET}@", f"{_SECRET}:x@", f"a:{_SECRET}/1@", f"a@b:{_SECRET}@", f"a:9/{_SECRET}@")
    )
    if scheme in ("abfss", "az") or ("9/" in user and scheme not in ("s3", "S3", "gs")):  # a container, a port
        user = ""
    query = choices.pick((f"?sig={_SECRET}", f"?X-Amz-Signature={_SECRET}&a=b"))
    parts = ("bucket", "a b", "day=1", "é", "x.mp4", "#1", "a'b")
    path = "/".join(choices.pick(parts) for _ in range(1 + choices.below(4)))
    uri = f"{scheme}://{user}host/{path}{query}"
    for shown in (redact_uri(uri), absolute_uri(uri), redact_text(f"cannot read {uri} now"), hide_secrets(uri, uri)):
        assert _SECRET not in shown, shown


def _check_config(choices: Choices) -> None:
    kind = choices.pick(CONFIGS)
    hints = typing.get_type_hints(kind, include_extras=False)
    given = {}
    for field in dataclasses.fields(kind):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if not has_default or choices.below(4) == 0:
            given[field.name] = _value(hints[field.name], choices)
    try:
        config = kind(**given)
        if isinstance(config, LabelConfig):
            config.check_for_labeling()
    except ConfigError as error:
        str(error).encode("utf-8", "surrogatepass")


def _value(hint: Any, choices: Choices) -> Any:
    """A value that the command line could give to an argument of this type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _value(inner[0], choices)
    if origin in (typing.Union, types.UnionType):
        return _value(choices.pick(inner), choices)
    if origin is Literal:
        return choices.pick(inner)
    if origin is tuple:
        return tuple(_value(inner[0], choices) for _ in range(choices.below(3)))
    if origin is dict:
        return {choices.text(): choices.text() for _ in range(choices.below(3))}
    if hint is LimitsConfig:
        return LimitsConfig()
    if hint is Path:
        return Path(choices.text())
    plain = {int: choices.integer, float: choices.number, bool: choices.flag, str: choices.text}
    return plain[hint]() if hint in plain else None


@cache
def _labels() -> Labels:
    return open_labels(sound_output("settings").out)


def _check_frames(choices: Choices) -> None:
    """Lists of frames as `gsvnet review --write` makes them: JSON or CSV."""
    path = folder() / "frames"
    listed = [{"video": sound.VIDEO, "frame_index": 2}, {"video": "drive", "frame_index": 5}]
    if choices.flag():
        path.write_bytes(_hostile(listed, choices))
    else:
        path.write_bytes(damage(b"video,frame_index,note\ndrive,2,x\ndrive,5,y\n", choices))
    try:
        found = read_frames(_labels(), str(path))
    except GsvnetError as error:
        str(error).encode("utf-8", "surrogatepass")
        return
    for indices in found.values():
        assert indices.tolist() == sorted(set(indices.tolist()))
        assert set(indices.tolist()) <= set(range(sound.NUM_FRAMES))
