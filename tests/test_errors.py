from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from gsvnet import errors
from gsvnet.errors import ConfigError, GsvnetError, MissingExtra, VideoError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GsvnetError)]


def make(kind):
    if kind is MissingExtra:
        return MissingExtra("ray", "label")
    if issubclass(kind, VideoError):
        return kind("it broke", uri="s3://bucket/a.mp4", frame=7, pts=3584)
    return kind("it broke")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("carry", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
def test_every_error_travels_with_its_message_and_fields(kind, carry):
    error = make(kind)
    found = carry(error)
    assert (type(found), str(found), vars(found)) == (kind, str(error), vars(error))


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    drawn, branch = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"([ |]*\+- |)([A-Z]\w+)( |$)", line)
        if match and hasattr(errors, match[2]):
            depth = len(match[1]) // 4
            branch = [*branch[:depth], match[2]]
            drawn[match[2]] = branch[-2] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in CLASSES}


def test_a_video_error_says_where():
    error = VideoError("stopped", uri="a.mp4", frame=7, pts=3584)
    assert str(error) == "a.mp4, frame 7, pts 3584: stopped"
    assert str(VideoError("stopped", uri="a.mp4", frame=0)) == "a.mp4, frame 0: stopped"
    assert str(VideoError("stopped")) == "stopped"


def test_a_missing_extra_says_what_to_install():
    assert str(MissingExtra("ray", "label")) == "ray is not installed; run: pip install 'gsvnet[label]'"
    assert issubclass(MissingExtra, ConfigError)  # exit code 2
