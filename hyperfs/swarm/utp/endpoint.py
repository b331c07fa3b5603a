"""All uTP connections of one socket: which packet belongs to which, who may begin one, and when each is due.

The rules: a connection is handed on once the other side has shown that it receives; what is sent to addresses that
have not shown that is bounded in rate, for each and in all, and never larger than what came. What others begin is
bounded in number, for each host and in all; whoever may not begin is refused at once, and nothing is kept of that.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.allowance import Allowance, Rates
from hyperfs.swarm.dht.timers import Timer, Timers
from hyperfs.swarm.utp.connection import Connection, State
from hyperfs.swarm.utp.packets import SEQUENCE_MASK, Packet, PacketType, decode, encode

MAX_CONNECTIONS: Final = 1024
"""Those that are only begun are not among them."""
MAX_ACCEPTED: Final = 768
"""Of these, begun by others, those included that are left and whose last bytes are still on their way."""
MAX_OF_HOST: Final = 128
"""Of these, by one host."""
MAX_UNPROVEN: Final = 512
"""Connections that somebody has begun and not gone on with, at one time; the oldest makes room."""
MAX_UNPROVEN_OF_HOST: Final = 32
"""Of these, from one address, forged or not; the oldest of it makes room."""
UNPROVEN_SECONDS: Final = 10.0
LINGER_SECONDS: Final = 10.0
"""For how long what was written before closing may still take to arrive."""
_RATES: Final = Rates(unproven_host=8.0, unproven=200.0, proven_host=50.0, burst_seconds=2.0)
"""Answers to what begins a connection, or belongs to none."""


class UtpLink:
    """A connection with its address, and whoever waits for it. ``notify`` is called whenever something has changed."""

    def __init__(self, endpoint: UtpEndpoint, address: Address) -> None:
        self.address = address
        self.connection: Connection
        self.notify: Callable[[], None] = lambda: None
        self._endpoint = endpoint
        self._timer: Timer | None = None
        self._armed_at = float("inf")

    @property
    def key(self) -> tuple[Address, int]:
        """By what its packets are known."""
        return self.address, self.connection.receive_id

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `Connection.write`."""
        self.connection.write(data, self._endpoint.now)
        self.arm()

    def read(self, most: int) -> bytes:
        """See `Connection.read`."""
        return self.connection.read(most, self._endpoint.now)

    def finish(self) -> None:
        """See `Connection.finish`."""
        self.connection.finish(self._endpoint.now)
        self.arm()

    def leave(self) -> None:
        """Have what was written arrive, in `LINGER_SECONDS`, unless more comes that nobody reads. Notifies no more."""
        self.notify = lambda: None
        self.connection.discard()
        if self.connection.state is State.CONNECTED:
            self.finish()
            self._endpoint.settle(self)
            self._endpoint.after(LINGER_SECONDS, self.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """End at once, if it is not over already."""
        if self._endpoint.holds(self):
            self.connection.reset(self._endpoint.now, "ended here")
            self._endpoint.settle(self)

    def arm(self) -> None:
        """See to it that the connection is looked at when something is due."""
        due = self.connection.due_at
        if due < self._armed_at:
            if self._timer is not None:
                self._timer.cancel()
            self._armed_at = due
            self._timer = self._endpoint.at(due, self._tick)
            self._endpoint.woken()

    def disarm(self) -> None:
        """Look at it no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._armed_at = float("inf")
        self._timer = None
        self.connection.tick(self._endpoint.now)
        self._endpoint.settle(self)
        self.arm()


class UtpEndpoint:
    """The connections over one socket. ``send`` sends bytes to an address; `receive` is told what comes.

    ``on_accept`` is given each connection that somebody else began; while it is None they are refused, and so is whom
    ``admits`` does not admit, which is asked of everybody who begins, though the address may be forged. ``woken`` is
    called when something may be due sooner than before.
    """

    def __init__(
        self,
        timers: Timers,
        send: Callable[[bytes, Address], None],
        *,
        woken: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
    ) -> None:
        self.on_accept: Callable[[UtpLink], None] | None = None
        self.admits: Callable[[Address], bool] = lambda address: True
        self.woken = woken
        self._timers = timers
        self._send = send
        self._random = rng or random.SystemRandom()
        self._links: dict[tuple[Address, int], UtpLink] = {}
        self._unproven = _Links()
        self._accepted = _Links()
        self._ended: dict[tuple[Address, int], float] = {}
        """Connections that were reset, and when. What is under way of them yet is not answered with another RESET: a
        second one makes libutp forget that it was to end its side."""
        self._acks_due: dict[UtpLink, None] = {}
        self._allowance = Allowance(_RATES, timers.now())
        self._closed = False

    @property
    def now(self) -> float:
        """The time, in seconds."""
        return self._timers.now()

    @property
    def links(self) -> tuple[UtpLink, ...]:
        """The connections that there are."""
        return tuple(self._links.values())

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """See `Timers.at`."""
        return self._timers.at(when, call)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """See `Timers.after`."""
        return self._timers.after(seconds, call)

    def connect(self, address: Address, notify: Callable[[], None]) -> UtpLink | None:
        """Begin a connection; None when there are too many. ``notify`` is called when it stands, or has failed."""
        if self._closed or self._is_full:
            return None
        link = UtpLink(self, address)
        link.notify = notify
        receive_id = self._random.getrandbits(16)
        while self._is_taken(address, receive_id):
            receive_id = (receive_id + 1) & SEQUENCE_MASK
        self._links[address, receive_id] = link
        link.connection = Connection.dial(
            receive_id,
            self._random.getrandbits(16),
            self.now,
            lambda data: self._send(data, address),
            lambda: link.notify(),
        )
        link.arm()
        return link

    def receive(self, data: bytes, source: Address) -> bool:
        """Take a datagram that came from ``source``; what it calls for is acknowledged by `flush`.

        Returns whether it was one of a connection.
        """
        packet = decode(data)
        if packet is None or self._closed or not 0 < source.port < 1 << 16:
            return False
        link = self._link_of(packet, source)
        if link is not None:
            if packet.kind is PacketType.SYN and not self._may_answer(source):
                return False
            was = link.connection.state
            is_taken = link.connection.receive(packet, self.now)
            if link.connection.ack_due:
                self._acks_due[link] = None
            if was is State.SYN_RECEIVED and link.connection.state is State.CONNECTED:
                self._proven(link)
            if is_taken and packet.payload and link.connection.is_left:
                link.abort()  # as TCP does: who goes on sending learns that nobody reads
            self.settle(link)
            link.arm()
            return True
        if not self._is_answered(packet, source) or not self._may_answer(source):
            return False
        if packet.kind is PacketType.SYN and self._may_begin(source):
            self._begin(packet, source)
        else:
            refusal = Packet(
                PacketType.RESET, packet.connection_id, 0, 0, 0, self._random.getrandbits(16), packet.sequence
            )
            self._send(encode(refusal), source)
        return False

    def flush(self) -> None:
        """Acknowledge what has come; to be called when nothing more is there for now."""
        due, self._acks_due = self._acks_due, {}
        for link in due:
            if link.connection.ack_due and link.connection.state is not State.ENDED:
                link.connection.acknowledge(self.now)

    def holds(self, link: UtpLink) -> bool:
        """Tell whether a connection is not over yet."""
        return self._links.get(link.key) is link

    def settle(self, link: UtpLink) -> None:
        """Forget a connection that is over: ended, or left when both sides have said and heard the last."""
        one = link.connection
        is_over = one.state is State.ENDED or (one.is_left and one.is_delivered and one.is_complete)
        if is_over and self.holds(link):
            del self._links[link.key]
            self._unproven.discard(link)
            self._accepted.discard(link)
            if one.state is State.ENDED:
                self._ended[link.key] = self.now
                if len(self._ended) > MAX_CONNECTIONS:
                    del self._ended[next(iter(self._ended))]
            link.disarm()

    def close(self) -> None:
        """End all connections, and begin none."""
        for link in self.links:
            link.abort()
            link.notify()
        self._closed = True

    def _link_of(self, packet: Packet, source: Address) -> UtpLink | None:
        if packet.kind is PacketType.SYN:
            return self._links.get((source, (packet.connection_id + 1) & SEQUENCE_MASK))
        link = self._links.get((source, packet.connection_id))
        if link is None and packet.kind is PacketType.RESET:
            # who knows no connection repeats the id that he was sent
            for receive_id in (packet.connection_id + 1, packet.connection_id - 1):
                found = self._links.get((source, receive_id & SEQUENCE_MASK))
                if found is not None and found.connection.send_id == packet.connection_id:
                    return found
        return link

    def _is_taken(self, address: Address, receive_id: int) -> bool:
        """Tell whether a connection that is begun with this id would get another one's packets, at either end."""
        theirs = (receive_id + 1) & SEQUENCE_MASK
        # of one that the other side began, it receives by the id below ours
        begun_by_them = self._links.get((address, (theirs + 1) & SEQUENCE_MASK))
        return (address, receive_id) in self._links or (
            begun_by_them is not None and begun_by_them.connection.send_id == theirs
        )

    @property
    def _is_full(self) -> bool:
        return len(self._links) - len(self._unproven) >= MAX_CONNECTIONS

    def _may_answer(self, source: Address) -> bool:
        return self._allowance.may_answer(source.host, self.now)

    def _may_begin(self, source: Address) -> bool:
        return (
            self.on_accept is not None
            and not self._is_full
            and self._accepted.count_of(source.host) < MAX_OF_HOST
            and (len(self._accepted) < MAX_ACCEPTED or self._oldest_left() is not None)
            and self.admits(source)
        )

    def _oldest_left(self) -> UtpLink | None:
        """Return a connection that somebody else began, and that is there only until its last bytes have arrived."""
        return next((link for link in self._accepted if link.connection.is_left), None)

    def _is_answered(self, packet: Packet, source: Address) -> bool:
        """Tell whether what belongs to no connection calls for an answer."""
        if packet.kind is PacketType.SYN:
            return True
        ended_at = self._ended.get((source, packet.connection_id))
        return packet.kind is not PacketType.RESET and (ended_at is None or self.now - ended_at > LINGER_SECONDS)

    def _begin(self, syn: Packet, source: Address) -> None:
        if self._unproven.count_of(source.host) >= MAX_UNPROVEN_OF_HOST:
            self._forget(next(link for link in self._unproven if link.address.host == source.host))
        elif len(self._unproven) >= MAX_UNPROVEN:
            self._forget(next(iter(self._unproven)))
        link = UtpLink(self, source)
        link.connection = Connection.answer(
            syn,
            self._random.getrandbits(16),
            self.now,
            lambda data: self._send(data, source),
            lambda: link.notify(),
        )
        self._links[link.key] = link
        self._unproven.add(link)
        self.after(UNPROVEN_SECONDS, lambda: self._forget(link))

    def _proven(self, link: UtpLink) -> None:
        self._unproven.discard(link)
        self._allowance.proven(link.address.host, self.now)
        if self.on_accept is None or not self._may_begin(link.address):
            link.abort()
            return
        if len(self._accepted) >= MAX_ACCEPTED and (left := self._oldest_left()) is not None:
            left.abort()
        self._accepted.add(link)
        self.on_accept(link)

    def _forget(self, link: UtpLink) -> None:
        """Forget a connection, without a word, that was begun and not gone on with."""
        if self._unproven.discard(link):
            del self._links[link.key]
            link.disarm()


class _Links:
    """Some of the connections, the oldest first, and how many of them each host has."""

    def __init__(self) -> None:
        self._links: dict[UtpLink, None] = {}
        self._of_host: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[UtpLink]:
        return iter(self._links)

    def count_of(self, host: str) -> int:
        """Return how many ``host`` has."""
        return self._of_host[host]

    def add(self, link: UtpLink) -> None:
        """Add one that is not there."""
        self._links[link] = None
        self._of_host[link.address.host] += 1

    def discard(self, link: UtpLink) -> bool:
        """Take one away, and tell whether it was there. Of a host that has none nothing is kept."""
        if link not in self._links:
            return False
        del self._links[link]
        self._of_host[link.address.host] -= 1
        if not self._of_host[link.address.host]:
            del self._of_host[link.address.host]
        return True
