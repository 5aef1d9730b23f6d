"""Who may read: names this machine answers to, the token where others can reach it, and headers on every answer."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "sparring_token"
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """Lets a request through to the pages or answers it itself."""

    def __init__(self, app: ASGIApp, token: str | None, names: Sequence[str] | None) -> None:
        """``names``: the host names to answer to (a page elsewhere may point its own name here); ``None``: any."""
        self.app, self.token, self.names = app, token, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["cache-control"] = "no-cache" if scope["path"].startswith("/static/") else "no-store"
            await send(message)

        answer = self._answer(Request(scope))
        await (answer or self.app)(scope, receive, sealed)

    def _answer(self, request: Request) -> Response | None:
        """What is said instead of the page, if anything."""
        if not self._known(Headers(scope=request.scope).get("host", "")):
            return PlainTextResponse(
                "This page answers only to the name it was opened under; open it as http://127.0.0.1:PORT.\n", 403
            )
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("This page only reads: GET or HEAD.\n", 405, {"allow": "GET, HEAD"})
        if self.token is None:
            return None
        given = request.query_params.get("token")
        if given is not None and self._right(given):
            return self._enter(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._right(request.cookies.get(COOKIE, "")) or self._right(bearer):
            return None
        return PlainTextResponse(
            "A token is needed: open the address that 'sparring ui' printed, with its ?token=.\n", 401
        )

    def _known(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        return self.names is None or (name if port.isdigit() and name else host).lower() in self.names

    def _right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self.token or "").encode())

    def _enter(self, request: Request) -> Response:
        """Trade the token of the address for a cookie, so that it stays out of the history and of links."""
        rest = urlencode([pair for pair in parse_qsl(request.url.query) if pair[0] != "token"])
        answer = RedirectResponse("/" + request.url.path.lstrip("/") + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(COOKIE, self.token or "", httponly=True, samesite="strict", path="/")
        return answer
