"""What is answered at which address: the list of drives on its own site, and each drive as folders and files on its.

The rule: a page works without a script; what a script adds is that it stays up to date, and sorts without asking.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from hyperfs.daemon.answers import DriveTold
from hyperfs.daemon.codec import to_plain
from hyperfs.daemon.known import find_drive
from hyperfs.daemon.requests import ListDrives
from hyperfs.drive.links import follow
from hyperfs.drive.names import normalise
from hyperfs.errors import BlockNotAvailable, HyperfsError, InvalidKey, NotADrive, PathError, UnknownVersion, UsageError
from hyperfs.keys import DriveAddress, parse_address, split_short
from hyperfs.web.archives import Archive
from hyperfs.web.drives import Drives
from hyperfs.web.files import FileResponse, resource_of
from hyperfs.web.folder_page import folder_page
from hyperfs.web.guard import TOKEN_PARAMETER, Guard
from hyperfs.web.pages import page, path_link
from hyperfs.web.showing import archive_response, file_page, versions_page
from hyperfs.web.sites import Site, Tokens

_HELP: Final = {
    HTTPStatus.NOT_FOUND: "Look at the address, or at another version of the drive.",
    HTTPStatus.GATEWAY_TIMEOUT: "It may come later: try again when somebody who has it is connected.",
    HTTPStatus.FORBIDDEN: "",
}


def make_app(drives: Drives, tokens: Tokens) -> ASGIApp:
    """Return the ASGI application that shows ``drives`` to whoever has the ``tokens``."""
    home = _Home(drives, tokens)
    drive = _DrivePages(drives, tokens)
    home_app = Starlette(
        routes=[
            Route("/", home.list),
            Route("/status.json", home.status),
            Route("/open", home.open),
            Mount("/assets", _Assets(packages=[("hyperfs.web", "assets")])),
        ],
        exception_handlers={HTTPStatus.NOT_FOUND: _nothing_there, HyperfsError: _sorry, OSError: _sorry},
    )
    drive_app = Starlette(
        routes=[Route("/{path:path}", drive.show)],
        exception_handlers={HyperfsError: _sorry, OSError: _sorry},
    )

    async def by_site(scope: Scope, receive: Receive, send: Send) -> None:
        site = scope["state"].get("site") if scope["type"] == "http" else None
        await (home_app if site is None or site.key is None else drive_app)(scope, receive, send)

    return Guard(by_site, tokens, error_page)


def error_page(request: Request, status: HTTPStatus, message: str) -> Response:
    """Return the page that says why there is no other."""
    values = {"title": status.phrase, "message": message, "help": _HELP.get(status, "")}
    return page("error.html", request.state.site, values, status)


class _Assets(StaticFiles):
    """Our style sheet and script: every site of ours may load them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Home:
    """The list of drives, and the way from there to each."""

    def __init__(self, drives: Drives, tokens: Tokens) -> None:
        self._drives = drives
        self._tokens = tokens

    async def list(self, request: Request) -> Response:
        """Show what drives there are, who is connected, and a field for a key."""
        listed = await self._listed()
        status = await self._drives.client.status()
        values = {
            "drives": listed,
            "pinned": set(status.pinned),
            "store": status.store,
            "peers": status.peers,
            "listening": status.listening,
        }
        return page("home.html", request.state.site, values)

    async def status(self, request: Request) -> Response:
        """Tell everything that `hyperfs status` does, with the list of drives, for the script of the page."""
        status = to_plain(await self._drives.client.status())
        listed = [to_plain(drive) for drive in await self._listed()]
        return JSONResponse({**status, "listed": listed}, headers={"Cache-Control": "no-store"})

    async def open(self, request: Request) -> Response:
        """Lead to the drive that somebody names: by its key, in any form, its name here, or the key's first digits."""
        word = request.query_params.get("drive", "").strip()
        try:
            address = self._address(word)
        except (InvalidKey, UsageError) as error:
            return error_page(request, HTTPStatus.NOT_FOUND, str(error))
        version = address.version
        if address.tag is not None:
            drive = await self._drives.get(address.key)
            version = await drive.snapshot().tagged_version(address.tag)
        site = Site(address.key, version, request.state.site.port)
        return _lead_to(site, self._tokens, path_link(normalise(address.path)))

    def _address(self, word: str) -> DriveAddress:
        """Return what a person names. Raises `InvalidKey`, `UsageError`."""
        try:
            return parse_address(word)
        except InvalidKey:
            short = split_short(word)
            key = find_drive(self._drives.client.places, short[0]) if short else None
            if short is None or key is None:
                raise
            return parse_address(key.hex() + short[1])

    async def _listed(self) -> Sequence[DriveTold]:
        drives = await self._drives.client.request(ListDrives())
        return sorted(drives, key=lambda drive: (drive.name is None, drive.name or "", drive.key))


class _DrivePages:
    """A drive, or one version of it."""

    def __init__(self, drives: Drives, tokens: Tokens) -> None:
        self._drives = drives
        self._tokens = tokens

    async def show(self, request: Request) -> ASGIApp:
        """Answer for one path of the drive. Raises `HyperfsError`."""
        site: Site = request.state.site
        assert site.key is not None
        path = normalise(request.path_params["path"])
        query = request.query_params
        if "go" in query:
            return await self._go(request, path)
        drive = await self._drives.get(site.key, site.version)
        snapshot = drive.snapshot()
        entry = await follow(snapshot, path)
        is_folder_address = request.scope["path"].endswith("/")
        if entry.is_directory != is_folder_address:
            target = path_link(path) + ("/" if entry.is_directory else "")
            return RedirectResponse(
                target + (f"?{urlencode(query.multi_items())}" if query else ""), HTTPStatus.PERMANENT_REDIRECT
            )
        if not entry.is_directory:
            file = await snapshot.open(entry)
            resource = await resource_of(file, path.rpartition("/")[2], entry.stat.mtime)
            if "page" in query:
                return await file_page(site, drive, entry, path, resource)
            return FileResponse(resource, keep="download" in query)
        for kind in Archive:
            if kind.ending in query:
                return archive_response(kind, snapshot, entry.path, site)
        if "versions" in query:
            return await versions_page(site, drive, query)
        return await folder_page(site, drive, entry, path, query)

    async def _go(self, request: Request, path: str) -> Response:
        """Lead to the same path in another version of the drive."""
        site: Site = request.state.site
        asked = request.query_params["go"]
        if asked and not (asked.isascii() and asked.isdigit() and len(asked) <= 16):
            raise UnknownVersion(f"{asked!r} is no version: a version is a number")
        other = Site(site.key, int(asked) if asked else None, site.port)
        is_folder = request.scope["path"].endswith("/")
        return _lead_to(other, self._tokens, path_link(path) + ("/" if path and is_folder else ""))


def _lead_to(site: Site, tokens: Tokens, target: str) -> Response:
    """Return a redirection to another site, with what opens it."""
    query = urlencode({TOKEN_PARAMETER: tokens.of(site)})
    response = RedirectResponse(f"{site.origin}{target}?{query}", HTTPStatus.SEE_OTHER)
    response.headers["Cache-Control"] = "no-store"
    return response


def _nothing_there(request: Request, error: Exception) -> Response:
    return error_page(request, HTTPStatus.NOT_FOUND, "There is no such page.")


def _sorry(request: Request, error: Exception) -> Response:
    """Say what is wrong."""
    if isinstance(error, PathError | UnknownVersion | NotADrive):
        return error_page(request, HTTPStatus.NOT_FOUND, str(error))
    if isinstance(error, BlockNotAvailable):
        return error_page(request, HTTPStatus.GATEWAY_TIMEOUT, str(error))
    return error_page(request, HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
