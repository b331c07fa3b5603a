"""The page of a folder: its names, sizes and times, sorted and filtered as the address says.

The rule: a page is of a bounded length, however much the folder holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import QueryParams
from starlette.responses import Response

from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.errors import EncodingError
from hyperfs.web.files import guessed_type
from hyperfs.web.pages import page, path_link
from hyperfs.web.sites import Site

ROWS: Final = 1000
"""So many names are on one page."""
_MAX_LISTED: Final = 200_000
_SORTS: Final[dict[str, Callable[["Row"], str | int]]] = {
    "name": lambda row: row.name.casefold(),
    "size": lambda row: row.size,
    "time": lambda row: row.time,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One name in a folder: ``kind`` is "folder", "link", "image", "video", "audio", "text" or "file"."""

    name: str
    kind: str
    size: int
    time: int
    target: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether it can be gone into."""
        return self.kind == "folder"


async def folder_page(site: Site, drive: Drive, entry: Entry, path: str, query: QueryParams) -> Response:
    """Return the page of the folder ``entry``, which was asked for at ``path``. Raises `BlockNotAvailable`."""
    snapshot = drive.snapshot()
    rows: list[Row] = []
    async for batch in snapshot.list_batches(entry.path):
        rows += map(_row, batch)
        if len(rows) >= _MAX_LISTED:
            break
    is_cut = len(rows) >= _MAX_LISTED
    sort = query.get("sort", "name")
    sort = sort if sort in _SORTS else "name"
    down = "down" in query
    wanted = query.get("filter", "").casefold()
    shown = [row for row in rows if wanted in row.name.casefold()] if wanted else rows
    shown.sort(key=lambda row: row.name)
    shown.sort(key=_SORTS[sort], reverse=down)
    shown.sort(key=lambda row: not row.is_folder)
    pages = max(1, -(-len(shown) // ROWS))
    asked = query.get("part", "1")
    part = min(max(int(asked), 1), pages) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 1
    values = {
        "crumbs": crumbs(path),
        "path": path,
        "rows": shown[(part - 1) * ROWS : part * ROWS],
        "found": len(shown),
        "total": len(rows),
        "is_cut": is_cut,
        "sort": sort,
        "down": down,
        "filter": query.get("filter", ""),
        "part": part,
        "pages": pages,
        "bytes": sum(row.size for row in shown if not row.is_folder),
        **version_values(drive),
    }
    return page("folder.html", site, values)


def version_values(drive: Drive) -> dict[str, object]:
    """Return what a page says of the version that it shows."""
    return {"key": drive.key.hex(), "version": drive.version, "newest": drive.metadata.length, "live": drive.live}


def crumbs(path: str) -> Sequence[tuple[str, str]]:
    """Return name and address of each folder on the way to ``path``, without the root, and of itself."""
    found, above = [], ""
    for name in path.split("/") if path else ():
        above = f"{above}/{name}" if above else name
        found.append((name, path_link(above) + "/"))
    return found


def kind_of(name: str) -> str:
    """Return what kind of file a name stands for."""
    kind = (guessed_type(name) or "").partition("/")[0]
    return kind if kind in ("image", "video", "audio", "text") else "file"


def _row(entry: Entry) -> Row:
    try:
        stat = entry.stat
    except EncodingError:
        return Row(entry.name, "file", 0, 0)
    if entry.is_directory:
        return Row(entry.name, "folder", 0, stat.mtime)
    if stat.is_link:
        target = (stat.linkname or "").encode(errors="replace").decode()
        return Row(entry.name, "link", 0, stat.mtime, target)
    return Row(entry.name, kind_of(entry.name), stat.size, stat.mtime)
