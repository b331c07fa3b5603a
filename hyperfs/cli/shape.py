"""``tree``, ``du``, ``map``: what a drive looks like as a whole, and where its bytes are."""

import errno
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, path_in_drive, run_with_daemon
from hyperfs.cli.kinds import VERSIONED_DRIVE
from hyperfs.cli.output import complain, print_json, print_json_line, print_table, shown
from hyperfs.text import count_text, size_text

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.drive.entry import Entry
    from hyperfs.drive.snapshot import Snapshot
    from hyperfs.keys import DriveAddress

_LINES: Final = ("├── ", "└── ", "│   ", "    ")
_PLAIN_LINES: Final = ("|-- ", "`-- ", "|   ", "    ")
_SHADES: Final = " ░▒▓█"
_PLAIN_SHADES: Final = ".-+*#"
_MAP_COLUMNS: Final = 64
_MAP_ROWS: Final = 16


@command(epilog=examples("hyperfs tree KEY", "hyperfs tree -L 2 KEY photos", "hyperfs tree -d KEY+v1"))
@click.option("-L", "--levels", metavar="N", type=click.IntRange(min=1), help="Go no more than N levels down.")
@click.option("-d", "--directories", is_flag=True, help="Show directories only.")
@click.option("-s", "--sizes", is_flag=True, help="Show the sizes of files, too.")
@common_options(json=False)
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("path", metavar="[PATH]", default="")
def tree(
    common: Common, address: "DriveAddress", path: str, levels: int | None, directories: bool, sizes: bool
) -> None:
    """Draw what is in a drive as a tree. Fetches none of its files."""

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_snapshot
        from hyperfs.errors import PathError

        snapshot = await open_snapshot(client, common, address)
        top = await snapshot.stat(path_in_drive(address, path))
        if not top.is_directory:
            raise PathError(errno.ENOTDIR, top.path, "it is not a directory")
        fork, last, down, empty = _LINES if _draws() else _PLAIN_LINES
        counts = {"directories": 0, "files": 0}
        click.echo(shown(top.path) or ".")
        # What is still to be drawn, the next one last, each with what stands in front of it.
        waiting = [(entry, "", is_last) for entry, is_last in await _drawn(snapshot, top, directories)]
        while waiting:
            entry, indent, is_last = waiting.pop()
            counts["directories" if entry.is_directory else "files"] += 1
            click.echo(indent + (last if is_last else fork) + _label(entry, sizes=sizes))
            indent += empty if is_last else down
            if entry.is_directory and (levels is None or len(indent) // len(empty) < levels):
                waiting += [(below, indent, final) for below, final in await _drawn(snapshot, entry, directories)]
        found = count_text(counts["directories"], "directory", "directories")
        click.echo(f"\n{found}" + ("" if directories else f", {count_text(counts['files'], 'file')}"))

    run_with_daemon(common, run)


@command(epilog=examples("hyperfs du KEY", "hyperfs du -L 1 KEY photos", "hyperfs du --json KEY | jq .here"))
@click.option("-L", "--levels", metavar="N", type=click.IntRange(min=0), help="Show no more than N levels of folders.")
@click.option("-b", "--bytes", "exact", is_flag=True, help="Print sizes in bytes.")
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("path", metavar="[PATH]", default="")
def du(common: Common, address: "DriveAddress", path: str, levels: int | None, exact: bool) -> None:
    """Show how large each folder of a drive is, and how much of it is here. Fetches none of its files.

    A folder counts all that is below it. What several files share is counted for each.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_snapshot
        from hyperfs.drive.usage import folder_sizes

        snapshot = await open_snapshot(client, common, address)
        where = path_in_drive(address, path)
        found = await folder_sizes(snapshot, where)
        depth = where.count("/") + 1 if where else 0
        rows = []
        for folder, size in sorted(found.items()):
            if levels is not None and folder != where and folder.count("/") + 1 - depth > levels:
                continue
            if common.json:
                print_json_line({"path": folder, "size": size.size, "here": size.here, "files": size.files})
            else:
                texts = (str(size.size), str(size.here)) if exact else (size_text(size.size), size_text(size.here))
                rows.append((*texts, str(size.files), shown(folder) or "."))
        if not common.json:
            print_table(("size", "here", "files", "folder"), rows, right=(0, 1, 2))

    run_with_daemon(common, run)


@command("map", epilog=examples("hyperfs map KEY film.mkv", "hyperfs map --json KEY film.mkv | jq .here"))
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("path", metavar="[PATH]", default="")
def map_command(common: Common, address: "DriveAddress", path: str) -> None:
    """Draw which parts of a file are here. Fetches none of it.

    Each sign is an equal part of the file, from its beginning to its end, the darker the more of it is here.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import entry_at, open_snapshot
        from hyperfs.drive.usage import shares_here

        snapshot = await open_snapshot(client, common, address)
        entry = await entry_at(snapshot, path_in_drive(address, path), follow_links=True)
        file = await snapshot.open(entry)
        blocks = file.run.blocks
        here = file.core.count(blocks.start, blocks.stop)
        shares = shares_here(file.core, blocks, _MAP_COLUMNS * _MAP_ROWS)
        if common.json:
            counts = {"size": file.size, "blocks": len(blocks), "blocks_here": here}
            print_json({"key": snapshot.key.hex(), "path": entry.path, **counts, "here": shares})
            return
        shades = _SHADES if _draws() else _PLAIN_SHADES
        drawn = "".join(_shade(share, shades) for share in shares)
        for start in range(0, len(drawn), _MAP_COLUMNS):
            click.echo(f"|{drawn[start : start + _MAP_COLUMNS]}|")
        share = f" ({100 * here / len(blocks):.0f} %)" if blocks else ""
        click.echo(f"{size_text(file.size)}; here: {here:,} of {count_text(len(blocks), 'block')}{share}")

    run_with_daemon(common, run)


def _draws() -> bool:
    """Tell whether standard output can take signs that draw."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _shade(share: float, shades: str) -> str:
    """Return the sign for a part of which ``share`` is here: the lightest only for nothing, the darkest for all."""
    if share in (0, 1):
        return shades[-1] if share else shades[0]
    return shades[1 + int(share * (len(shades) - 2))]


def _label(entry: "Entry", *, sizes: bool) -> str:
    from hyperfs.errors import EncodingError

    name = shown(entry.name)
    try:
        stat = entry.stat
    except EncodingError:
        return name
    if stat.is_link:
        return f"{name} -> {shown(stat.linkname or '')}"
    if entry.mount is not None:
        return f"{name}  [drive {entry.mount.key.hex()[:12]}]"
    return f"{name}  {size_text(stat.size)}" if sizes and stat.is_file else name


async def _drawn(snapshot: "Snapshot", folder: "Entry", directories: bool) -> "list[tuple[Entry, bool]]":
    """Return what is in a folder, the last first, and whether it is the last. What cannot be looked into is told."""
    from hyperfs.errors import HyperfsError

    entries: list[Entry] = []
    try:
        async with aclosing(snapshot.list(folder.path)) as listed:
            entries = [entry async for entry in listed if entry.is_directory or not directories]
    except HyperfsError as error:
        complain(str(error))
    entries.sort(key=lambda entry: entry.name, reverse=True)
    return [(entry, position == 0) for position, entry in enumerate(entries)]
