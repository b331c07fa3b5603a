"""The cores of a store that are open: one object a key, opened once, and closed when nobody holds it any more.

The rule: a core is opened and closed under the lock of its key, so whoever asks for it meanwhile waits, and then gets
one that is open. A core that was never held stays open until the pool is closed.
"""

import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final

import trio

from hyperfs.core.core import Core
from hyperfs.errors import Closed, HyperfsError, short

log = logging.getLogger(__name__)

MAX_IDLE_CORES: Final = 32
"""How many cores that nobody holds stay open: the next command is likely to want one of them."""


class CoreLease:
    """Keeps ``core`` open until it is released. Made by `CorePool.hold`."""

    def __init__(self, core: Core, on_release: Callable[[Core], None]) -> None:
        self.core = core
        self._on_release: Callable[[Core], None] | None = on_release

    def release(self) -> None:
        """Let the core be closed unless others hold it, too; a second time does nothing."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            on_release(self.core)

    def __enter__(self) -> Core:
        return self.core

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if self._on_release is not None:
            warnings.warn(f"a lease of {self.core!r} was never released", ResourceWarning, stacklevel=2, source=self)


class CorePool:
    """Owns the open cores of one store. ``on_idle`` is called when more of them are idle than are kept."""

    def __init__(self, on_idle: Callable[[], None]) -> None:
        self._on_idle = on_idle
        self._cores: dict[bytes, Core] = {}
        self._holders: dict[bytes, int] = {}
        self._idle: dict[bytes, None] = {}
        """The keys of those that nobody holds any more, in the order in which they were let go."""
        self._locks: dict[bytes, trio.Lock] = {}
        self._closed = False

    def __iter__(self) -> Iterator[Core]:
        return iter(list(self._cores.values()))

    async def get(self, key: bytes, open_core: Callable[[], Awaitable[Core]]) -> Core:
        """Return the core of ``key``, made by ``open_core`` if it is not open. Raises `Closed`, and as that does.

        Cancelled, it leaves the core as it was: open or not.
        """
        core = self._cores.get(key)
        if core is not None:
            return core
        async with self._locked(key):
            core = self._cores.get(key)
            if core is None:
                if self._closed:
                    raise Closed(f"core {short(key)} cannot be opened: its store is closed")
                core = self._cores[key] = await open_core()
            return core

    def hold(self, core: Core) -> CoreLease:
        """Keep ``core`` open until the lease is released. Raises `Closed` when it is not open here any more."""
        key = core.key
        if self._cores.get(key) is not core:
            raise Closed(f"core {short(key)} is closed")
        self._holders[key] = self._holders.get(key, 0) + 1
        self._idle.pop(key, None)
        return CoreLease(core, self._release)

    async def close_idle(self, *, keep: int = MAX_IDLE_CORES) -> bool:
        """Close cores that nobody holds, the one first that was let go first, down to ``keep``; tell whether any was.

        One that cannot be made durable stays open, and so does one that another has to be synced after.
        """
        closed = False
        for key in list(self._idle):
            if len(self._idle) <= keep:
                break
            closed = await self._close_if_idle(key) or closed
        return closed

    async def close_core(self, key: bytes) -> None:
        """Close one core, if it is open, whoever holds it. Raises as `Core.close`; it is closed then as well."""
        async with self._locked(key):
            await self._take_out(key)

    async def close(self) -> list[OSError | HyperfsError]:
        """Close all cores, those too that are being opened, and open no more; return what prevented any from a sync.

        Not to be cancelled.
        """
        self._closed = True
        failures = []
        for key in {*self._cores, *self._locks}:
            try:
                await self.close_core(key)
            except (OSError, HyperfsError) as error:
                log.error("core %s was closed without being durable: %s", short(key), error)
                failures.append(error)
        return failures

    def _release(self, core: Core) -> None:
        key = core.key
        if self._cores.get(key) is not core:
            return
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self._idle[key] = None
            if len(self._idle) > MAX_IDLE_CORES:
                self._on_idle()

    async def _close_if_idle(self, key: bytes) -> bool:
        async with self._locked(key):
            core = self._cores.get(key)
            if core is None or any(other.synced_first is core for other in self._cores.values()):
                return False
            try:
                await core.sync()
            except (OSError, HyperfsError) as error:
                log.error("core %s could not be made durable: %s", short(key), error)
                return False
            if key not in self._idle or core.dirty:
                return False
            await self._take_out(key)
            return True

    async def _take_out(self, key: bytes) -> None:
        core = self._cores.pop(key, None)
        self._holders.pop(key, None)
        self._idle.pop(key, None)
        if core is not None:
            await core.close()

    @asynccontextmanager
    async def _locked(self, key: bytes) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._locks.get(key) is lock:
                del self._locks[key]
