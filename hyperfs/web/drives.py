"""The drives that somebody looks at in a browser: opened when he comes, and kept for a while.

The rule: a page shows the newest version that is known within a short time, whoever is away; only of a drive of which
nothing is here it waits for as long as a command would.
"""

from collections import OrderedDict
from typing import Final

import trio

from hyperfs.daemon.client import DaemonClient
from hyperfs.drive.drive import Drive
from hyperfs.errors import BlockNotAvailable, UnknownVersion, short

KNOWN_DRIVE_SECONDS: Final = 2.0
"""How long to wait for the word of a newer version, when some version is here."""
_ASKED_EACH_SECONDS: Final = 5.0
_KEPT: Final = 64


class Drives:
    """Drives by key and version, over a client of the daemon."""

    def __init__(self, client: DaemonClient, *, timeout_seconds: float) -> None:
        self.client = client
        self._timeout_seconds = timeout_seconds
        self._kept: OrderedDict[tuple[bytes, int | None], Drive] = OrderedDict()
        self._asked: dict[bytes, float] = {}

    async def get(self, key: bytes, version: int | None = None) -> Drive:
        """Return a drive, live or at a version.

        Raises `BlockNotAvailable` when nothing of it is here and nobody brings it, `UnknownVersion`, `NotADrive`.
        """
        core = await self.client.open_core(key)
        if not core.writable and not (version is not None and core.length >= version):
            await self._ask(key)
        if not core.length and not core.writable:
            peers = await self.client.peers(key)
            whom = (
                f"none of the {peers.connected} connected peers has offered it"
                if peers.connected
                else ("no peer of it could be reached" if peers.dialled else "no peer of it is known")
            )
            looked = f" ({peers.looked})" if peers.looked else ""
            raise BlockNotAvailable(f"nothing of drive {short(key)} is here, and {whom}{looked}")
        if version is not None and core.length and version > core.length:
            raise UnknownVersion(f"drive {short(key)} has no version {version}; the newest is {core.length}")
        drive = self._kept.get((key, version))
        if drive is None:
            drive = await Drive.open(self.client, key, version=version)
            self._kept[key, version] = drive
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end((key, version))
        return drive

    async def _ask(self, key: bytes) -> None:
        """Ask for a newer version, unless that was done a moment ago."""
        core = await self.client.open_core(key)
        now = trio.current_time()
        if core.length and now - self._asked.get(key, -1e9) < _ASKED_EACH_SECONDS:
            return
        self._asked[key] = now
        with trio.move_on_after(KNOWN_DRIVE_SECONDS if core.length else self._timeout_seconds):
            await core.update()
        if len(self._asked) > 4 * _KEPT:
            self._asked = {asked: at for asked, at in self._asked.items() if now - at < _ASKED_EACH_SECONDS}
