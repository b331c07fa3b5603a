"""``download``, ``pin``, ``unpin``: to have a drive here, once or from now on, whoever reads it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command
from hyperfs.cli.common import Common, common_options, examples, path_in_drive, run_with_daemon
from hyperfs.cli.kinds import DRIVE, VERSIONED_DRIVE
from hyperfs.cli.output import complain, count_text, print_json, reason_text, size_text, where_text
from hyperfs.cli.progress import download_progress
from hyperfs.cli.signals import telling_how_to_go_on

if TYPE_CHECKING:
    from hyperfs.core.reader import CoreReader
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.drive.wanted import Wanted
    from hyperfs.keys import DriveAddress

LOOK_SECONDS = 0.25
"""How often it is looked how much has come."""


@command(
    epilog=examples(
        "hyperfs download KEY                     all files of the newest version",
        "hyperfs download KEY films/one.mkv       that one alone",
        "hyperfs download KEY+v1 photos docs      two directories, as they were at v1",
    )
)
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("paths", metavar="[PATH...]", nargs=-1)
def download(common: Common, address: "DriveAddress", paths: tuple[str, ...]) -> int:
    """Fetch all files of a drive, or those at each PATH, and end when they are here.

    They can be read from then on without any peer, by each command and in each mount. What is here is not fetched
    again, so the same command goes on with what was interrupted. What no peer sends within the time limit is told, with
    status 1. Whoever reads something meanwhile goes first.
    """

    async def run(client: "DaemonClient") -> int:
        from hyperfs.cli.drives import open_snapshot
        from hyperfs.drive.wanted import find_wanted

        snapshot = await open_snapshot(client, common, address)
        where = [path_in_drive(address, path) for path in paths or ("",)]
        with download_progress("downloading", wanted=not common.json) as told:
            wanted = await find_wanted(snapshot, where)
            before = wanted.bytes_here
            missing = await _bring(client, snapshot.key, wanted, told)
        for reason in dict.fromkeys(map(reason_text, missing)):
            complain(f"not all of it came: {reason}")
        come = wanted.bytes_here - before
        if common.json:
            print_json(
                {
                    "key": snapshot.key.hex(),
                    "version": snapshot.version,
                    "files": wanted.files,
                    "bytes": wanted.byte_count,
                    "bytes_fetched": come,
                    "complete": not missing,
                }
            )
        else:
            what = f"{count_text(wanted.files, 'file')} ({size_text(wanted.byte_count)})"
            click.echo(f"{what}: {size_text(come)} fetched{', some are not here' if missing else ', all are here'}")
        return 1 if missing else 0

    with telling_how_to_go_on("what came stays; the same command again goes on with the rest"):
        return run_with_daemon(common, run, begins_store=True)


@command(
    epilog=examples(
        "hyperfs pin KEY                         keep it whole, with each new version",
        "hyperfs status --watch                  how far that is",
        "hyperfs unpin KEY",
    )
)
@common_options()
@click.argument("address", metavar="KEY", type=DRIVE)
def pin(common: Common, address: "DriveAddress") -> None:
    """Keep all of a drive here, follow its new versions, and offer it to peers, until `hyperfs unpin`.

    All versions are fetched, as far as peers have them, and again after a restart; nothing of it is given up for the
    limit of `hyperfs cache`. Drives mounted inside are offered, and kept whole only if they are pinned themselves.
    """

    async def run(client: "DaemonClient") -> tuple[str, ...]:
        from hyperfs.cli.drives import open_drive
        from hyperfs.daemon.requests import Pin

        await open_drive(client, common, address)
        return await client.request(Pin(address.key, common.peers))

    listening = run_with_daemon(common, run, begins_store=True)
    if common.json:
        print_json({"key": address.key.hex(), "listening": listening})
    else:
        click.echo(f"pinned {address.key.hex()}, offered at {where_text(listening)}")


@command(epilog=examples("hyperfs unpin KEY"))
@common_options(json=False, network=False)
@click.argument("address", metavar="KEY", type=DRIVE)
def unpin(common: Common, address: "DriveAddress") -> None:
    """Keep a drive no more than others: what is here stays until it is cleared, or makes way in the cache.

    It is not offered any more unless it is served.
    """

    async def run(client: "DaemonClient") -> None:
        from hyperfs.daemon.requests import Unpin

        await client.request(Unpin(address.key))

    run_with_daemon(common, run)


async def _bring(
    client: "DaemonClient", key: bytes, wanted: "Wanted", told: "Callable[[int, int, int], None] | None"
) -> dict[str, int]:
    """Bring what is ``wanted``, and tell how far that is; return how many blocks did not come, by the reason."""
    import trio

    from hyperfs.drive.nursery import open_work
    from hyperfs.drive.wanted import bring

    missing: dict[str, int] = {}

    async def look() -> None:
        while told is not None:
            peers = (await client.peers(key)).connected
            told(wanted.bytes_here, wanted.byte_count, peers)
            await trio.sleep(LOOK_SECONDS)

    async def bring_of(core: "CoreReader", runs: list[range]) -> None:
        why = await bring(core, runs)
        if why is not None:
            left = sum(len(run) - core.count(run.start, run.stop) for run in runs)
            missing[why] = missing.get(why, 0) + left

    async with open_work() as nursery:
        nursery.start_soon(look)
        async with open_work() as work:
            for core, runs in wanted.blocks.items():
                work.start_soon(bring_of, core, runs)
        nursery.cancel_scope.cancel()
    return missing
