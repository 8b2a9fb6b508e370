"""Serving the viewer until a signal ends it."""

from __future__ import annotations

import socket
import threading
from types import FrameType

import uvicorn
from starlette.applications import Starlette


def serve(app: Starlette, listener: socket.socket, stop: threading.Event) -> None:
    """Serve on the socket until SIGINT or SIGTERM, then set `stop` and end what was asked for.

    Raises KeyboardInterrupt after SIGINT, once all is closed.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    _Server(config, stop).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells of the end as soon as it is wanted; uvicorn's own events come after the last answer."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stop.set()
        super().handle_exit(sig, frame)
