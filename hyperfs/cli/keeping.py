"""``prune``, ``clear``, ``cache``: what is kept on this disk, and what is not."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, confirm, examples, path_in_drive, run_with_daemon
from hyperfs.cli.kinds import DRIVE, VERSIONED_DRIVE
from hyperfs.cli.output import count_text, parse_size, print_json, print_table, size_text
from hyperfs.cli.progress import search_progress

if TYPE_CHECKING:
    from hyperfs.daemon.answers import CacheUse
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.drive.prune import PrunePlan
    from hyperfs.drive.snapshot import Snapshot
    from hyperfs.keys import DriveAddress


@command(
    epilog=examples(
        "hyperfs prune KEY --keep 10               the newest ten versions",
        "hyperfs prune KEY --keep 30d --keep tags  the last 30 days, and tags",
        "hyperfs prune KEY --keep 1y --dry-run     only say what would go",
    )
)
@click.option(
    "--keep",
    metavar="WHAT",
    multiple=True,
    required=True,
    help="What to keep: a number of versions (10), an age (12h, 30d, 8w, 1y), or `tags`. Can be given several times.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common_options()
@click.argument("address", metavar="KEY", type=DRIVE)
def prune(common: Common, address: "DriveAddress", keep: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Free the space of files that only old versions of a drive show.

    What the newest version shows is always kept, and so is what is mounted or open now; drives mounted inside are not
    touched.
    The versions themselves stay, with their listings; files of which the content went cannot be read any more.

    Of a drive of yours that is for good, unless somebody has a copy. Of somebody else's, peers can bring it again.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import open_drive
        from hyperfs.drive.prune import Keep, plan_prune

        wanted = Keep.parse(keep)
        drive = await open_drive(client, common, address)
        mounted = [mount.version for mount in await client.mounts() if mount.key == drive.key.hex()]
        also = [version for version in mounted if version is not None]
        in_use = await client.blocks_in_use((await drive.content()).key)
        now = time.time_ns() // 1_000_000
        with search_progress("looking", "entries", wanted=not common.json) as told:
            newest = drive.snapshot()
            plan = await plan_prune(newest, wanted, now=now, also=also, in_use=in_use, on_progress=told)
        ours = drive.metadata.writable
        if not common.json:
            for line in _plan_lines(plan, ours=ours):
                click.echo(line)
        if plan.cleared and not dry_run:
            confirm("Clear it for good?" if ours else "Clear it?", yes=yes)
            await client.clear_content(drive.key, plan.cleared, expected_version=plan.version if ours else None)
        if common.json:
            print_json(
                {
                    "key": plan.key.hex(),
                    "version": plan.version,
                    "kept": [[versions.start, versions.stop - 1] for versions in plan.kept],
                    "lost_versions": plan.lost_versions if plan.cleared else 0,
                    "files": plan.files,
                    "blocks": plan.blocks,
                    "bytes": plan.byte_count,
                    "cleared": bool(plan.cleared) and not dry_run,
                }
            )
        elif plan.cleared and not dry_run:
            click.echo(f"cleared {size_text(plan.byte_count)}")

    run_with_daemon(common, run)


@command(
    epilog=examples(
        "hyperfs clear KEY                  all content of the drive",
        "hyperfs clear KEY films            what is below films, newest version",
        "hyperfs clear --force KEY old.iso  of a drive of yours: for good",
    )
)
@click.option("-f", "--force", is_flag=True, help="Clear even what is yours, of which this may be the only copy.")
@click.option("-y", "--yes", is_flag=True, help="With --force: do not ask.")
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("path", metavar="[PATH]", default="")
def clear(common: Common, address: "DriveAddress", path: str, force: bool, yes: bool) -> None:
    """Free the space that a drive's content, or what it holds at PATH, takes here.

    Whatever is read again is fetched from peers again. A drive of yours is not touched without --force.
    """

    async def run(client: "DaemonClient") -> None:
        import trio

        from hyperfs.cli.drives import open_drive, tell_if_alone
        from hyperfs.core.store import core_folder
        from hyperfs.errors import NotWritable, short

        drive = await open_drive(client, common, address)
        ours = drive.metadata.writable
        if ours and not force:
            raise NotWritable(
                f"drive {short(drive.key)} is yours, and this may be the only copy of what is in it; --force clears it "
                "all the same, `hyperfs prune` only what old versions show"
            )
        await tell_if_alone(client, drive, "what is cleared cannot come again before one is")
        content = await drive.content()
        snapshot = drive.snapshot()
        where = path_in_drive(address, path)
        ranges = await _content_below(snapshot, where, content.length) if where else [range(content.length)]
        here = sum(content.count(blocks.start, blocks.stop) for blocks in ranges)
        byte_count = content.byte_length * here // content.length if content.length else 0
        if here and ours:
            confirm(f"Clear about {size_text(byte_count)} of a drive of yours, for good?", yes=yes)
        files = core_folder(client.places.store, content.key)
        before = await trio.to_thread.run_sync(_allocated, files)
        if here:
            expected = drive.metadata.length if ours else None
            await client.clear_content(drive.key, ranges, expected_version=expected)
        freed = max(0, before - await trio.to_thread.run_sync(_allocated, files))
        if common.json:
            print_json({"key": drive.key.hex(), "version": snapshot.version, "blocks": here, "bytes": freed})
        else:
            click.echo(f"cleared: {size_text(freed)} of disk are free again" if here else "nothing of it was here")

    run_with_daemon(common, run)


@command(
    epilog=examples(
        "hyperfs cache                     what is here, and the limit",
        "hyperfs cache --limit 20G         no more than that, from now on",
        "hyperfs cache --limit none        as much as comes",
    )
)
@click.option("--limit", metavar="SIZE", help="Keep no more than this (500M, 20G, 1T), or `none`.")
@common_options(network=False)
def cache(common: Common, limit: str | None) -> None:
    """Show how much of others' drives is kept here, or limit it, for all of them together.

    Past the limit what came first goes first; what came within the last seconds stays until it is read. Drives of yours
    do not count, and are never touched.
    """
    size = None if limit in (None, "none") else parse_size(limit or "")
    if limit not in (None, "none") and size is None:
        raise click.UsageError(f"{limit!r} is not a size: write 500M, 20G, 1T, or none")

    async def run(client: "DaemonClient") -> "CacheUse":
        if limit is not None:
            await client.limit_cache(size)
        return await client.cache()

    found = run_with_daemon(common, run, begins_store=limit is not None)
    used = sum(drive.bytes for drive in found.drives)
    if common.json:
        drives = [{"key": drive.key, "bytes": drive.bytes} for drive in found.drives]
        print_json({"limit": found.limit, "bytes": used, "drives": drives})
        return
    print_table(("drive", "here"), [(drive.key, size_text(drive.bytes)) for drive in found.drives], right=[1])
    click.echo(f"{size_text(used)} in all; limit: {'none' if found.limit is None else size_text(found.limit)}")


def _allocated(folder: Path) -> int:
    """Return how many bytes of disk the content takes that lies in a core's ``folder``."""
    try:
        return (folder / "data").stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _plan_lines(plan: "PrunePlan", *, ours: bool) -> list[str]:
    kept = ", ".join(
        str(versions.start) if len(versions) == 1 else f"{versions.start} to {versions.stop - 1}"
        for versions in reversed(plan.kept)
    )
    lines = [f"kept: all that is in {count_text(sum(map(len, plan.kept)), 'version')} ({kept})"]
    if not plan.cleared:
        return [*lines, "nothing else is here"]
    versions = count_text(plan.lost_versions, "other version")
    if plan.files is None:
        what = f"about {size_text(plan.byte_count)} that only other versions show"
    else:
        what = f"{count_text(plan.files, 'file')} ({size_text(plan.byte_count)}) that only the {versions} show"
    lines.append(f"goes: {what}")
    if ours:
        lines.append("it is yours: once it is cleared nobody may have it any more")
    return lines


async def _content_below(snapshot: "Snapshot", path: str, length: int) -> list[range]:
    """Return the blocks of all files at and below ``path``, of ``length`` that there are, each once.

    Those of drives mounted there are not among them.
    """
    from hyperfs.drive.wanted import merged_runs

    start = await snapshot.stat(path)
    entries = [start] if not start.is_directory else [entry async for entry in snapshot.walk(path, into_mounts=False)]
    found = [
        range(min(stat.offset, length), min(stat.offset + stat.blocks, length))
        for entry in entries
        if entry.volume.key == snapshot.key and (stat := entry.stat).has_content
    ]
    return merged_runs(found)
