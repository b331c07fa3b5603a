"""How a peer is reached that may be behind a NAT: by TCP, and beside it by uTP, for which a way is opened first.

The one rule: whichever way opens first is kept, and nothing is left of the other. TCP has a little start: it costs less
to use, and where it opens nobody has to be troubled to punch a hole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.utp.endpoint import UtpEndpoint
from hyperfs.swarm.utp.stream import connect

HEAD_START_SECONDS: Final = 0.25


class Puncher(Protocol):
    """What opens a way through the NATs between us and somebody, and carries streams on it: a `DhtService`."""

    @property
    def utp(self) -> UtpEndpoint:
        """The connections over the socket to which the way leads."""
        ...

    async def holepunch(self, to: Address, referrer: Address) -> Address | None:
        """Have ``referrer`` ask ``to`` to answer us; return from where that came, None when nothing came."""
        ...


@dataclass(frozen=True, slots=True)
class PunchedRoute:
    """TCP to ``address``, and uTP through the hole that ``referrer``, who told of it, helps to punch.

    Without a referrer it was us that the peer told, and so his NAT lets us in. Routes to one address are equal.
    """

    address: Address
    referrer: Address | None = field(compare=False)
    puncher: Puncher = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """``host:port``."""
        return str(self.address)

    async def open(self) -> trio.abc.Stream:
        """See `Route.open`. What is raised is what TCP met with, as that says more."""
        ways = Ways()
        async with trio.open_nursery() as nursery:
            for number, way in enumerate((self._open_tcp, self._open_utp)):
                nursery.start_soon(ways.take, number, way, nursery.cancel_scope)
        return ways.opened()

    async def _open_tcp(self) -> trio.abc.Stream:
        return await trio.open_tcp_stream(*self.address)

    async def _open_utp(self) -> trio.abc.Stream:
        await trio.sleep(HEAD_START_SECONDS)
        if self.referrer is None:
            return await connect(self.puncher.utp, self.address)
        answered_from = await self.puncher.holepunch(self.address, self.referrer)
        # Who did not answer may still be reached: only his answer was kept out, by a NAT of ours with a port for each.
        return await connect(self.puncher.utp, answered_from or self.address)


class Ways:
    """Several ways of which the first that opens is kept."""

    def __init__(self) -> None:
        self._first: trio.abc.Stream | None = None
        self._errors: dict[int, OSError] = {}

    async def take(
        self, number: int, open_stream: Callable[[], Awaitable[trio.abc.Stream]], others: trio.CancelScope
    ) -> None:
        """Open one; when it is the first to open, cancel the ``others``."""
        try:
            stream = await open_stream()
        except OSError as error:
            self._errors[number] = error
            return
        if self._first is None:
            self._first = stream
            others.cancel()
        else:
            await trio.aclose_forcefully(stream)

    def opened(self) -> trio.abc.Stream:
        """Return the stream that is kept; raises what the way with the lowest number met with."""
        if self._first is None:
            raise self._errors[min(self._errors)]
        return self._first
