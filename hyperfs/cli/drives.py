"""From what a person wrote, ``KEY``, ``KEY+VERSION`` or ``KEY+TAG``, to a snapshot of that drive.

The rule: whoever names peers, or has some, gets the newest version that they have, waiting for no more than the time
limit; without peers, what is here is good enough.
"""

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

import trio

from hyperfs.cli.output import complain
from hyperfs.cli.progress import waiting_progress
from hyperfs.core.reader import CoreReader
from hyperfs.daemon.client import DaemonClient
from hyperfs.drive.drive import Drive
from hyperfs.errors import BlockNotAvailable, NotWritable, UnknownVersion, UsageError, short

if TYPE_CHECKING:
    from hyperfs.cli.common import Common
    from hyperfs.drive.entry import Entry
    from hyperfs.drive.snapshot import Snapshot
    from hyperfs.keys import DriveAddress

logger = logging.getLogger(__name__)

KNOWN_DRIVE_SECONDS = 3.0
"""How long to look for a newer version of a drive of which some version is here."""


async def open_drive(client: DaemonClient, common: "Common", address: "DriveAddress") -> Drive:
    """Open the drive that ``address`` names, at its version or tag if it has one.

    Raises:
        BlockNotAvailable: nothing of it is here, and no peer brought it.
        NotADrive, UnknownVersion.
    """
    core = await client.open_core(address.key)
    time_is_up = False
    if not core.writable and not (address.version is not None and core.length >= address.version):
        time_is_up = await refresh(client, common, core)
        if core.length:
            await _warn_unreached(client, common, address.key)
    if core.length == 0 and core.writable:
        await client.prepare_to_write(address.key)  # its secret key was brought here, and nothing else yet
    if core.length == 0 and not core.writable:
        raise BlockNotAvailable(await _why_nothing(client, common, address.key, time_is_up=time_is_up))
    if address.version is not None and core.length and address.version > core.length:
        raise UnknownVersion(
            f"drive {short(address.key)} has no version {address.version}; the newest is {core.length}"
        )
    drive = await Drive.open(client, address.key, version=address.version)
    if address.tag is not None:
        version = await drive.snapshot().tagged_version(address.tag)
        drive = await Drive.open(client, address.key, version=version)
    return drive


async def open_to_write(client: DaemonClient, common: "Common", address: "DriveAddress") -> Drive:
    """Open a drive to change it, after its peers were asked whether they have more of it. See `open_drive`.

    Raises `NotWritable` when it is not ours.
    """
    drive = await open_drive(client, common, address)
    if not drive.metadata.writable:
        raise NotWritable(f"drive {short(drive.key)} is not yours to change: its secret key is not in this store")
    await client.prepare_to_write(drive.key)
    return drive


async def open_snapshot(client: DaemonClient, common: "Common", address: "DriveAddress") -> "Snapshot":
    """Return one version of the drive that ``address`` names. Raises as `open_drive`."""
    return (await open_drive(client, common, address)).snapshot()


async def entry_at(snapshot: "Snapshot", path: str, *, follow_links: bool) -> "Entry":
    """Return the entry at ``path``, or what it leads to. Raises `PathError`."""
    from hyperfs.drive.links import follow

    return await (follow(snapshot, path) if follow_links else snapshot.stat(path))


async def refuse_other_drive(snapshot: "Snapshot", path: str) -> None:
    """Raise `UsageError` when ``path`` is, or leads into, a drive that is mounted in this one; `PathError`."""
    entry = await snapshot.stat(path)
    other = entry.mount.key if entry.mount else entry.volume.key
    if other != snapshot.key:
        raise UsageError(f"{path}: that is in drive {other.hex()}, which is mounted there: name that one")


async def refresh(client: DaemonClient, common: "Common", core: CoreReader) -> bool:
    """Ask the peers for a newer head of ``core``, within the time limit; tell whether all of that time has passed."""
    limit = common.timeout_seconds if core.length == 0 else min(common.timeout_seconds, KNOWN_DRIVE_SECONDS)
    begun = trio.current_time()
    is_new = core.length == 0
    with trio.move_on_after(limit), waiting_progress("looking for peers that have it") if is_new else nullcontext():
        await core.update()
    return trio.current_time() - begun >= limit


async def _warn_unreached(client: DaemonClient, common: "Common", key: bytes) -> None:
    """Tell that somebody who was named by ``--peer`` could not be asked whether he has a newer version."""
    if not common.peers:
        return
    peers = await client.peers(key)
    problems = {peer: peers.unreached[peer] for peer in common.peers if peer in peers.unreached}
    if not peers.connected:
        problems = dict.fromkeys(common.peers, "no answer yet") | problems
    for peer, problem in problems.items():
        logger.warning("cannot reach %s: %s; drive %s is shown as it is here", peer, problem, short(key))


async def _why_nothing(client: DaemonClient, common: "Common", key: bytes, *, time_is_up: bool) -> str:
    peers = await client.peers(key)
    looked = f" ({peers.looked})" if peers.looked else ""
    start = f"nothing of drive {short(key)} is here, and"
    limit = f" within {common.timeout_seconds:g} s" if time_is_up else ""
    if peers.connected:
        return f"{start} no connected peer has offered it{limit}{looked}"
    if peers.dialled:
        unreached = {peer: why for peer, why in peers.unreached.items() if peer in (common.peers or peers.unreached)}
        reasons = ", ".join(f"{peer}: {why}" for peer, why in unreached.items())
        return f"{start} no peer could be reached{limit} ({reasons or 'none has answered yet'}){looked}"
    return f"{start} no peer is known{looked}; name one with --peer HOST:PORT"


async def tell_if_alone(client: DaemonClient, drive: Drive, then: str) -> None:
    """Say that no peer of somebody else's drive is known, or can be reached, and what follows, when it is so."""
    peers = await client.peers(drive.key)
    if drive.metadata.writable or peers.connected or len(peers.unreached) < peers.dialled:
        return
    away = [f"{peer}: {why}" for peer, why in peers.unreached.items()]
    reasons = "; ".join(filter(None, [*away, peers.looked]))
    found = "can be reached" if away else "is known"
    complain(f"no peer of drive {short(drive.key)} {found}{reasons and f' ({reasons})'}: {then}")


async def is_whole(drive: Drive) -> bool:
    """Tell whether all of a drive is here, of every version."""
    content = await drive.content()
    return all(core.has(0, core.length) for core in (drive.metadata, content))


async def tags_of(drive: Drive) -> dict[str, int]:
    """Return a drive's tags as its newest version has them, whatever version ``drive`` is open at."""
    newest = drive if drive.live else Drive(drive.volume, None)
    return await newest.snapshot().tags()
