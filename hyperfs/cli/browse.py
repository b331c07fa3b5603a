"""``ls``, ``cat``, ``stat``, ``info``, ``check``: looking into a drive without mounting it."""

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, follow_option, path_in_drive, run_with_daemon
from hyperfs.cli.kinds import DRIVE, VERSIONED_DRIVE
from hyperfs.cli.output import (
    complain,
    count_text,
    mode_text,
    print_json,
    print_json_line,
    reason_text,
    shown,
    size_text,
    time_text,
)

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.drive.entry import Entry
    from hyperfs.drive.snapshot import Snapshot
    from hyperfs.drive.stat import Stat
    from hyperfs.keys import DriveAddress

_READ_BYTES = 1024 * 1024


@command(
    epilog=examples(
        "hyperfs ls KEY",
        "hyperfs ls -l KEY photos/2019",
        "hyperfs ls -lR KEY+12               as it was at version 12",
        "hyperfs ls --json KEY | jq .name    one JSON object a line",
    )
)
@click.option("-l", "--long", is_flag=True, help="Show mode, size and time, too.")
@click.option("-R", "--recursive", is_flag=True, help="Go into directories, and into drives mounted inside.")
@follow_option("Show what symbolic links lead to inside the drive, and go into that.")
@click.option("--raw", is_flag=True, help="Show names, too, that no folder can hold, written as in Python.")
@click.option("-b", "--bytes", "exact", is_flag=True, help="Print sizes in bytes.")
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("path", metavar="[PATH]", default="")
def ls(
    common: Common,
    address: "DriveAddress",
    path: str,
    long: bool,
    recursive: bool,
    follow_links: bool,
    raw: bool,
    exact: bool,
) -> int:
    """List what is in a drive: one name a line, sorted."""

    async def run(client: "DaemonClient") -> int:
        from hyperfs.cli.drives import entry_at, open_snapshot
        from hyperfs.drive.names import join

        snapshot = await open_snapshot(client, common, address)
        where = path_in_drive(address, path)
        start = await entry_at(snapshot, where, follow_links=follow_links)
        if not start.is_directory:
            show(start, where, where)
            return 0
        status = 0
        waiting: list[tuple[str, str, tuple[str, ...]]] = [(start.path, "", ())]
        while waiting:
            directory, called, above = waiting.pop()
            above = (*above, directory)
            entries = sorted([entry async for entry in snapshot.list(directory, raw=raw)], key=lambda entry: entry.name)
            below = []
            for listed in entries:
                name = join(called, listed.name) if recursive else listed.name
                entry = listed
                if follow_links and listed.is_link:
                    target = await _followed(snapshot, listed)
                    status = 1 if target is None else status
                    entry = target or listed
                show(entry, join(where, name), name)
                if recursive and entry.path not in above:
                    enters = await _can_be_entered(snapshot, entry)
                    status = 1 if enters is None else status
                    if enters:
                        below.append((entry.path, name, above if follow_links else ()))
            waiting += reversed(below)
        return status

    def show(entry: "Entry", path: str, name: str) -> None:
        stat = _stat_or_none(entry)
        text = repr(name) if raw and not name.isprintable() else shown(name)
        if common.json:
            fields = _stat_fields(stat) if stat else {}
            print_json_line({"path": path, "name": path.rpartition("/")[2], **fields})
        elif not long:
            click.echo(text)
        elif stat is None:
            click.echo(f"?????????? {'?':>9}  {'?':16}  {text}")
        else:
            size = "-" if stat.is_directory else str(stat.size) if exact else size_text(stat.size)
            link = f" -> {shown(stat.linkname or '')}" if stat.is_link else ""
            mounted = f"  [drive {entry.mount.key.hex()[:8]}]" if entry.mount else ""
            click.echo(f"{mode_text(stat.mode)} {size:>9}  {time_text(stat.mtime)}  {text}{link}{mounted}")

    return run_with_daemon(common, run)


@command(epilog=examples("hyperfs cat KEY notes.txt", "hyperfs cat KEY+v1 notes.txt | diff - notes.txt"))
@follow_option("Follow symbolic links inside the drive.")
@common_options(json=False)
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("paths", metavar="PATH...", nargs=-1)
def cat(common: Common, address: "DriveAddress", paths: tuple[str, ...], follow_links: bool) -> None:
    """Print files of a drive, one after another."""
    if not paths and not address.path:
        raise click.UsageError("name the files to print")

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import entry_at, open_snapshot
        from hyperfs.errors import BlockNotAvailable

        snapshot = await open_snapshot(client, common, address)
        for path in paths or ("",):
            entry = await entry_at(snapshot, path_in_drive(address, path), follow_links=follow_links)
            file = await snapshot.open(entry)
            position = 0
            while position < file.size:
                try:
                    await file.core.ahead(file.run, position, 4 * _READ_BYTES)
                    data = await file.read(position, _READ_BYTES)
                except BlockNotAvailable as error:
                    whose = f"{entry.path}: as it is in version {snapshot.version}, not all of it is here"
                    raise BlockNotAvailable(f"{whose}: {reason_text(error)}") from error
                sys.stdout.buffer.write(data)
                position += len(data)
        sys.stdout.buffer.flush()

    run_with_daemon(common, run)


@command(epilog=examples("hyperfs stat KEY photos/film.mkv", "hyperfs stat --json KEY+12 photos"))
@follow_option("Follow symbolic links inside the drive, the path's last one too.")
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("path", metavar="[PATH]", default="")
def stat(common: Common, address: "DriveAddress", path: str, follow_links: bool) -> None:
    """Show everything that a drive says about one path; of a symbolic link, the link's own."""

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import entry_at, open_snapshot

        snapshot = await open_snapshot(client, common, address)
        entry = await entry_at(snapshot, path_in_drive(address, path), follow_links=follow_links)
        stat = entry.stat
        here = None
        if stat.is_file and stat.blocks:
            file = await snapshot.open(entry)
            here = file.core.count(file.run.blocks.start, file.run.blocks.stop)
        if common.json:
            print_json(
                {
                    "key": snapshot.key.hex(),
                    "version": snapshot.version,
                    "path": entry.path,
                    **_stat_fields(stat),
                    "blocks": stat.blocks,
                    "blocks_here": here,
                    "implied": entry.implied,
                    "mounted": entry.mount.key.hex() if entry.mount else None,
                    "attributes": {name: value.hex() for name, value in _attributes(stat).items()},
                }
            )
            return
        lines = [
            ("path", "/" + shown(entry.path)),
            ("kind", _kind(stat) + (" (implied by what is below it)" if entry.implied else "")),
            ("mode", f"{mode_text(stat.mode)} ({stat.mode & 0o7777:04o})"),
            ("owner", f"{stat.uid}:{stat.gid}"),
        ]
        if stat.is_file:
            lines.append(("size", f"{size_text(stat.size)} ({stat.size} bytes)"))
        if here is not None:
            lines.append(("here", f"{here} of {count_text(stat.blocks, 'block')}"))
        if stat.is_link:
            lines.append(("target", shown(stat.linkname or "")))
        if entry.mount:
            version = f"+{entry.mount.version}" if entry.mount.version else ""
            lines.append(("drive", entry.mount.key.hex() + version))
        lines += [("modified", time_text(stat.mtime)), ("changed", time_text(stat.ctime))]
        lines += [(f"attribute {name}", shown(repr(value))) for name, value in _attributes(stat).items()]
        for name, value in lines:
            click.echo(f"{name:>10}  {value}")

    run_with_daemon(common, run)


@command(epilog=examples("hyperfs info KEY", "hyperfs info KEY films", "hyperfs info --json KEY+v1"))
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("path", metavar="[PATH]", default="")
def info(common: Common, address: "DriveAddress", path: str) -> None:
    """Show what a drive is, and how much of it is on this disk. Fetches none of its files.

    Of the files, those at and below PATH are counted.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_drive, refuse_other_drive, tags_of
        from hyperfs.cli.secrets import standing_lines
        from hyperfs.daemon.codec import to_plain
        from hyperfs.drive.usage import usage

        drive = await open_drive(client, common, address)
        where = path_in_drive(address, path)
        await refuse_other_drive(drive.snapshot(), where)
        use = await usage(drive.snapshot(), where)
        tags = await tags_of(drive)
        writable = drive.metadata.writable
        standing = await client.writer_states(drive.key) if writable else ()
        cores = {"metadata": use.metadata, "content": use.content}
        if common.json:
            print_json(
                {
                    "key": use.key.hex(),
                    "version": use.version,
                    "newest_version": drive.metadata.length,
                    "writable": writable,
                    **{
                        name: {
                            "key": core.key.hex(),
                            "blocks": core.blocks,
                            "blocks_here": core.local_blocks,
                            "bytes": core.byte_length,
                        }
                        for name, core in cores.items()
                    },
                    "path": where,
                    "files": use.files
                    and {
                        "count": use.files.files,
                        "here": use.files.local_files,
                        "directories": use.files.directories,
                        "links": use.files.links,
                        "bytes": use.files.size,
                        "bytes_here": use.files.local_size,
                    },
                    "tags": tags,
                    "standing": [to_plain(core) for core in standing],
                }
            )
            return
        click.echo(f"key        {use.key.hex()}")
        newest = "" if use.version == drive.metadata.length else f" (the newest is {drive.metadata.length})"
        click.echo(f"version    {use.version}{newest}")
        click.echo(f"writable   {'yes: its secret key is in this store' if writable else 'no'}")
        for line in standing_lines(standing, {drive.key.hex(): f"drive {drive.key.hex()[:8]}"}):
            click.echo(line)
        if use.files is None:
            click.echo("files      not counted: some of the drive's metadata is not here")
        else:
            files = use.files
            directories = count_text(files.directories, "directory", "directories")
            here = f"{count_text(files.local_files, 'file')}, {size_text(files.local_size)}"
            below = f"at /{shown(where)}: " if where else ""
            counts = f"{count_text(files.files, 'file')}, {directories}, {size_text(files.size)}"
            click.echo(f"files      {below}{counts}; here: {here}")
        nothing = "empty" if writable else "not known yet: nothing of it was read here"
        versions, content = use.metadata, use.content
        here = f"{versions.local_blocks:,} of {count_text(versions.blocks, 'version')}"
        click.echo(f"history    {f'{here} here, {size_text(versions.byte_length)}' if versions.blocks else nothing}")
        share = 100 * content.local_blocks // max(1, content.blocks)
        here = f"{share} % of {size_text(content.byte_length)} here, of all versions together"
        click.echo(f"content    {here if content.blocks else nothing}")
        if tags:
            click.echo("tags       " + ", ".join(f"{shown(name)} = {version}" for name, version in tags.items()))

    run_with_daemon(common, run)


@command(epilog=examples("hyperfs check KEY"))
@common_options()
@click.argument("address", metavar="KEY", type=DRIVE)
def check(common: Common, address: "DriveAddress") -> int:
    """Read all of a drive that is on this disk, and compare it with the drive's hashes.

    Versions and pieces of files that the disk has damaged are forgotten, so that they are fetched again from peers when
    they are read. What was written to a mount and is not in the drive yet is told, too.
    """

    async def run(client: "DaemonClient") -> int:
        from hyperfs.cli.drives import open_drive
        from hyperfs.cli.staged import staged_fields, staged_lines

        metadata = await client.audit(address.key)
        drive = await open_drive(client, common, address)
        content = await client.audit((await drive.content()).key)
        cores = {"metadata": metadata, "content": content}
        if common.json:
            counts = {name: {"blocks_here": core.here, "damaged": core.bad} for name, core in cores.items()}
            staged = staged_fields(client.places, drive.key)
            print_json({"key": drive.key.hex(), "version": drive.version, **counts, **staged})
        else:
            read = {"history": count_text(metadata.here, "version"), "content": count_text(content.here, "piece")}
            for (name, count), core in zip(read.items(), cores.values(), strict=True):
                found = f"{len(core.bad):,} damaged and forgotten" if core.bad else "all is well"
                click.echo(f"{name:9}  {count} read: {found}")
            for line in staged_lines(client.places, drive.key):
                click.echo(line)
        return 1 if metadata.bad or content.bad else 0

    return run_with_daemon(common, run)


async def _followed(snapshot: "Snapshot", link: "Entry") -> "Entry | None":
    """Return what a link leads to; tell it, and return None, when it leads nowhere."""
    from hyperfs.drive.links import follow
    from hyperfs.errors import PathError

    try:
        return await follow(snapshot, link.path)
    except PathError as error:
        complain(f"{link.path}: the symbolic link leads nowhere: {error}")
        return None


async def _can_be_entered(snapshot: "Snapshot", entry: "Entry") -> bool | None:
    """Tell whether a recursive listing goes into ``entry``: not into a drive that is mounted inside itself.

    None for a mounted drive that cannot be looked into; that is told.
    """
    import errno

    from hyperfs.drive.names import is_presentable
    from hyperfs.errors import HyperfsError, PathError

    if not entry.is_directory or not is_presentable(entry.name):
        return False
    if entry.mount is None:
        return True
    try:
        async with aclosing(snapshot.list(entry.path)) as inside:
            await anext(inside, None)
    except PathError as error:
        complain(str(error))
        return False if error.errno == errno.ELOOP else None
    except HyperfsError as error:
        complain(f"{entry.path}: {error}")
        return None
    return True


def _stat_or_none(entry: "Entry") -> "Stat | None":
    from hyperfs.errors import EncodingError

    try:
        return entry.stat
    except EncodingError:
        return None


def _kind(stat: "Stat") -> str:
    if stat.is_directory:
        return "directory"
    return "link" if stat.is_link else "file"


def _stat_fields(stat: "Stat") -> dict[str, Any]:
    return {
        "kind": _kind(stat),
        "mode": stat.mode,
        "uid": stat.uid,
        "gid": stat.gid,
        "size": stat.size,
        "mtime": stat.mtime,
        "ctime": stat.ctime,
        "target": stat.linkname if stat.is_link else None,
    }


def _attributes(stat: "Stat") -> dict[str, bytes]:
    return dict(stat.present_attributes)
