"""A discovery that is switched on and off while the daemon runs, and opened only when somebody needs it.

The rule: whoever follows a topic by it never hears of that, except by what `Interest.looked` is told.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio

from hyperfs.swarm.discovery import Discovery, Interest

_log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 15.0
"""After so long it is tried again to open what could not be opened."""


class Switched:
    """The discovery that ``open`` opens, from the first topic on that is followed while it is on. A `Discovery`.

    Its task runs in ``nursery``. What was announced by one that is closed, to be opened anew or not, is taken back.
    """

    def __init__(
        self, name: str, open: Callable[[], AbstractAsyncContextManager[Discovery]], nursery: trio.Nursery, *, on: bool
    ) -> None:
        self.name = name
        self.on = on
        self.problem: str | None = None
        """Why it cannot be opened."""
        self._open = open
        self._nursery = nursery
        self._discovery: Discovery | None = None
        self._is_wanted = False
        self._is_running = False
        self._followers: set[trio.CancelScope] = set()
        self._all_left = trio.Event()
        self._again = trio.Event()
        self._changed = trio.Event()

    def switch(self, *, on: bool) -> None:
        """Be on or off from now on."""
        if on != self.on:
            self.on = on
            self.reopen()
            self._run_if_needed()
            self._has_changed()

    def reopen(self) -> None:
        """Close it, if it is open, and open it as is wanted now."""
        self.problem = None
        self._again.set()

    async def follow(self, interest: Interest) -> None:
        """See `Discovery.follow`."""
        self._is_wanted = True
        self._run_if_needed()
        while True:
            changed, discovery = self._changed, self._discovery
            if discovery is not None:
                with trio.CancelScope() as scope:
                    self._followers.add(scope)
                    try:
                        await discovery.follow(interest)
                    finally:
                        self._followers.discard(scope)
                        if not self._followers:
                            self._all_left.set()
                continue
            if not self.on or self.problem is not None:
                interest.looked(self.problem)
            await changed.wait()

    def _run_if_needed(self) -> None:
        if self.on and self._is_wanted and not self._is_running:
            self._is_running = True
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        try:
            while self.on:
                self._again = trio.Event()
                try:
                    await self._run_once()
                except OSError as error:
                    _log.error("%s: %s", self.name, error)
                    self.problem = error.strerror or str(error)
                    self._has_changed()
                    with trio.move_on_after(RETRY_SECONDS):
                        await self._again.wait()
        finally:
            self._is_running = False

    async def _run_once(self) -> None:
        """Open it, and close it when it is to be otherwise, after what was announced by it is taken back."""
        async with self._open() as discovery:
            self._discovery, self.problem = discovery, None
            self._has_changed()
            try:
                await self._again.wait()
            finally:
                self._discovery = None
            for follower in self._followers:
                follower.cancel()
            while self._followers:
                self._all_left = trio.Event()
                await self._all_left.wait()

    def _has_changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
