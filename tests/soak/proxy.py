"""A store that misbehaves: an HTTP proxy before an S3 server that throttles, fails, cuts, delays or is not there.

Requests are passed on as they came, the Host header too, so that their signatures stay good. It runs in a thread.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

MAX_BODY_BYTES = 1 << 30
SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
INTERNAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We met an internal error.</Message></Error>"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How the store is at the moment: shares of requests, 0..1, that meet each trouble; delay_s: of every request."""

    throttled: float = 0.0
    failing: float = 0.0
    cut: float = 0.0
    answer_lost: float = 0.0
    delay_s: float = 0.0
    is_down: bool = False


FAIR = Weather()


class FaultyProxy:
    """The proxy. weather: set it from any thread. counts: of troubles that requests met.

    forecast: (method, path) of a request -> what is met by this one; None: the weather of the moment.
    """

    def __init__(self, target: str, *, ip: str, seed: int) -> None:
        self.weather, self.counts = FAIR, Counter[str]()
        self.forecast: Callable[[str, str], Weather | None] = lambda method, path: None
        self._target, self._ip, self._random = target.rstrip("/"), ip, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self.url = ""

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._ip, 0)
        await site.start()
        self.url = f"http://{self._ip}:{site._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        weather = self.forecast(request.method, request.raw_path) or self.weather
        if weather.is_down:
            return self._hang_up(request, "down")
        if weather.delay_s:
            self.counts["delayed"] += 1
            await asyncio.sleep(self._random.uniform(0, 2 * weather.delay_s))
        try:
            body = await request.read()
        except ConnectionError:  # the client was killed
            return self._hang_up(request, "client gone")
        if self._random.random() < weather.throttled:
            self.counts["throttled"] += 1
            return web.Response(status=503, body=SLOW_DOWN, content_type="application/xml")
        if self._random.random() < weather.failing:
            self.counts["failing"] += 1
            return web.Response(status=500, body=INTERNAL, content_type="application/xml")
        headers = [(name, text) for name, text in request.headers.items() if name.lower() not in HOP_BY_HOP]
        url = URL(self._target + request.raw_path, encoded=True)
        try:
            async with self._session.request(
                request.method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                skip_auto_headers=("User-Agent",),
            ) as answer:
                return await self._pass_back(request, answer, await answer.read(), weather)
        except aiohttp.ClientError:
            return self._hang_up(request, "unreachable")

    async def _pass_back(
        self, request: web.Request, answer: aiohttp.ClientResponse, body: bytes, weather: Weather
    ) -> web.StreamResponse:
        if self._random.random() < weather.answer_lost:
            return self._hang_up(request, "answer lost")
        headers = [(name, text) for name, text in answer.headers.items() if name.lower() not in HOP_BY_HOP]
        if self._random.random() >= weather.cut or len(body) < 2:
            return web.Response(status=answer.status, reason=answer.reason, headers=headers, body=body)
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        return self._hang_up(request, "cut")

    def _hang_up(self, request: web.Request, why: str) -> web.Response:
        self.counts[why] += 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # reaches nobody

    def run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.start())
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self.stop())
        self._loop.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def faulty_proxy(target: str, *, ip: str = "127.0.0.1", seed: int = 0) -> Iterator[FaultyProxy]:
    """A proxy before the server at `target` that listens on `ip`; at first its weather is fair."""
    proxy, started = FaultyProxy(target, ip=ip, seed=seed), threading.Event()
    thread = threading.Thread(target=proxy.run, args=(started,), daemon=True)
    thread.start()
    assert started.wait(20), "the proxy did not start"
    try:
        yield proxy
    finally:
        proxy.end()
        thread.join(20)
