"""Who is let in: the check that every request passes before anything of a drive is looked at.

The rule: a request must name a site of ours, show that site's token (in the address once, then as a cookie, or as a
bearer's), and must not come from another origin if it is to change anything.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperfs.web.sites import Site, Tokens, site_of

ASSETS: Final = "/assets/"
"""Below this, on the site of the list, is what everybody may have: the style sheet and the script of our own pages."""
TOKEN_PARAMETER: Final = "token"
_COOKIE_SECONDS: Final = 365 * 86400
_SAFE: Final = frozenset({"GET", "HEAD"})
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Refuse = Callable[[Request, HTTPStatus, str], Response]
"""Makes the page that says why somebody is not let in."""


class Guard:
    """An ASGI application around another one, which gets only requests that may be answered, each with its `Site`.

    The site is in the scope's state, as ``site``.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, refuse: Refuse) -> None:
        self._app = app
        self._tokens = tokens
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is for nobody here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await self._answer(scope)(scope, receive, _with_headers(send))

    def _answer(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        site = site_of(headers.get("host", ""))
        if site is None:
            return PlainTextResponse(
                "hyperfs: no drive has this host name; `hyperfs web` prints the address to begin with\n",
                HTTPStatus.MISDIRECTED_REQUEST,
            )
        scope.setdefault("state", {})["site"] = site
        request = Request(scope)
        if headers.get("service-worker") == "script":
            return self._refuse(request, HTTPStatus.FORBIDDEN, "What a drive holds does not stay behind in a browser.")
        if scope["method"] not in _SAFE and headers.get("origin") != f"http://{headers['host'].lower()}":
            return self._refuse(request, HTTPStatus.FORBIDDEN, "Only our own pages may change anything.")
        if site.key is None and scope["path"].startswith(ASSETS):
            return self._app
        shown = request.query_params.get(TOKEN_PARAMETER)
        if shown is not None and scope["method"] in _SAFE and self._tokens.opens(site, shown):
            return self._let_in(request, site)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if any(self._tokens.opens(site, each) for each in (request.cookies.get(_cookie_of(site), ""), bearer) if each):
            return self._app
        return self._refuse(
            request,
            HTTPStatus.FORBIDDEN,
            "This address alone does not open the drives of a person. Begin with the one that `hyperfs web` prints.",
        )

    def _let_in(self, request: Request, site: Site) -> Response:
        """Have the browser keep the token, and ask again by an address that can be shown to others."""
        query = [(name, value) for name, value in parse_qsl(request.url.query, True) if name != TOKEN_PARAMETER]
        path = "/" + request.scope["raw_path"].decode("latin-1").lstrip("/")
        target = path + (f"?{urlencode(query)}" if query else "")
        response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
        response.set_cookie(
            _cookie_of(site), self._tokens.of(site), max_age=_COOKIE_SECONDS, httponly=True, samesite="lax"
        )
        response.headers["Cache-Control"] = "no-store"
        return response


def _cookie_of(site: Site) -> str:
    """Return the name of a site's cookie: browsers send a host's cookies to all its ports."""
    return f"hyperfs{site.port.replace(':', '-')}"


def _with_headers(send: Send) -> Send:
    def wrapped(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
        return send(message)

    return wrapped
