"""The drives that are mounted inside a mounted one: opened while there is a daemon to open them, until nobody looks.

The rules: nothing is fetched for it but what tells which drives there are. What is here of an inner drive is read
without a daemon as what is here of the outer one, also when nobody had gone into it before the daemon went away. A
drive of which the kernel knows something stays open: only so we hear what it has to forget.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Final

import trio

from hyperfs.core.store import core_folder
from hyperfs.daemon.client import DaemonClient
from hyperfs.drive import names
from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import HyperfsError, PathError, short
from hyperfs.slices import in_slices

_log = logging.getLogger(__name__)

MAX_OPENED: Final = 64
"""How many are opened beforehand; the others are opened when they are gone into."""
MAX_UNSEEN: Final = 2 * MAX_OPENED
"""How many cores stay open of which the kernel knows nothing: two of each drive that is opened beforehand."""
LOOK_SECONDS: Final = 15.0
"""How often it is looked which drives the kernel knows something of."""

Keys = Callable[[], Iterable[bytes]]
"""Tells keys of cores."""


async def keep_open(client: DaemonClient, drive: Drive) -> None:
    """Open what is mounted in ``drive`` and is here, now and as new versions mount more, until cancelled."""
    seen = {drive.key}
    async with aclosing(drive.watch()) as snapshots:
        async for _ in snapshots:
            await _open_inside(client, drive, seen)


async def rest_unseen(client: DaemonClient, drive: Drive, knows: Callable[[str], bool], cores: Keys) -> None:
    """Have cores rest of which the kernel ``knows`` nothing any more, by the paths of their drives, until cancelled.

    Those of the keys ``cores`` never do. `MAX_UNSEEN` of the others stay awake, those that were opened first rest
    first.
    """
    while True:
        await trio.sleep(LOOK_SECONDS)
        try:
            await rest_unseen_now(client, drive, knows, cores)
        except (HyperfsError, OSError) as error:
            _log.debug("drive %s: which inner drives can rest is seen later: %s", short(drive.key), error)


async def rest_unseen_now(
    client: DaemonClient, drive: Drive, knows: Callable[[str], bool], cores: Keys = tuple
) -> None:
    """Do once what `rest_unseen` does; and wake what rests and is known again. Raises `HyperfsError`, OSError."""
    if not client.connected:
        return
    seen = {drive.key, drive.volume.content_key, *cores()}
    async with aclosing(_seen_inside(drive.snapshot(), "", knows)) as keys:
        async for key in keys:
            seen.add(key)
    unseen = [key for key in client.awake if key not in seen]
    for key in unseen[: max(0, len(unseen) - MAX_UNSEEN)]:
        await client.rest(key)
    for key in client.resting:
        if key in seen:
            await client.open_core(key)
        else:
            await client.rest(key)  # what was asked of it since then may have opened its files


async def _seen_inside(snapshot: Snapshot, above: str, knows: Callable[[str], bool]) -> AsyncGenerator[bytes, None]:
    """Yield the keys of the cores in ``snapshot``, which is mounted at ``above``, that the kernel knows of."""
    contents = {volume.key: volume.content_key for volume in snapshot.volume.pool}
    opened = snapshot.opened_mounts
    async for path, target in in_slices(list((await snapshot.mounts()).targets.items())):
        if not knows(names.join(above, path)):
            continue
        yield target.key
        if target.key in contents:
            yield contents[target.key]
        inner = opened.get(path)
        if inner is None and target.key in contents:
            with suppress(PathError):  # it is mounted inside itself
                inner, _ = await snapshot.locate(path, enter=True)
        if inner is None:
            continue
        async with aclosing(_seen_inside(inner, names.join(above, path), knows)) as keys:
            async for key in keys:
                yield key


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
