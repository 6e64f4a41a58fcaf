"""Who may talk to the page: nobody from elsewhere, no page of another site, and without a token only this machine.

A page of another site can send requests to this one, but not without saying where it comes from: browsers put the
origin on every websocket and on everything that writes. A name that an attacker points at this machine (DNS rebinding)
shows in the host. Whoever is let in from elsewhere has the token, in the first link and then in a cookie.
"""

import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "few-labels-token"
PARAMETER = "token"
READING = {"GET", "HEAD"}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    # No script, font or image from the web, and no other page around this one.
    "Content-Security-Policy": (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval'; img-src 'self' data: blob:; connect-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Middleware that refuses what does not come from the page itself.

    Parameters
    ----------
    app : ASGI application
    port : int
        On which it is served.
    token : str
        What whoever comes has to know; empty where it is served on loopback alone.
    """

    def __init__(self, app: ASGIApp, port: int, token: str = "") -> None:
        self._app, self._token = app, token
        self._hosts = {f"{host}:{port}" for host in LOOPBACK} | ({*LOOPBACK} if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        if refusal := self._refuse(scope, headers):
            await _deny(refusal, scope, receive, send)
        elif not self._token or self._knows_token(headers.getlist("cookie")):
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and any(
            name == PARAMETER and secrets.compare_digest(value.encode(), self._token.encode()) for name, value in query
        ):
            rest = urlencode([(name, value) for name, value in query if name != PARAMETER])
            # A path that starts with two slashes would lead to another site.
            answer = RedirectResponse(f"/{scope['path'].lstrip('/')}{'?' if rest else ''}{rest}", status_code=303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            await answer(scope, receive, _with_headers(send))
        else:
            await _deny("a token is missing: open the link that the command printed", scope, receive, send)

    def _refuse(self, scope: Scope, headers: Headers) -> str:
        """Say why a request is not answered; empty where it is."""
        host, origins = headers.get("host", ""), headers.getlist("origin")
        if not self._token and host not in self._hosts:
            return "this page answers on its own machine alone"
        is_reading = scope["type"] == "http" and scope["method"] in READING
        if any(urlsplit(origin).netloc != host for origin in origins) or not (is_reading or origins):
            return "this page takes nothing from other pages"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "this page gives nothing to other pages"
        return ""

    def _knows_token(self, cookies: Iterable[str]) -> bool:
        for text in cookies:
            try:
                found = SimpleCookie(text).get(COOKIE)
            except CookieError:
                continue
            if found is not None and secrets.compare_digest(found.value.encode(), self._token.encode()):
                return True
        return False


async def _deny(why: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
    else:
        await PlainTextResponse(f"{why}\n", status_code=403)(scope, receive, _with_headers(send))


def _with_headers(send: Send) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            # Socket.IO says that every site may read its answers.
            message["headers"] = [
                (name, value) for name, value in message["headers"] if name.lower() != b"access-control-allow-origin"
            ]
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return add
