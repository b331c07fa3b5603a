"""A drive, followed from version to version.

The rule: whoever wants to look takes a `Snapshot` and sees one version of everything until he takes another.
"""

from collections.abc import AsyncGenerator
from typing import Self

from hyperfs.core.reader import CoreReader
from hyperfs.drive.nursery import open_work
from hyperfs.drive.snapshot import Snapshot, known_version
from hyperfs.drive.volume import CoreProvider, Volume, VolumePool
from hyperfs.trie import NodeCache


class Drive:
    """A drive at its newest version, or at one asked for. Made by `Drive.open`; holds nothing that needs closing."""

    def __init__(self, volume: Volume, pinned_version: int | None) -> None:
        self.volume = volume
        self.pinned_version = pinned_version
        self._current = self._new_snapshot()

    @classmethod
    async def open(
        cls, cores: CoreProvider, key: bytes, *, version: int | None = None, cache: NodeCache | None = None
    ) -> Self:
        """Open the drive of ``key``, live or at ``version``.

        Raises `BlockNotAvailable` when nothing of it is here and no peer brings it, `NotADrive` when ``key`` is some
        other core's, `UnknownVersion`.
        """
        volume = await VolumePool(cores, cache).open(key)
        return cls(volume, None if version is None else await known_version(volume, version))

    @property
    def key(self) -> bytes:
        """The key that names it."""
        return self.volume.key

    @property
    def version(self) -> int:
        """The newest version known, or the one asked for."""
        return self.volume.metadata.length if self.pinned_version is None else self.pinned_version

    @property
    def live(self) -> bool:
        """Whether it follows new versions."""
        return self.pinned_version is None

    @property
    def writable(self) -> bool:
        """Whether it is live and its secret key is here."""
        return self.live and self.volume.metadata.writable

    @property
    def metadata(self) -> CoreReader:
        """The metadata core."""
        return self.volume.metadata

    async def content(self) -> CoreReader:
        """Return the content core."""
        return await self.volume.content()

    def snapshot(self) -> Snapshot:
        """Return the newest version as a whole, mounted drives included: the same object until one of them grows."""
        if not self._current.is_current():
            self._current = self._new_snapshot()
        return self._current

    async def update(self) -> None:
        """Ask the peers for newer versions, of the drives mounted in it that were gone into too."""
        async with open_work() as nursery:
            for volume in self.volume.pool:
                nursery.start_soon(volume.metadata.update)

    async def watch(self) -> AsyncGenerator[Snapshot, None]:
        """Yield the present snapshot, and each newer one as it becomes known; several new versions may come as one."""
        snapshot = self.snapshot()
        yield snapshot
        while True:
            newer = self.snapshot()
            if newer is snapshot:
                await self._wait_for_growth()
                continue
            snapshot = newer
            yield snapshot

    async def _wait_for_growth(self) -> None:
        """Return once a core of any drive in reach is longer than it was, or another drive came into reach."""
        pool = self.volume.pool
        opened = pool.opened
        async with open_work() as nursery:

            async def longer(core: CoreReader, length: int) -> None:
                await core.wait_longer(length)
                nursery.cancel_scope.cancel()

            for volume in pool:
                nursery.start_soon(longer, volume.metadata, volume.metadata.length)
            await opened.wait()
            nursery.cancel_scope.cancel()

    def _new_snapshot(self) -> Snapshot:
        return Snapshot(self.volume, self.version, ((self.key, self.pinned_version),))
