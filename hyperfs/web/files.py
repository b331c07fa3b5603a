"""A file of a drive as an HTTP resource: what it is, which part of it is asked for, and the bytes as they come.

The rule: what is sent was read a moment before, and what follows is brought meanwhile; whoever goes away ends both.
See RFC 9110, "Conditional Requests" and "Range Requests".
"""

import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hyperfs.drive.nursery import open_work
from hyperfs.drive.snapshot import OpenFile
from hyperfs.errors import BlockNotAvailable

SNIFFED_BYTES: Final = 1024
_FIRST_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_AHEAD_BYTES: Final = 8 * 1024 * 1024
_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.ASCII)
_BINARY: Final = "application/octet-stream"
_OURS: Final = {".md": "text/markdown", ".mkv": "video/x-matroska", ".flac": "audio/flac", ".opus": "audio/ogg"}
_UNPRINTED = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")

Write = Callable[[bytes], Awaitable[None]]

CONTENT_POLICY: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; worker-src blob:; form-action 'self'; "
    "frame-ancestors 'self'; base-uri 'self'"
)
"""What a page of a drive may do: everything with its own drive, and nothing with the rest of the world."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A file that can be sent: ``type`` is its media type, ``etag`` strong, ``modified`` in milliseconds since 1970."""

    file: OpenFile
    name: str
    type: str
    etag: str
    modified: int


async def resource_of(file: OpenFile, name: str, modified: int) -> Resource:
    """Return what is said of a file; one whose name says nothing is looked into. Raises `BlockNotAvailable`."""
    found = guessed_type(name)
    if found is None:
        found = _BINARY
        if file.size and is_text(await file.read(0, SNIFFED_BYTES)):
            found = "text/plain"
    if found.startswith("text/") or found in ("application/json", "application/javascript"):
        found += "; charset=utf-8"
    return Resource(file, name, found, etag_of(file), modified)


def guessed_type(name: str) -> str | None:
    """Return the media type that a name stands for, None when it says nothing that a browser could use."""
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    if ending in _OURS:
        return _OURS[ending]
    found, encoding = mimetypes.guess_type("x" + ending)
    return _BINARY if encoding else found


def is_text(beginning: bytes) -> bool:
    """Tell whether a file that begins so, with the first `SNIFFED_BYTES` of it, is text in UTF-8."""
    if _UNPRINTED.search(beginning):
        return False
    try:
        beginning.decode()
    except UnicodeDecodeError as error:
        return len(beginning) == SNIFFED_BYTES and error.start > len(beginning) - 4
    return True


def etag_of(file: OpenFile) -> str:
    """Return a strong ETag: what lies at a place of a log never changes, so the place says it all."""
    run = file.run
    place = f"{run.blocks.start}-{run.blocks.stop}-{run.byte_offset}-{run.size}"
    return '"' + hashlib.blake2b(file.core.key + place.encode(), digest_size=16).hexdigest() + '"'


def range_of(asked: str, size: int) -> range | None:
    """Return the bytes that a ``Range`` header asks for: none that are there for ``range(0)``.

    None when it is to be ignored: it is no range of bytes, or several.
    """
    found = _RANGE.fullmatch(asked)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return range(max(0, size - int(found[2])), size) if int(found[2]) else range(0)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    return range(first, min(last + 1, size)) if first < size else range(0)


def attachment(name: str) -> str:
    """Return the ``Content-Disposition`` with which a browser keeps what comes under ``name``."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


class FileResponse:
    """Sends a file, or the part of it that is asked for, or says that what the browser has is still it.

    With ``keep``, the browser is to store it and not to show it.
    """

    def __init__(self, resource: Resource, *, keep: bool = False) -> None:
        self._resource = resource
        self._keep = keep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. When bytes do not come, the answer stays unfinished: raises `BlockNotAvailable`."""
        resource = self._resource
        headers = Headers(scope=scope)
        common = {
            "ETag": resource.etag,
            "Last-Modified": http_date(resource.modified),
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "Content-Security-Policy": CONTENT_POLICY,
        }
        if _is_unchanged(headers, resource):
            await Response(None, HTTPStatus.NOT_MODIFIED, common)(scope, receive, send)
            return
        size = resource.file.size
        asked = headers.get("range")
        part = None
        if asked is not None and _range_holds(headers.get("if-range"), resource):
            part = range_of(asked, size)
        if part is not None and not part:
            refused = {**common, "Content-Range": f"bytes */{size}"}
            await Response(None, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, refused)(scope, receive, send)
            return
        status = HTTPStatus.OK
        if part is None:
            part = range(size)
        else:
            status = HTTPStatus.PARTIAL_CONTENT
            common["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        if self._keep:
            common["Content-Disposition"] = attachment(resource.name)
        fields = {**common, "Content-Type": resource.type, "Content-Length": str(len(part))}
        if scope["method"] == "HEAD":
            await Response(None, status, fields)(scope, receive, send)
            return
        first = await resource.file.read(part.start, min(_FIRST_BYTES, len(part)))  # before anything is promised
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": int(status), "headers": raw})

        async def produce(write: Write) -> None:
            await write(first)
            await copy_part(resource.file, range(part.start + len(first), part.stop), write)

        await send_body(receive, send, produce)


async def copy_part(file: OpenFile, part: range, write: Write) -> None:
    """Await ``write`` with the bytes of a part of a file, in order, while what follows is brought.

    Raises `BlockNotAvailable`.
    """
    async with open_work() as nursery:
        asked = position = part.start
        while position < part.stop:
            if asked < part.stop and asked - position <= _AHEAD_BYTES // 2:
                ahead = range(asked, min(position + _AHEAD_BYTES, part.stop))
                asked = ahead.stop
                nursery.start_soon(_bring, file, ahead)
            piece = await file.read(position, min(_PIECE_BYTES, part.stop - position))
            await write(piece)
            position += len(piece)
        nursery.cancel_scope.cancel()


async def send_body(receive: Receive, send: Send, produce: Callable[[Write], Awaitable[None]]) -> None:
    """Send what ``produce`` writes as the body of an answer that has begun; stop as soon as nobody is there to take it.

    Raises what ``produce`` raises: the answer is not finished then, which whoever gets it can tell.
    """

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        nursery.cancel_scope.cancel()

    async def write(piece: bytes) -> None:
        if piece:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async with open_work() as nursery:
        nursery.start_soon(until_gone)
        await produce(write)
        await send({"type": "http.response.body", "body": b""})
        nursery.cancel_scope.cancel()


def http_date(milliseconds: int) -> str:
    """Return a time of a drive as HTTP writes it; one that it cannot write is the nearest that it can."""
    return formatdate(min(max(milliseconds, 0), 253_402_300_799_000) // 1000, usegmt=True)


async def _bring(file: OpenFile, part: range) -> None:
    with suppress(BlockNotAvailable):  # whoever reads it will hear of it
        await file.core.ahead(file.run, part.start, len(part))


def _is_unchanged(headers: Headers, resource: Resource) -> bool:
    known = headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or resource.etag in (each.strip().removeprefix("W/") for each in known.split(","))
    since = _seconds_of(headers.get("if-modified-since"))
    return since is not None and resource.modified // 1000 <= since


def _range_holds(condition: str | None, resource: Resource) -> bool:
    if condition is None:
        return True
    if condition.startswith('"'):
        return condition == resource.etag
    return condition == http_date(resource.modified)


def _seconds_of(date: str | None) -> int | None:
    try:
        return None if date is None else int(parsedate_to_datetime(date).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None
