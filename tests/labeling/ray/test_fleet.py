"""What Ray says of an actor that is gone, as a person reads it."""

from __future__ import annotations

import ray.exceptions

from gsvnet.labeling.ray.fleet import _reason

CREATION = """The actor died because of an error raised in its creation task, \x1b[36mray::ShardActor()\x1b[39m (pid=7)
  File "python/ray/_raylet.pyx", line 1, in ray._raylet.execute_task
ImportError: cannot import name 'errors' from 'gsvnet'
"""


def test_an_actor_that_could_not_be_made_says_why():
    said = _reason(ray.exceptions.RayError(CREATION))
    assert said == "it could not be made: ImportError: cannot import name 'errors' from 'gsvnet'"


def test_terminal_colours_are_left_out():
    assert _reason(ray.exceptions.RayError("\x1b[31mgone\x1b[0m\n\tactor_id: 12")) == "gone"
