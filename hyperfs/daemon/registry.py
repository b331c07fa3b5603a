"""The cores that are open in the daemon: who uses each, and which of them peers may have.

The rules: a core is held open while anybody uses it, and a little longer, and no more of them are open than there are
descriptors for. One of somebody else's is shared with peers meanwhile; one of ours only while it is served, but peers
are asked about it as soon as it is written to, and while one is read that is not all here. Whoever uses a core hears of
each new head of it.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from hyperfs.core.core import Core
from hyperfs.core.pool import CoreLease
from hyperfs.core.store import Store
from hyperfs.daemon.files import affordable_cores
from hyperfs.drive.volume import content_key_in
from hyperfs.errors import DaemonError, HyperfsError
from hyperfs.replication import Follow, Replicator

LINGER_SECONDS: Final = 30.0
"""A core stays open and shared for this long after its last user: the next command is likely to want it."""
MAX_LINGERING: Final = 64
"""How many cores that nobody uses stay open."""


@dataclass(frozen=True, eq=False, slots=True)
class User:
    """Whoever has cores open.

    ``offers``: peers may have even our own cores that he uses. ``writes``: he appends to them, so peers are asked
    whether they have more.
    """

    offers: bool = False
    writes: bool = False
    on_head: Callable[[Core], None] | None = None


class Watcher(Protocol):
    """Whoever wants to know which cores are open. Called inline: must be quick, and must not raise."""

    def came(self, core: Core) -> None:
        """It was opened."""

    def changed(self, core: Core) -> None:
        """It was somebody else's, and is ours now; or only now it is known to be a drive's content."""

    def went(self, core: Core) -> None:
        """Nobody uses it any more; the next one who does may get another object."""


@dataclass(slots=True, eq=False)
class _Open:
    """One core that is open: by whose leave, for whom, and what is known of it."""

    lease: CoreLease
    users: set[User] = field(default_factory=set)
    uploading: bool | None = None
    """Whether peers may have it; None when it is not shared at all."""
    sharing: int = 0
    """Which time it is that it is shared: another number after each time that it was not."""
    is_known: bool = False
    """Whether its first block was looked at, which says whether it is a drive's, and ``content_key``."""
    content_key: bytes | None = None
    left_at: float | None = None
    """When its last user left."""
    is_content: bool = False
    """Whether a drive names it as its content."""

    @property
    def core(self) -> Core:
        return self.lease.core


class CoreRegistry:
    """Owns which cores of ``store`` are open, and shared through ``replicator``. Is a `CoreListener` of each.

    ``max_cores`` bounds how many are open at a time.
    """

    def __init__(
        self, store: Store, replicator: Replicator, nursery: trio.Nursery, *, max_cores: int | None = None
    ) -> None:
        self._store = store
        self._replicator = replicator
        self._nursery = nursery
        self._open: dict[bytes, _Open] = {}
        self._watchers: list[Watcher] = []
        self._closing_unused = False
        self._sharings = 0
        self.max_cores = affordable_cores() if max_cores is None else max_cores

    async def open(self, key: bytes, user: User, *, is_content: bool = False) -> Core:
        """Return the core of ``key``, which stays in use until ``user`` is released. Cancelled, it is not in use.

        ``is_content``: it is known to be a drive's content. Where the drive was read here before, that is found out.

        Raises:
            DaemonError: as many are open as may be.
            StoreLocked, DamagedStore, OSError.
        """
        if key not in self._open:
            if len(self._open) >= self.max_cores:
                self._close_unused(max_lingering=0)
            if len(self._open) >= self.max_cores:
                raise DaemonError(
                    f"{len(self._open)} cores are open, as many as there may be files for: unmount or unserve drives, "
                    "or allow the daemon more open files (ulimit -n) and start it again"
                )
            await self._learn_contents()  # only for this one: each fetch comes here, too
        lease = await self._store.lease(key)
        opened = self._open.get(key)
        if opened is None:
            opened = self._open[key] = _Open(lease)
            opened.is_content = is_content or self.drive_of(opened.core) is not None
            opened.core.add_listener(self)
            for watcher in self._watchers:
                watcher.came(opened.core)
        else:
            lease.release()  # another call was quicker
            if is_content and not opened.is_content:
                opened.is_content = True
                self._tell_changed(opened.core)
        opened.users.add(user)
        opened.left_at = None
        self._share_or_not(opened)
        return opened.core

    def release(self, user: User) -> None:
        """Take back every `open` of ``user``."""
        self._leave([opened for opened in self._open.values() if user in opened.users], user)

    def release_core(self, key: bytes, user: User) -> None:
        """Take back what ``user`` has of the core of ``key``, if he has it open."""
        opened = self._open.get(key)
        if opened is not None and user in opened.users:
            self._leave([opened], user)

    def _leave(self, left: list[_Open], user: User) -> None:
        for opened in left:
            opened.users.discard(user)
            if user.offers:
                self._share_or_not(opened)
            if not opened.users:
                opened.left_at = trio.current_time()
        self._close_unused(max_lingering=MAX_LINGERING)
        if not self._closing_unused and any(not opened.users for opened in self._open.values()):
            self._closing_unused = True
            self._nursery.start_soon(self._close_unused_in_time)

    def users_of(self, key: bytes) -> Set[User]:
        """Return who uses the core of ``key``: nobody, also where it stays open a little longer."""
        opened = self._open.get(key)
        return frozenset() if opened is None else frozenset(opened.users)

    def forget(self, key: bytes) -> None:
        """Let go of the core of ``key`` at once, whoever uses it: it is about to be removed."""
        if key in self._open:
            self._forget(key)

    def adopted(self, core: Core) -> None:
        """Take note that ``core``, until now somebody else's, is ours."""
        opened = self._open.get(core.key)
        if opened is not None:
            if opened.uploading is not None:
                opened.uploading = None
                self._replicator.remove_core(core)
            self._share_or_not(opened)
            self._tell_changed(core)

    def _tell_changed(self, core: Core) -> None:
        for watcher in self._watchers:
            watcher.changed(core)

    def watch(self, watcher: Watcher) -> None:
        """Have ``watcher`` told of cores that are opened from now on."""
        self._watchers.append(watcher)

    def close(self) -> None:
        """Let go of every core, whoever uses it: the store is about to close."""
        for key in list(self._open):
            self._forget(key)

    def open_cores(self) -> list[Core]:
        """Return every core that is open."""
        return [opened.core for opened in self._open.values()]

    def opened(self, key: bytes) -> Core | None:
        """Return the core of ``key`` if it is open."""
        opened = self._open.get(key)
        return None if opened is None else opened.core

    def content_key(self, metadata: Core) -> bytes | None:
        """Return the content core's key that a drive's first block names; None when it is not here, or no drive's."""
        opened = self._open.get(metadata.key)
        if opened is not None and opened.is_known:
            return opened.content_key
        block = metadata.get_local(0) if metadata.has(0, 1) else None
        if block is None:
            return None
        content_key = content_key_in(block)
        if opened is not None:
            opened.is_known, opened.content_key = True, content_key
        return content_key

    async def find_content_key(self, metadata: Core) -> bytes | None:
        """Return what `content_key` does, also when the first block has to be fetched or read from the disk.

        Raises:
            BlockNotAvailable, DamagedStore, OSError.
        """
        known = self.content_key(metadata)
        return content_key_in(await metadata.get(0)) if known is None and metadata.length else known

    def drive_of(self, content: Core) -> Core | None:
        """Return the metadata of an open drive that names ``content`` as its content; None when no drive does."""
        for opened in list(self._open.values()):
            if self.content_key(opened.core) == content.key:
                return opened.core
        return None

    def is_content(self, core: Core) -> bool:
        """Tell whether ``core``, which is in use, is a drive's content, as whoever opens it knows from the drive."""
        return self._open[core.key].is_content

    async def _learn_contents(self) -> None:
        """Look at the first blocks that came since cores were opened: whoever opens a content core has read one."""
        for opened in list(self._open.values()):
            core = opened.core
            if opened.is_known or not core.has(0, 1) or opened.is_content:
                continue
            try:
                opened.content_key = content_key_in(await core.get(0))
            except (HyperfsError, OSError):
                continue  # who reads it is told
            opened.is_known = True

    def sharing(self, core: Core) -> int:
        """Return a number that stays the same for as long as peers hear of ``core``, which is in use."""
        return self._open[core.key].sharing

    # What a core tells its listeners

    def extended(self, core: Core, old_length: int, new_length: int) -> None:
        """Pass a new head on to whoever uses the core."""
        opened = self._open.get(core.key)
        for user in () if opened is None else opened.users:
            if user.on_head is not None:
                user.on_head(core)

    def stored(self, core: Core, start: int, end: int, origin: object) -> None:
        """Nothing to pass on: the shared map tells."""

    def cleared(self, core: Core, start: int, end: int) -> None:
        """Nothing to pass on: the shared map tells."""

    def durable(self, core: Core, length: int) -> None:
        """Nothing to pass on: that concerns peers."""

    def _share_or_not(self, opened: _Open) -> None:
        core, users = opened.core, opened.users
        uploading = not core.writable or any(user.offers for user in users)
        # Once peers were asked they go on being: the next who writes need not ask them all again.
        asking = opened.uploading is False or any(user.writes for user in users)
        wanted = bool(users) and (uploading or asking or core.count(0, core.length) < core.length)
        if wanted and opened.uploading is not uploading:
            if opened.uploading is None:
                self._sharings += 1
                opened.sharing = self._sharings
            opened.uploading = uploading
            self._replicator.add_core(core, follow=self._follow(core), uploading=uploading)
        elif not wanted and opened.uploading is not None:
            opened.uploading = None
            self._replicator.remove_core(core)

    def _follow(self, core: Core) -> Follow:
        """Choose what is fetched unasked: a trie's newest block is read at once, a drive's newest content is not."""
        return Follow.NOTHING if self.is_content(core) else Follow.NEWEST

    async def _close_unused_in_time(self) -> None:
        while left := [opened.left_at for opened in self._open.values() if opened.left_at is not None]:
            await trio.sleep_until(min(left) + LINGER_SECONDS)
            self._close_unused(max_lingering=MAX_LINGERING)
        self._closing_unused = False

    def _close_unused(self, *, max_lingering: int) -> None:
        """Close what nobody has used for long, and what went unused first when that is too much."""
        unused = [(opened.left_at, key) for key, opened in self._open.items() if opened.left_at is not None]
        unused.sort()
        too_many = len(unused) - max_lingering
        for number, (left_at, key) in enumerate(unused):
            if number < too_many or trio.current_time() >= left_at + LINGER_SECONDS:
                self._forget(key)

    def _forget(self, key: bytes) -> None:
        opened = self._open.pop(key)
        if opened.uploading is not None:
            self._replicator.remove_core(opened.core)
        opened.core.remove_listener(self)
        for watcher in self._watchers:
            watcher.went(opened.core)
        opened.lease.release()
