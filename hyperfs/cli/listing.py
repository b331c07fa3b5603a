"""``list``, ``remove`` and ``name``: which drives are here, and what they are called."""

from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, confirm, examples, run_with_daemon
from hyperfs.cli.kinds import DRIVE
from hyperfs.cli.output import day_text, drive_text, print_json_line, print_table, size_text, tell

if TYPE_CHECKING:
    from hyperfs.daemon.answers import DriveTold
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.keys import DriveAddress


@command("list", epilog=examples("hyperfs list", "hyperfs list --json | jq -r 'select(.writable).key'"))
@common_options(network=False)
def list_command(common: Common) -> None:
    """List the drives of which something is here: those that have a name first.

    A drive is shown by the first digits of its key, on a terminal, which every command takes in its place; `hyperfs
    info` prints all of them. Its size is that of all versions, and what is here is what the disk gives to it.
    """
    from hyperfs.daemon.places import Places
    from hyperfs.daemon.requests import ListDrives

    if not Places(common.store.expanduser().resolve()).own.is_dir():
        if not common.json:
            tell(f"no store is at {common.store}")
        return

    async def run(client: "DaemonClient") -> "tuple[DriveTold, ...]":
        return await client.request(ListDrives())

    from hyperfs.daemon.codec import to_plain

    drives = sorted(run_with_daemon(common, run), key=lambda drive: (drive.name is None, drive.name or "", drive.key))
    if common.json:
        for drive in drives:
            print_json_line(to_plain(drive))
        return
    rows = [
        (
            drive.name or "",
            drive_text(drive.key),
            str(drive.version or "?"),
            size_text(drive.content_bytes),
            size_text(drive.local_bytes),
            "" if drive.changed is None else day_text(drive.changed),
            ", ".join(_marks(drive)),
        )
        for drive in drives
    ]
    headings = ("name", "drive", "version", "size", "here", "changed", "")
    print_table(headings, rows, right=(2, 3, 4), whole=range(1, 6))


@command(
    epilog=examples(
        "hyperfs remove KEY",
        "hyperfs key export KEY --passphrase     of a drive of yours, first",
        "hyperfs remove --force KEY",
    )
)
@click.option("-f", "--force", is_flag=True, help="Remove even what is yours, with its secret key.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common_options(network=False)
@click.argument("address", metavar="KEY", type=DRIVE)
def remove(common: Common, address: "DriveAddress", force: bool, yes: bool) -> None:
    """Delete what is in this store of a drive: files, history, what it is called, and whether it is served.

    Somebody else's comes again when it is read again. One of yours goes with its secret key, so that nobody can ever
    write to it again, and with what may be the only copy: not without --force. Drives mounted inside are not touched.
    """
    from hyperfs.daemon.requests import ListDrives, RemoveDrive
    from hyperfs.errors import NotWritable, UsageError, short

    async def run(client: "DaemonClient") -> int:
        drives = await client.request(ListDrives())
        found = next((drive for drive in drives if drive.key == address.key.hex()), None)
        if found is None:
            raise UsageError(f"nothing of drive {short(address.key)} is in this store: `hyperfs list` shows what is")
        if found.writable and not force:
            raise NotWritable(
                f"drive {short(address.key)} is yours: its secret key, and what may be the only copy of it, would be "
                "gone for good; `hyperfs key export` saves the key, `hyperfs clear` and `prune` free space; --force "
                "removes it all the same"
            )
        called = f"{found.name}, " if found.name else ""
        what = [size_text(found.local_bytes) + " here", *_marks(found)]
        tell(f"{called}{found.key}: {', '.join(what)}")
        confirm("Remove it, and its secret key, for good?" if found.writable else "Remove it?", yes=yes)
        return await client.request(RemoveDrive(address.key, force))

    freed = run_with_daemon(common, run)
    if common.json:
        print_json_line({"key": address.key.hex(), "bytes": freed})
    else:
        click.echo(f"removed: {size_text(freed)} of disk are free again")


@command(
    epilog=examples(
        "hyperfs name KEY photos",
        "hyperfs mount photos /mnt/photos      wherever a key is meant",
        "hyperfs name photos holidays          call it something else",
        "hyperfs name --delete holidays",
    )
)
@click.option("-d", "--delete", is_flag=True, help="Take the name away; the drive stays.")
@common_options(network=False)
@click.argument("address", metavar="KEY", type=DRIVE)
@click.argument("name", metavar="[NAME]", required=False)
def name(common: Common, address: "DriveAddress", name: str | None, delete: bool) -> None:
    """Call a drive NAME in this store: every command takes that in place of its key. Nobody else hears of it.

    `hyperfs list` shows the names.
    """
    from hyperfs.daemon.requests import NameDrive
    from hyperfs.keys import is_drive_name

    if (name is None) != delete:
        raise click.UsageError("say what to call the drive, or --delete")
    if name is not None and not is_drive_name(name):
        raise click.UsageError(
            f"a drive cannot be called {name!r}: a name begins with neither '-' nor '.', has no spaces and none of "
            "'/+:', and is not made of hex digits alone"
        )

    async def run(client: "DaemonClient") -> None:
        await client.request(NameDrive(address.key, name))

    run_with_daemon(common, run)
    if common.json:
        print_json_line({"key": address.key.hex(), "name": name})


def _marks(drive: "DriveTold") -> list[str]:
    """Return whose a drive is, and what is done with it; where it is mounted, `hyperfs status` has the room to say."""
    marks = {
        "yours": drive.writable,
        "served": drive.served,
        "pinned": drive.pinned,
        "mounted": bool(drive.mountpoints),
    }
    return [mark for mark, holds in marks.items() if holds]
