"""``log``, ``diff``, ``tag``: a drive's past."""

import errno
from typing import TYPE_CHECKING, Any

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, run_with_daemon
from hyperfs.cli.kinds import DRIVE, DRIVE_AT_VERSION
from hyperfs.cli.output import json_line, print_json, print_table, printing_together, shown, size_text, time_text

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.drive.drive import Drive
    from hyperfs.drive.history import LogEntry
    from hyperfs.drive.stat import Stat
    from hyperfs.keys import DriveAddress

_MARKS = {"new": "+", "gone": "-", "changed": "~", "listing": "~"}


@command(epilog=examples("hyperfs log KEY", "hyperfs log -n 20 KEY", "hyperfs log KEY+40      the past of version 40"))
@click.option("-n", "--number", "limit", metavar="N", type=click.IntRange(min=1), help="Show the newest N versions.")
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=DRIVE_AT_VERSION)
def log(common: Common, address: "DriveAddress", limit: int | None) -> None:
    """Show what each version of a drive did, the newest first.

    With --json: one object a line, with version, action (put, delete, mount, unmount, tag, untag, none), path, time.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_drive, tags_of
        from hyperfs.drive.history import history

        drive = await open_drive(client, common, address)
        names: dict[int, list[str]] = {}
        for name, version in (await tags_of(drive)).items():
            names.setdefault(version, []).append(name)
        async with printing_together() as print_line:
            async for entry in history(drive.snapshot(), limit=limit):
                tags = names.get(entry.version, [])
                print_line(json_line(_log_fields(entry, tags)) if common.json else _log_line(entry, tags))

    run_with_daemon(common, run)


@command(epilog=examples("hyperfs diff KEY 12 40", "hyperfs diff KEY v1           from tag v1 to the newest version"))
@common_options()
@click.argument("address", metavar="KEY", type=DRIVE)
@click.argument("older", metavar="OLD")
@click.argument("newer", metavar="[NEW]", required=False)
def diff(common: Common, address: "DriveAddress", older: str, newer: str | None) -> None:
    """Show what differs from version OLD to version NEW, or to the newest: numbers or tags.

    + marks what is new, - what is gone, ~ what has changed.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_drive
        from hyperfs.drive.changes import differences

        drive = await open_drive(client, common, address)
        old = await _at(drive, client, older)
        new = await _at(drive, client, newer) if newer is not None else drive
        found: list[dict[str, Any]] = []
        async for difference in differences(new.snapshot(), old.snapshot()):
            if common.json:
                found.append(
                    {
                        "path": difference.path,
                        "change": difference.kind.value,
                        "old_size": difference.older.size if difference.older else None,
                        "new_size": difference.newer.size if difference.newer else None,
                    }
                )
            else:
                sizes = _sizes(difference.older, difference.newer)
                click.echo(f"{_MARKS[difference.kind.value]} {shown(difference.path)}{sizes}")
        if common.json:
            print_json({"key": drive.key.hex(), "old": old.version, "version": new.version, "changes": found})

    run_with_daemon(common, run)


@command(
    epilog=examples(
        "hyperfs tag KEY                 list the tags",
        "hyperfs tag KEY v1              name the newest version v1",
        "hyperfs tag KEY+12 old          name version 12",
        "hyperfs tag KEY --delete v1     take the name away",
        "hyperfs tag KEY --force v1      let v1 name the newest version from now on",
    )
)
@click.option("-d", "--delete", is_flag=True, help="Take the tag away; the version stays.")
@click.option("-f", "--force", is_flag=True, help="Move the tag, if it names another version.")
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=DRIVE_AT_VERSION)
@click.argument("name", metavar="[NAME]", required=False)
def tag(common: Common, address: "DriveAddress", name: str | None, delete: bool, force: bool) -> None:
    """Give a version of a drive of yours a name, list the names, take one away.

    A tag stands for the version wherever a version is meant: KEY+NAME. Setting or deleting one makes a new version.
    """
    from hyperfs.drive.names import is_tag

    if delete and name is None:
        raise click.UsageError("name the tag to delete")
    if name is not None and not delete and not is_tag(name):
        raise click.UsageError(f"{name!r} is not a tag: a tag is a name without slashes that is not a number")

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_drive, tags_of
        from hyperfs.daemon.committer import DaemonCommitter
        from hyperfs.drive.drive import Drive
        from hyperfs.drive.writer import DriveWriter
        from hyperfs.errors import NotWritable, PathError, UnknownVersion, short

        drive = await open_drive(client, common, address)
        if name is None:
            tags = await tags_of(drive)
            if common.json:
                print_json({"key": drive.key.hex(), "version": drive.metadata.length, "tags": tags})
            else:
                print_table(("tag", "version"), [(tag, str(version)) for tag, version in tags.items()], right=[1])
            return
        if not drive.metadata.writable:
            raise NotWritable(f"drive {short(drive.key)} is not yours to tag: its secret key is not in this store")
        await client.prepare_to_write(drive.key)
        live = Drive(drive.volume, None)
        writer = DriveWriter(live, DaemonCommitter(client, drive.key))
        tags = await tags_of(live)
        before = tags.get(name)
        if delete:
            if before is None:
                raise UnknownVersion(f"drive {short(drive.key)} has no tag {name!r}; `hyperfs tag KEY` lists them")
            await writer.delete_tag(name)
            tagged = None
        else:
            tagged = drive.version
            if before not in (None, tagged) and not force:
                raise PathError(
                    errno.EEXIST,
                    f"tag {name!r}",
                    f"it names version {before}: choose another name, or take it from that version with --force, and "
                    "`prune --keep tags` no longer keeps what only that one shows",
                )
            await writer.tag(name, tagged, force=force)
        if common.json:
            print_json({"key": drive.key.hex(), "version": live.metadata.length, "tag": name, "tagged": tagged})
        elif tagged is None:
            click.echo(f"{shown(name)} named version {before}")
        else:
            moved = f" and no longer {before}" if before not in (None, tagged) else ""
            click.echo(f"{shown(name)} names version {tagged}{moved}")

    run_with_daemon(common, run)


async def _at(drive: "Drive", client: "DaemonClient", selector: str) -> "Drive":
    """Return the drive at the version that ``selector``, a number or a tag, names."""
    from hyperfs.drive.drive import Drive
    from hyperfs.errors import UnknownVersion, short

    if not (selector.isascii() and selector.isdigit()):
        version = await drive.snapshot().tagged_version(selector)
    else:
        version = int(selector)
        if not 1 <= version <= drive.metadata.length:
            newest = drive.metadata.length
            raise UnknownVersion(f"drive {short(drive.key)} has no version {version}; the newest is {newest}")
    return await Drive.open(client, drive.key, version=version)


def _log_fields(entry: "LogEntry", tags: list[str]) -> dict[str, Any]:
    return {
        "version": entry.version,
        "action": entry.action,
        "path": entry.path,
        "change": entry.kind.value if entry.kind else None,
        "size": entry.stat.size if entry.stat else None,
        "time": entry.time,
        "tagged": entry.tagged,
        "tags": tags,
    }


def _log_line(entry: "LogEntry", tags: list[str]) -> str:
    when = time_text(entry.time) if entry.time is not None else ""
    what = entry.action
    if entry.action == "put" and entry.kind is not None:
        what = "add" if entry.kind.value == "new" else "change"
    detail = shown(entry.path)
    if entry.tagged is not None:
        detail += f" = {entry.tagged}"
    elif entry.action == "put" and entry.stat is not None and entry.stat.is_file:
        detail += f"  {size_text(entry.stat.size)}"
    marks = f"  [{', '.join(shown(tag) for tag in tags)}]" if tags else ""
    return f"{entry.version:>7}  {when:16}  {what:7}  {detail}{marks}"


def _sizes(older: "Stat | None", newer: "Stat | None") -> str:
    if older is not None and newer is not None and older.is_file and newer.is_file and older.size != newer.size:
        return f"  {size_text(older.size)} -> {size_text(newer.size)}"
    one = newer or older
    return f"  {size_text(one.size)}" if one is not None and one.is_file and (older is None or newer is None) else ""
