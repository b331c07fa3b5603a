"""A file with something around it, a folder as one file, and what each version of a drive did."""

from http import HTTPStatus
from typing import Final

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.drive.history import history
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.usage import shares_here
from hyperfs.web.archives import Archive, write_archive
from hyperfs.web.files import Resource, Write, attachment, send_body
from hyperfs.web.folder_page import crumbs, version_values
from hyperfs.web.pages import page
from hyperfs.web.sites import Site

TEXT_BYTES: Final = 256 * 1024
"""So much of a text is shown with its page."""
_VERSIONS: Final = 200
_CELLS: Final = 64
_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})


async def file_page(site: Site, drive: Drive, entry: Entry, path: str, resource: Resource) -> Response:
    """Return the page that shows a file in place, with what is known of it. Raises `BlockNotAvailable`."""
    kind = resource.type.partition(";")[0]
    shown = kind.partition("/")[0]
    if kind == "application/pdf":
        shown = "pdf"
    elif shown not in ("image", "video", "audio", "text"):
        shown = "text" if kind in ("application/json", "application/xml", "application/javascript") else "none"
    text = None
    if shown == "text":
        text = (await resource.file.read(0, TEXT_BYTES)).decode(errors="replace")
    core, run = resource.file.core, resource.file.run
    values = {
        "crumbs": crumbs(path),
        "path": path,
        "name": resource.name,
        "stat": entry.stat,
        "type": resource.type,
        "shown": shown,
        "opens_as_page": kind in _PAGES,
        "text": text,
        "text_is_cut": resource.file.size > TEXT_BYTES,
        "cells": shares_here(core, run.blocks, _CELLS),
        "here": core.count(run.blocks.start, run.blocks.stop),
        "blocks": len(run.blocks),
        **version_values(drive),
    }
    return page("file.html", site, values)


async def versions_page(site: Site, drive: Drive, query: QueryParams) -> Response:
    """Return the page of what the versions up to the drive's did, the newest first. Raises `BlockNotAvailable`."""
    asked = query.get("before", "")
    newest = drive.version
    if asked.isascii() and asked.isdigit() and len(asked) <= 16:
        newest = min(max(int(asked), 1), newest)
    snapshot = drive.snapshot() if newest == drive.version else Drive(drive.volume, newest).snapshot()
    entries = [entry async for entry in history(snapshot, limit=_VERSIONS)]
    tags: dict[int, list[str]] = {}
    for name, version in (await Drive(drive.volume, None).snapshot().tags()).items():
        tags.setdefault(version, []).append(name)
    older = entries[-1].version - 1 if entries else 1
    values = {"entries": entries, "tags": tags, "older": older if older > 1 else None, **version_values(drive)}
    return page("versions.html", site, values)


def archive_response(kind: Archive, snapshot: Snapshot, folder: str, site: Site) -> ASGIApp:
    """Return the answer that is a folder as one file."""
    assert site.key is not None
    name = folder.rpartition("/")[2] or site.key.hex()[:12]
    version = "" if site.version is None else f"+{site.version}"

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            "Content-Type": kind.type,
            "Content-Disposition": attachment(f"{name}{version}.{kind.ending}"),
            "Cache-Control": "private, no-store",
        }
        if scope["method"] == "HEAD":
            await Response(None, HTTPStatus.OK, headers)(scope, receive, send)
            return
        raw = [(field.lower().encode(), value.encode("latin-1")) for field, value in headers.items()]
        await send({"type": "http.response.start", "status": int(HTTPStatus.OK), "headers": raw})

        async def produce(write: Write) -> None:
            await write_archive(kind, snapshot, folder, write)

        await send_body(receive, send, produce)

    return answer
