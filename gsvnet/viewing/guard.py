"""Who may ask the viewer: browsers that know it by a name of this machine, and pages of its own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # Bokeh sets styles of elements and adds style sheets; it needs neither inline scripts nor eval
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[^:]*))(?::\d+)?")


def make_guards(hosts: Sequence[str], *, any_address: bool = False) -> list[Middleware]:
    """Middleware that refuses what it should and adds HEADERS to every answer.

    hosts: names that a request's Host header may have; another one is refused (DNS rebinding). any_address: IP
    addresses are let in too; rebinding needs a name.
    """
    trusted = Middleware(_Addresses if any_address else TrustedHostMiddleware, list(hosts), www_redirect=False)
    return [Middleware(_WithHeaders), trusted, Middleware(_OwnPages)]


class _WithHeaders:
    """Adds HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Addresses:
    """Lets in whoever knows this machine by an IP address, and asks TrustedHostMiddleware about the others."""

    def __init__(self, app: ASGIApp, hosts: list[str], *, www_redirect: bool) -> None:
        self._app, self._strict = app, TrustedHostMiddleware(app, hosts, www_redirect)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_address = scope["type"] == "http" and _is_address(Headers(scope=scope).get("host", ""))
        await (self._app if is_address else self._strict)(scope, receive, send)


def _is_address(host: str) -> bool:
    """Whether a Host header, with a port or without, is an IP address: 10.0.0.7, [fe80::1]:8050."""
    match = _HOST.fullmatch(host)
    try:
        if match is None:
            return False
        if match["v6"] is None:
            ipaddress.IPv4Address(match["v4"])
        else:
            ipaddress.IPv6Address(match["v6"])
    except ValueError:
        return False
    return True


class _OwnPages:
    """Refuses requests for data that the page of another origin makes (an <img> of it, say); browsers tell."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/"):
            site = Headers(scope=scope).get("sec-fetch-site", "none")
            if site not in ("same-origin", "none"):
                refusal = JSONResponse({"error": "only the viewer's own page may ask for this"}, status_code=403)
                return await refusal(scope, receive, send)
        await self._app(scope, receive, send)
