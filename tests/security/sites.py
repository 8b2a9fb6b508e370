"""A web server on loopback that lets in who knows a password and a signature, and tells of nothing else."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD, SIGNATURE = "hush-user-Name", "hush-pass-Word", "hush-sig-Nature"


@dataclass(frozen=True)
class Site:
    """port: on 127.0.0.1."""

    port: int

    def uri(self, name: str) -> str:
        """The address of a file as its owner gives it: with password and signed query."""
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}?X-Amz-Signature={SIGNATURE}"


@contextmanager
def private_site(files: Mapping[str, bytes]) -> Iterator[Site]:
    """Serves `files` by name, whole or in ranges; 404 for others, 401 without the secrets."""
    allowed = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            name, _, query = self.path[1:].partition("?")
            if self.headers["authorization"] != allowed or SIGNATURE not in query:
                return self.send_error(401)
            if name not in files:
                return self.send_error(404)
            data, asked = files[name], re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
            start, stop = (int(asked[1]), int(asked[2] or len(data) - 1) + 1) if asked else (0, len(data))
            self.send_response(206 if asked else 200)
            self.send_header("etag", '"1"')
            self.send_header("accept-ranges", "bytes")
            if asked:
                self.send_header("content-range", f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}")
            self.send_header("content-length", str(len(data[start:stop])))
            self.end_headers()
            if with_body:
                self.wfile.write(data[start:stop])

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield Site(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
