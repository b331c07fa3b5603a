"""``import`` and ``export``: between folders and drives."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, follow_option, path_in_drive, run_with_daemon
from hyperfs.cli.kinds import PATH_IN_DRIVE, VERSIONED_DRIVE
from hyperfs.cli.output import complain, count_text, print_json, reason_text, shown, size_text, tell
from hyperfs.cli.progress import Whole, transfer_progress
from hyperfs.cli.signals import telling_how_to_go_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperfs.cli.begun import Begun
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.drive.drive import Drive
    from hyperfs.drive.import_plan import ImportPlan
    from hyperfs.drive.scan import Skipped
    from hyperfs.keys import DriveAddress

_TOLD: Final = 10


@command(
    "import",
    epilog=examples(
        "hyperfs import ./photos                  a new drive; prints its key",
        "hyperfs import ./photos KEY              bring it what is new or changed",
        "hyperfs import --delete ./photos KEY     and delete what is gone",
        "hyperfs import --exclude '*.o' --exclude /build/ . KEY",
        "hyperfs import ./photos KEY --into 2019  into a directory of the drive",
    ),
)
@click.option("--delete", is_flag=True, help="Delete from the drive what is not in SRC.")
@click.option("--checksum", is_flag=True, help="Compare what files hold, not only their size and time.")
@click.option("--into", metavar="PATH", default="", help="Import into this directory of the drive.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--exclude",
    metavar="PATTERN",
    multiple=True,
    help="Leave out what matches, as in .gitignore, and leave it alone in the drive. Can be given several times.",
)
@click.option(
    "--with-secrets", is_flag=True, help="Take stores and secret keys, too: whoever reads the drive has them then."
)
@common_options()
@click.argument("source", metavar="SRC", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("address", metavar="[KEY]", type=PATH_IN_DRIVE, required=False)
def import_command(
    common: Common,
    source: Path,
    address: "DriveAddress | None",
    delete: bool,
    checksum: bool,
    into: str,
    dry_run: bool,
    exclude: tuple[str, ...],
    with_secrets: bool,
) -> int:
    """Make a new drive of the folder SRC and print its key, or bring drive KEY of yours up to date with SRC.

    When it is interrupted, the same command with the KEY goes on with it.

    A file counts as changed when its size or time differ. When nothing changed, nothing is written. Stores of drives,
    secret keys, and key files that are not sealed are left out and named. What files called .hyperfsignore in SRC say
    is left out as git leaves out what .gitignore says; --exclude overrides them.
    """
    from hyperfs.cli.begun import Begun
    from hyperfs.daemon.places import places_of
    from hyperfs.drive.ignoring import Ignoring

    if address is None and dry_run:
        raise click.UsageError("a dry run needs the KEY of a drive to compare with")
    directory = _directory_of_drive(address, into)
    Ignoring(exclude)  # which fails of what is no pattern, before a drive is made
    places = places_of(common.store)
    folder = source.resolve()
    _refuse_store(folder, places.store, with_secrets=with_secrets)
    begun = Begun(places, folder)
    if address is None:
        address = _perhaps_begun(begun, source)
    under_way: bytes | None = None

    async def run(client: "DaemonClient") -> int:
        import trio

        from hyperfs.cli.drives import open_to_write
        from hyperfs.daemon.committer import DaemonCommitter
        from hyperfs.drive.drive import Drive
        from hyperfs.drive.import_plan import Compare, ImportPlan, plan_import
        from hyperfs.drive.importer import import_folder

        nonlocal under_way
        if address is None:
            with trio.CancelScope(shield=True):  # nobody would hear of a drive that was made and not told
                key = await client.create_drive()
            under_way = key
            begun.note(key)
            tell(f"a new drive: {key.hex()}")
            drive = await Drive.open(client, key)
        else:
            drive = await open_to_write(client, common, address)

        ignored = 0

        async def make_plan() -> ImportPlan:
            nonlocal ignored
            plan = await plan_import(
                drive.snapshot(),
                folder,
                into=directory,
                delete=delete,
                compare=Compare.CHECKSUM if checksum else Compare.SIZE_AND_TIME,
                excluded=[places.store],
                ignore=exclude,
                with_secrets=with_secrets,
            )
            ignored = plan.ignored
            return plan

        if dry_run:
            plan = await trio.to_thread.run_sync((await make_plan()).without_secrets)
            _tell_plan(plan, drive, as_json=common.json)
            _tell_skipped(plan.skipped, names_all=common.verbosity > 0)
            return 0
        under_way = drive.key
        committer = DaemonCommitter(client, drive.key)
        with transfer_progress("importing", wanted=not common.json) as on_progress:
            result = await import_folder(drive, make_plan, committer, on_progress=on_progress)
        under_way = None
        begun.has_ended(drive.key)
        _tell_skipped(result.skipped, names_all=common.verbosity > 0)
        if common.json:
            print_json(
                {
                    "key": drive.key.hex(),
                    "version": result.version,
                    "files": result.files,
                    "bytes": result.byte_count,
                    "entries": result.nodes,
                    "deleted": result.deleted,
                    "unchanged": result.unchanged,
                    "ignored": ignored,
                    "skipped": [{"path": one.path, "reason": one.reason} for one in result.skipped],
                }
            )
        else:
            click.echo(drive.key.hex())
            written = f"{count_text(result.files, 'file')} ({size_text(result.byte_count)}) written"
            others = f"{count_text(result.deleted, 'entry', 'entries')} deleted, {result.unchanged:,} unchanged"
            others += f", {ignored:,} ignored" if ignored else ""
            tell(f"version {result.version}: {written}, {others}{_left_out(result.skipped)}")
        return 1 if result.skipped else 0

    try:
        return run_with_daemon(common, run, winds_up=True)
    finally:
        if under_way is not None:
            whole = f" --into {shlex.quote(directory)}" if directory else ""
            again = f"hyperfs import {shlex.quote(str(source))} {under_way.hex()}{whole}"
            click.echo(
                f"\nnot all of it is in the drive; what is stays there, and this goes on with it:\n  {again}", err=True
            )


@command(
    epilog=examples(
        "hyperfs export KEY ./copy                 all of the drive",
        "hyperfs export KEY+v1 ./old               as it was at tag v1",
        "hyperfs export KEY ./2019 photos/2019     one directory of it",
    )
)
@follow_option("Copy what symbolic links lead to inside the drive in their place.")
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("target", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.argument("path", metavar="[PATH]", default="")
def export(common: Common, address: "DriveAddress", target: Path, path: str, follow_links: bool) -> int:
    """Copy a drive, or what it holds at PATH, into the folder DIR, which is made when it is missing.

    Nothing outside DIR is touched, whatever the drive holds; files that are there and equal are left alone. What no
    peer has is left out and named at the end; the same command again goes on with it.
    """

    async def run(client: "DaemonClient") -> int:
        from hyperfs.cli.drives import is_whole, open_drive, tell_if_alone
        from hyperfs.drive.exporter import export as export_drive
        from hyperfs.drive.nursery import open_work

        drive = await open_drive(client, common, address)
        if not await is_whole(drive):
            await tell_if_alone(client, drive, "what is not here is left out")
        snapshot = drive.snapshot()
        with transfer_progress("exporting", wanted=not common.json) as on_progress:
            where = path_in_drive(address, path)
            whole = None if on_progress is None else Whole(on_progress)
            async with open_work() as nursery:
                if whole is not None:
                    nursery.start_soon(whole.count, snapshot, where)
                result = await export_drive(snapshot, target, path=where, follow_links=follow_links, on_progress=whole)
                nursery.cancel_scope.cancel()
        _tell_skipped(result.skipped, names_all=common.verbosity > 0)
        if common.json:
            print_json(
                {
                    "key": snapshot.key.hex(),
                    "version": snapshot.version,
                    "files": result.files,
                    "bytes": result.byte_count,
                    "skipped": [{"path": one.path, "reason": one.reason} for one in result.skipped],
                }
            )
        else:
            written = f"{count_text(result.files, 'file')} ({size_text(result.byte_count)}) written"
            tell(f"{written}{_left_out(result.skipped)}")
        return 1 if result.skipped else 0

    with telling_how_to_go_on("what is whole stays; the same command again goes on with the rest"):
        return run_with_daemon(common, run)


def _perhaps_begun(begun: "Begun", source: Path) -> "DriveAddress | None":
    """Return the drive that an import of the same folder began and did not end, if it is meant; None for a new one."""
    from hyperfs.keys import DriveAddress

    key = begun.key()
    if key is None:
        return None
    told = f"drive {key.hex()} was begun of this folder, by an import that has not ended"
    if not sys.stdin.isatty():
        again = f"hyperfs import {shlex.quote(str(source))} {key.hex()}"
        complain(f"{told}; this makes another one, `{again}` goes on with that")
    elif click.confirm(f"{told}. Go on with it?", default=True, err=True):
        return DriveAddress(key)
    return None


def _tell_plan(plan: "ImportPlan", drive: "Drive", *, as_json: bool) -> None:
    """Say what an import would do."""
    if as_json:
        print_json(
            {
                "key": drive.key.hex(),
                "version": drive.version,
                "files": [found.path for found in plan.files],
                "others": [path for path, _ in plan.nodes],
                "deletions": list(plan.deletions),
            }
        )
        return
    for found in plan.files:
        click.echo(f"+ {shown(found.path)}")
    for path, _ in plan.nodes:
        click.echo(f"~ {shown(path)}")
    for deleted in plan.deletions:
        click.echo(f"- {shown(deleted)}")


def _tell_skipped(skipped: "Sequence[Skipped]", *, names_all: bool) -> None:
    """Say what was left out: each reason once, with the first that it is said of, or all."""
    alike: dict[str, list[str]] = {}
    for one in skipped:
        alike.setdefault(reason_text(one.reason), []).append(one.path or ".")
    for reason, paths in alike.items():
        if len(paths) == 1:
            complain(f"left out: {paths[0]}: {reason}")
            continue
        complain(f"{len(paths):,} left out: {reason}")
        told = paths if names_all else paths[:_TOLD]
        for path in told:
            complain(f"left out: {path}")
        if len(told) < len(paths):
            complain(f"and {len(paths) - len(told):,} more: -v names them all")


def _left_out(skipped: "Sequence[Skipped]") -> str:
    return f", {len(skipped):,} left out" if skipped else ""


def _directory_of_drive(address: "DriveAddress | None", into: str) -> str:
    """Return the directory of the drive that is imported into; fail as wrong usage for what is no path of a drive."""
    from hyperfs.drive.names import checked, normalise
    from hyperfs.errors import PathError

    path = path_in_drive(address, into) if address else normalise(into)
    try:
        return checked(path) if path else ""
    except PathError as error:
        raise click.UsageError(f"nothing can be imported into {error}") from error


def _refuse_store(folder: Path, store: Path, *, with_secrets: bool) -> None:
    """Fail as wrong usage for a folder of which nothing would be imported, before a drive is made for it."""
    from hyperfs.drive.scan import is_store

    if folder == store or store in folder.parents:
        raise click.UsageError(f"{folder} is the store that it would be imported into, or lies in it")
    if is_store(folder) and not with_secrets:
        raise click.UsageError(f"{folder} is a store of drives and holds their secret keys: --with-secrets takes them")
