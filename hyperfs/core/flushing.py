"""Making cores durable soon after they were written to, while nobody waits for it.

The rule: what fails is told and tried again; what can never be durable any more is told, and given up.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.errors import DamagedStore, short

if TYPE_CHECKING:
    from hyperfs.core.core import Core

log = logging.getLogger(__name__)

FLUSH_DELAY_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 1.0


class Flusher:
    """Owns the list of cores that have something to sync.

    ``on_failure`` hears of each sync that failed; it must be quick, and must not raise.
    """

    def __init__(self, on_failure: "Callable[[Core, OSError | DamagedStore], None] | None" = None) -> None:
        self._on_failure = on_failure
        self._dirty: set[Core] = set()
        self._wake = trio.Event()

    def note(self, core: "Core") -> None:
        """Have ``core`` synced soon."""
        self._dirty.add(core)
        self.wake()

    def wake(self) -> None:
        """Have `run` go round once."""
        self._wake.set()

    async def run(self, after: Callable[[], Awaitable[None]]) -> None:
        """Sync what was noted, a moment after it was, and call ``after`` each time, until cancelled."""
        while True:
            await self._wake.wait()
            await trio.sleep(FLUSH_DELAY_SECONDS)
            self._wake = trio.Event()
            taken, self._dirty = self._dirty, set()
            for core in taken:
                if not core.closed:
                    await self._sync(core)
            await after()

    async def _sync(self, core: "Core") -> None:
        try:
            await core.sync()
        except OSError as error:
            log.error("core %s could not be made durable: %s", short(core.key), error)
            self._tell(core, error)
            self.note(core)
            await trio.sleep(_RETRY_SECONDS)
        except DamagedStore as error:
            log.error("core %s cannot be made durable: %s", short(core.key), error)
            self._tell(core, error)
            if core.dirty:
                self.note(core)

    def _tell(self, core: "Core", error: OSError | DamagedStore) -> None:
        if self._on_failure is not None:
            self._on_failure(core, error)
