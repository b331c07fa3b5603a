"""One route that is dialled, again and again, until nobody wants it any more.

The one rule: a peer that cannot be reached is tried ever more seldom, at times that no two processes share, except
while a reader waits for what nobody is there for; one that was reached is tried again at once when the connection ends.
"""

from __future__ import annotations

import logging
import os
import random
from contextlib import nullcontext, suppress
from typing import Final

import trio

from hyperfs.replication.bundle import Bundle
from hyperfs.replication.replicator import Replicator
from hyperfs.replication.status import Ending, EndReason
from hyperfs.swarm.routes import Route
from hyperfs.swarm.utp.stream import UtpStream

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 10.0
FIRST_DELAY_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 30.0
WANTED_DELAY_SECONDS: Final = 1.0
"""The longest delay while a reader waits."""
LASTING_SECONDS: Final = 5.0
"""A connection that lasted so long, to somebody who said who he is, was a good one, and the delays begin anew."""
_BAN_CHECK_SECONDS: Final = 30.0


class Dialling:
    """Keeps a connection by ``route`` up. ``attempts`` is after how many failures in a row to give up, if ever.

    ``limit`` is shared with others, which are not all to connect at one time; what is never given up does not heed it.
    """

    def __init__(
        self,
        replicator: Replicator,
        route: Route,
        *,
        attempts: int | None = None,
        limit: trio.CapacityLimiter | None = None,
    ) -> None:
        self.route = route
        self.name = route.name
        self.attempts = attempts
        self.connected = False
        self.is_own = False
        """Whether it was found to lead to this very process."""
        self.problem: str | None = None
        """Why the newest attempt failed; None after one that did not."""
        self.tried = trio.Event()
        """Set once the newest attempt has led to a connection, or has failed."""
        self._replicator = replicator
        self._limit = limit
        self._scope = trio.CancelScope()
        self._pause = trio.CancelScope()
        self._failed_at = 0.0
        self._failures = 0
        self._bundle = Bundle()

    def hurry(self) -> None:
        """Dial now instead of waiting for the next turn."""
        if not self.connected:
            self.tried.set()
            self.tried = trio.Event()
        self.skip_pause()

    def skip_pause(self) -> None:
        """Dial now, if the next turn is only waited for."""
        self._pause.cancel()

    def want(self) -> None:
        """Dial soon, as often as it is sensible, since a reader waits; what was only found is left its few attempts."""
        if self.attempts is None:
            soon = max(trio.current_time(), self._failed_at + WANTED_DELAY_SECONDS)
            self._pause.deadline = min(self._pause.deadline, soon)

    def stop(self) -> None:
        """Stop dialling, and end the connection."""
        self._scope.cancel()

    async def run(self) -> None:
        """Dial until stopped, until it turns out to lead to this process, or until the attempts are used up."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._widen, nursery)
                await self._run()
                nursery.cancel_scope.cancel()
        finally:
            self.tried.set()

    async def _widen(self, nursery: trio.Nursery) -> None:
        """Open extra connections as they are wanted; see `Bundle`."""
        while True:
            await self._bundle.wait_missing()
            while self._bundle.missing:
                await nursery.start(self._run_extra)

    async def _run_extra(self, task_status: trio.TaskStatus[None]) -> None:
        with self._bundle.extra():
            task_status.started()
            stream = None
            with suppress(OSError), trio.move_on_after(CONNECT_SECONDS):
                stream = await self.route.open()
            if isinstance(stream, UtpStream):  # another one would share what the first one takes
                await stream.aclose()
            elif stream is not None:
                await self._replicator.run(stream, initiator=True, name=self.name, bundle=self._bundle, is_extra=True)

    async def _run(self) -> None:
        with self._scope:
            while self.attempts is None or self._failures < self.attempts:
                if self._replicator.is_banned(self.name):
                    self.tried.set()
                    await trio.sleep(_BAN_CHECK_SECONDS)
                    continue
                began = trio.current_time()
                ending = await self._connect()
                if ending is not None:
                    if ending.reason is EndReason.SELF:
                        logger.info("%s is this very process: not dialled again", self.name)
                        self.is_own = True
                        return
                    if ending.reason is EndReason.DOUBLE and ending.remote_key is not None:
                        self._bundle.end_extra_links("the peer has dialled us")
                        await self._replicator.wait_disconnected(ending.remote_key)
                        self._failures = 0
                    elif ending.reason is EndReason.BANNED:
                        await trio.sleep(_BAN_CHECK_SECONDS)
                    elif ending.remote_key is not None and trio.current_time() - began >= LASTING_SECONDS:
                        self._failures = 0
                await self._wait()

    async def _connect(self) -> Ending | None:
        """Make one connection and carry it to its end; None when it could not be made."""
        stream = None
        try:
            async with self._limit if self._limit is not None and self.attempts is not None else nullcontext():
                with trio.move_on_after(CONNECT_SECONDS):
                    stream = await self.route.open()
        except OSError as error:
            self._report(_words(error))
            return None
        if stream is None:
            self._report(f"no answer in {CONNECT_SECONDS:.0f} s")
            return None
        self.connected = True
        self.problem = None
        self.tried.set()
        try:
            is_tcp = not isinstance(stream, UtpStream)
            return await self._replicator.run(
                stream, initiator=True, name=self.name, is_tcp=is_tcp, bundle=self._bundle
            )
        finally:
            self.connected = False

    def _report(self, problem: str) -> None:
        self.problem = problem
        # an address that stays away is worth one line, not one a minute
        logger.log(logging.DEBUG if self._failures else logging.WARNING, "cannot reach %s: %s", self.name, problem)

    async def _wait(self) -> None:
        self.tried.set()
        longest = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._failures, 16))
        self._failures += 1
        self._failed_at = trio.current_time()
        self._pause = trio.CancelScope(deadline=self._failed_at + random.uniform(longest / 2, longest))
        if self._replicator.wanted:
            self.want()
        with self._pause:
            await trio.sleep_forever()


def _words(error: OSError) -> str:
    """Return what the system says; of several attempts, one for each address of a name, what it said to the last."""
    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup) or cause.__cause__ is not None:
        cause = cause.exceptions[-1] if isinstance(cause, BaseExceptionGroup) else cause.__cause__ or cause
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return (isinstance(cause, OSError) and cause.strerror) or str(cause)
