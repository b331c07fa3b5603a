"""The drives of ours that are written to, each through one committer, for as long as somebody writes.

The rule: a drive has one committer at a time. Before the first use of each the peers are asked whether they have more
of the drive than is here: a restored backup that is written to would fork it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from hyperfs.core.store import Store
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.drive.committer import LocalCommitter, named_content
from hyperfs.errors import BlockNotAvailable, NotADrive, short


@dataclass(slots=True, eq=False)
class _Writer:
    """One drive that is written to, and by whom. Its cores are open for ``user``."""

    user: User = field(default_factory=lambda: User(writes=True))
    holders: set[User] = field(default_factory=set)
    opening: trio.Lock = field(default_factory=trio.Lock)
    committer: LocalCommitter | None = None


class Writers:
    """Owns the committers of ``store``."""

    def __init__(self, store: Store, registry: CoreRegistry, ask_peers: Callable[..., Awaitable[None]]) -> None:
        """``ask_peers`` asks them for what they have of the cores that it is given, within a short time."""
        self._store = store
        self._registry = registry
        self._ask_peers = ask_peers
        self._writers: dict[bytes, _Writer] = {}
        self._asked: dict[bytes, int] = {}
        """Since when, as `CoreRegistry.sharing` counts, peers have been asked about a drive."""

    async def committer(self, key: bytes, user: User) -> LocalCommitter:
        """Return the one through which drive ``key`` is written, until ``user`` is released.

        Raises:
            BlockNotAvailable, NotADrive, NotWritable, DamagedStore, OSError.
        """
        writer = self._writers.setdefault(key, _Writer())
        writer.holders.add(user)
        async with writer.opening:
            if writer.committer is None:
                writer.committer = await self._open(key, writer.user)
            return writer.committer

    def release(self, user: User) -> None:
        """Take back every `committer` of ``user``, who does not write any more."""
        for key, writer in [(key, writer) for key, writer in self._writers.items() if user in writer.holders]:
            writer.holders.discard(user)
            if not writer.holders:
                del self._writers[key]
                self._registry.release(writer.user)

    async def _open(self, key: bytes, user: User) -> LocalCommitter:
        registry = self._registry
        metadata = await registry.open(key, user)
        if metadata.writable and not metadata.length:
            await self._ask_peers(metadata)
            if not metadata.length:
                raise BlockNotAvailable(
                    f"only the secret key of drive {short(key)} is here: connect to a peer that has the drive"
                )
        content_key = await registry.find_content_key(metadata)
        if content_key is None:
            raise NotADrive(f"{short(key)} is not a drive of this store")
        content = await registry.open(content_key, user, is_content=True)
        committer = LocalCommitter(metadata, content, reserve=self._store.reserve)
        await self._store.reserve.make()
        await content.fork_guard.note_signed(await named_content(metadata))
        if self._asked.get(key) != registry.sharing(metadata):
            await self._ask_peers(metadata, content)
            self._asked[key] = registry.sharing(metadata)
        return committer
