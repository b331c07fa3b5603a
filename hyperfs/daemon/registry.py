"""The cores that are open in the daemon: who uses each, and which of them peers may have.

The rule: a core of somebody else's is shared with peers while anybody uses it; one of ours only while it is served, but
peers are asked about it as soon as it is written to.
Whoever uses a core hears of each new head of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from hyperfs.core.core import Core
from hyperfs.core.store import Store
from hyperfs.drive.volume import content_key_here
from hyperfs.replication import Follow, Replicator

LINGER_SECONDS: Final = 30.0
"""A core of somebody else's stays shared for this long after its last user: the next command is likely to want it."""


@dataclass(frozen=True, eq=False, slots=True)
class User:
    """Whoever has cores open.

    ``offers``: peers may have even our own cores that he uses. ``writes``: he appends to them, so peers are asked
    whether they have more.
    """

    offers: bool = False
    writes: bool = False
    on_head: Callable[[Core], None] | None = None


class CoreRegistry:
    """Owns which cores of ``store`` are shared through ``replicator``. Is a `CoreListener` of each."""

    def __init__(self, store: Store, replicator: Replicator, nursery: trio.Nursery) -> None:
        self._store = store
        self._replicator = replicator
        self._nursery = nursery
        self._users: dict[bytes, set[User]] = {}
        self._cores: dict[bytes, Core] = {}
        self._shared: dict[bytes, bool] = {}
        self._content_keys: dict[bytes, bytes] = {}
        self.on_new: Callable[[Core], None] | None = None

    async def open(self, key: bytes, user: User) -> Core:
        """Return the core of ``key``, which stays in use until ``user`` is released.

        Raises:
            StoreLocked, DamagedStore, OSError.
        """
        core = await self._store.core(key)
        if key not in self._cores:
            self._cores[key] = core
            core.add_listener(self)
            if self.on_new is not None:
                self.on_new(core)
        self._users.setdefault(key, set()).add(user)
        self._share_or_not(core)
        return core

    def release(self, user: User) -> None:
        """Take back every `open` of ``user``."""
        left = [key for key, users in self._users.items() if user in users]
        for key in left:
            self._users[key].discard(user)
        if user.offers:
            for key in left:
                self._share_or_not(self._cores[key])
        elif left:
            self._nursery.start_soon(self._leave_later, left)

    def adopted(self, core: Core) -> None:
        """Take note that ``core``, until now somebody else's, is ours."""
        if self._shared.pop(core.key, None) is not None:
            self._replicator.remove_core(core)
        if core.key in self._users:
            self._share_or_not(core)

    def open_cores(self) -> list[Core]:
        """Return every core that was opened."""
        return list(self._cores.values())

    def content_key(self, metadata: Core) -> bytes | None:
        """Return the content core's key that a drive's first block names; None when it is not here, or no drive's."""
        known = self._content_keys.get(metadata.key)
        if known is None and metadata.length:
            known = content_key_here(metadata)
            if known is not None:
                self._content_keys[metadata.key] = known
        return known

    # What a core tells its listeners

    def extended(self, core: Core, old_length: int, new_length: int) -> None:
        """Pass a new head on to whoever uses the core."""
        for user in self._users.get(core.key, ()):
            if user.on_head is not None:
                user.on_head(core)

    def stored(self, core: Core, start: int, end: int, origin: object) -> None:
        """Nothing to pass on: the shared map tells."""

    def cleared(self, core: Core, start: int, end: int) -> None:
        """Nothing to pass on: the shared map tells."""

    def durable(self, core: Core, length: int) -> None:
        """Nothing to pass on: that concerns peers."""

    def _share_or_not(self, core: Core) -> None:
        users = self._users.get(core.key, set())
        uploading = not core.writable or any(user.offers for user in users)
        wanted = bool(users) and (uploading or any(user.writes for user in users))
        if wanted and self._shared.get(core.key) is not uploading:
            self._shared[core.key] = uploading
            self._replicator.add_core(core, follow=self._follow(core), uploading=uploading)
        elif not wanted and core.key in self._shared:
            del self._shared[core.key]
            self._replicator.remove_core(core)

    def _follow(self, core: Core) -> Follow:
        """Choose what is fetched unasked: a trie's newest block is read at once, a drive's newest content is not."""
        for other in self._cores.values():
            if self.content_key(other) == core.key:
                return Follow.NOTHING
        return Follow.NEWEST

    async def _leave_later(self, keys: list[bytes]) -> None:
        await trio.sleep(LINGER_SECONDS)
        for key in keys:
            self._share_or_not(self._cores[key])
