"""Telling the kernel what it must not believe any longer.

The rules, all of them measured: dropping a name waits in the kernel for every lookup and listing in that directory,
dropping pages for every read of that inode, and neither can be interrupted, not even by killing us; so both run in
threads of their own, begin only while no such operation of ours may be waiting, and are never repeated for one target
that is still to be done. Dropping attributes alone never waits and is done at once. What the kernel turns out not to
know (ENOENT) is as good as done.
"""

import errno
import logging
import threading
from collections.abc import Callable
from functools import partial

import pyfuse3
import trio

from hyperfs.mount.waiting import Waits

logger = logging.getLogger(__name__)

MAX_PENDING = 8192
"""Targets that may be waiting for a thread; who has more of them waits in `Invalidator.room`."""
THREADS = 2
JOIN_SECONDS = 5.0

Target = tuple[int, bytes | None]
"""A name in a directory's inode, or an inode's pages (None)."""


class Invalidator:
    """Owns the threads. Make it inside trio; `add` and `room` are called there; `close` ends the threads."""

    def __init__(
        self,
        waits: Waits,
        *,
        drop_name: Callable[[int, bytes], None] = pyfuse3.invalidate_entry,
        drop_inode: Callable[..., None] = pyfuse3.invalidate_inode,
    ) -> None:
        """``drop_name`` and ``drop_inode`` are the kernel's side, for tests."""
        self._waits = waits
        self._drop_name = drop_name
        self._drop_inode = drop_inode
        self._pending: dict[Target, None] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._token = trio.lowlevel.current_trio_token()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._working = 0
        waits.on_idle = self._on_idle

    def attributes(self, number: int) -> None:
        """Drop an inode's attributes; its size, and pages that it makes stale, follow from the new ones."""
        _ignoring_unknown(partial(self._drop_inode, number, attr_only=True))

    def add_name(self, directory: int, name: bytes) -> None:
        """Drop what ``name`` in ``directory`` is, or that it is not, soon."""
        self._add((directory, name))

    def add_pages(self, number: int) -> None:
        """Drop an inode's pages soon."""
        self._add((number, None))

    async def room(self) -> None:
        """Return once fewer than `MAX_PENDING` targets wait."""
        while len(self._pending) >= MAX_PENDING and not self._closed:
            self._room = trio.Event()
            if len(self._pending) < MAX_PENDING:
                return
            await self._room.wait()

    async def done(self) -> None:
        """Return once everything that was added has been told to the kernel, or is not to be told any more."""
        while (self._pending or self._working) and not self._closed:
            if self._idle.is_set():
                self._idle = trio.Event()
            with self._changed:
                if not self._pending and not self._working:
                    return
            await self._idle.wait()

    def pending(self) -> int:
        """Return how many targets wait for a thread."""
        return len(self._pending)

    def close(self) -> bool:
        """End the threads, dropping what waits; tell whether all have ended. Blocks, at most `JOIN_SECONDS` each."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            self._changed.notify_all()
        self._wake(self._set_idle)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        return not any(thread.is_alive() for thread in self._threads)

    def _add(self, target: Target) -> None:
        with self._changed:
            if self._closed:
                return
            self._pending[target] = None
            self._changed.notify()
        if len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, name=f"invalidate-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _on_idle(self) -> None:
        if self._pending:
            with self._changed:
                self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                target = self._next()
                while target is None and not self._closed:
                    self._changed.wait()
                    target = self._next()
                if target is None:
                    return
                del self._pending[target]
                self._working += 1
                if len(self._pending) == MAX_PENDING // 2:
                    self._wake(self._set_room)
            number, name = target
            if name is None:
                _ignoring_unknown(partial(self._drop_inode, number))
            else:
                _ignoring_unknown(partial(self._drop_name, number, name))
            with self._changed:
                self._working -= 1
                if not self._pending and not self._working:
                    self._wake(self._set_idle)

    def _set_idle(self) -> None:
        self._idle.set()

    def _set_room(self) -> None:
        self._room.set()

    def _next(self) -> Target | None:
        return next((target for target in self._pending if not self._waits.is_busy(target[0])), None)

    def _wake(self, set_event: Callable[[], None]) -> None:
        try:
            self._token.run_sync_soon(set_event)
        except trio.RunFinishedError:
            logger.debug("nobody waits for room any more")


def _ignoring_unknown(call: Callable[[], None]) -> None:
    try:
        call()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):  # unknown to the kernel, or unmounted
            logger.warning("the kernel may show something outdated: %s", error)
    except Exception:  # it would end the thread, and nothing would be told to the kernel any more
        logger.exception("the kernel may show something outdated")
