"""The drives that are mounted inside a mounted one, opened while there is a daemon to open them.

The rule: nothing is fetched for it but what tells which drives there are. What is here of an inner drive is read
without a daemon as what is here of the outer one, also when nobody had gone into it before the daemon went away.
"""

import logging
from contextlib import aclosing
from typing import Final

import trio

from hyperfs.core.store import core_folder
from hyperfs.daemon.client import DaemonClient
from hyperfs.drive.drive import Drive
from hyperfs.errors import HyperfsError, short

_log = logging.getLogger(__name__)

MAX_OPENED: Final = 64
"""How many are opened beforehand; the others are opened when they are gone into."""


async def keep_open(client: DaemonClient, drive: Drive) -> None:
    """Open what is mounted in ``drive`` and is here, now and as new versions mount more, until cancelled."""
    seen = {drive.key}
    async with aclosing(drive.watch()) as snapshots:
        async for _ in snapshots:
            await _open_inside(client, drive, seen)


async def _open_inside(client: DaemonClient, drive: Drive, seen: set[bytes]) -> None:
    try:
        targets = list((await drive.snapshot().mounts()).targets.values())
        for target in targets:
            if (
                target.key in seen
                or len(seen) > MAX_OPENED
                or not await trio.to_thread.run_sync(_is_here, client, target.key)
            ):
                continue
            seen.add(target.key)
            if target.is_core:
                await client.open_core(target.key)
                continue
            volume = await drive.volume.pool.open(target.key)
            await volume.content()
            await _open_inside(client, Drive(volume, target.version or None), seen)
    except (HyperfsError, OSError) as error:
        _log.debug("drive %s: what is mounted in it is opened later: %s", short(drive.key), error)


def _is_here(client: DaemonClient, key: bytes) -> bool:
    return (core_folder(client.places.store, key) / "key").exists()
