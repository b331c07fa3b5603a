"""``link``, ``unlink``: drives inside drives."""

from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, run_with_daemon
from hyperfs.cli.kinds import DRIVE_AT_VERSION, PATH_IN_DRIVE
from hyperfs.cli.output import print_json, shown

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.drive.stat import MountTarget
    from hyperfs.keys import DriveAddress


@command(
    epilog=examples(
        "hyperfs link PHOTOS HOME/photos   show drive PHOTOS in folder photos of HOME",
        "hyperfs link PHOTOS+v1 HOME/old   as it was at a version or tag, for good",
    )
)
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=DRIVE_AT_VERSION)
@click.argument("place", metavar="DRIVE/PATH", type=PATH_IN_DRIVE)
def link(common: Common, address: "DriveAddress", place: "DriveAddress") -> None:
    """Show a drive inside another one, which has to be yours.

    Whoever reads DRIVE finds the other one at PATH, as it is whenever he looks, or at VERSION. Through a mount of DRIVE
    it is written to like any folder if it is yours, too.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_drive
        from hyperfs.drive.stat import MountTarget

        version = address.version
        if address.tag is not None:
            version = (await open_drive(client, common, address)).version
        made = await _link(client, common, place, MountTarget(address.key, version))
        if common.json:
            print_json({"key": address.key.hex(), "linked_version": version, "path": place.path, "version": made})
        else:
            at = "" if version is None else f" at version {version}"
            click.echo(f"{shown(place.path)} shows drive {address.key.hex()}{at}")

    run_with_daemon(common, run)


@command(epilog=examples("hyperfs unlink HOME/photos"))
@common_options()
@click.argument("place", metavar="DRIVE/PATH", type=PATH_IN_DRIVE)
def unlink(common: Common, place: "DriveAddress") -> None:
    """Show a drive no more inside another one. The drive that was shown stays as it is."""

    async def run(client: "DaemonClient") -> None:
        made = await _link(client, common, place, None)
        if common.json:
            print_json({"path": place.path, "version": made})
        else:
            click.echo(f"{shown(place.path)} shows no drive any more")

    run_with_daemon(common, run)


async def _link(client: "DaemonClient", common: Common, place: "DriveAddress", target: "MountTarget | None") -> int:
    """Have ``target`` at a place, or nothing; return the version that has it so."""
    from hyperfs.cli.drives import open_to_write
    from hyperfs.daemon.committer import DaemonCommitter
    from hyperfs.daemon.requests import LinkInMount
    from hyperfs.drive import names
    from hyperfs.drive.drive import Drive
    from hyperfs.drive.writer import DriveWriter
    from hyperfs.errors import NotWritable, UsageError, short

    if not place.path:
        raise UsageError("name the folder in the drive: DRIVE/PATH")
    outer = await open_to_write(client, common, place)
    holder, path = await outer.snapshot().locate(names.checked(place.path))
    if holder.is_pinned or not holder.volume.metadata.writable:
        raise NotWritable(f"{place.path} is in drive {short(holder.key)}, which is mounted there and cannot be changed")
    key, version = (None, None) if target is None else (target.key, target.version)
    made = await client.request(LinkInMount(holder.key, path, key, version))
    if made is not None:
        return made
    drive = Drive(holder.volume, None)
    writer = DriveWriter(drive, DaemonCommitter(client, holder.key))
    if key is None:
        await writer.unmount(path)
    else:
        await writer.mount(path, key, version=version)
    return drive.metadata.length
