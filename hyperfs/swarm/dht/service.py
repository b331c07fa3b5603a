"""A node of the DHT on a UDP socket, and what one does with it: look up, announce, keep values.

The rules: what was announced is announced again until it is taken back, and taken back when the service ends. The
socket is read in slices, so that a flood leaves time for everything else.
"""

from __future__ import annotations

import errno
import logging
import math
import random
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import trio

from hyperfs.crypto import KeyPair, sign, verify
from hyperfs.drive.nursery import open_work
from hyperfs.errors import HyperfsError
from hyperfs.swarm.addresses import Address, decode_addresses
from hyperfs.swarm.allowance import Rates
from hyperfs.swarm.dht.datagrams import (
    MAX_DATAGRAM_BYTES,
    MAX_SALT_BYTES,
    MAX_VALUE_BYTES,
    MIN_SALT_BYTES,
    Datagram,
    Kind,
    Mutable,
    PeersInput,
    PeersOutput,
    encode,
)
from hyperfs.swarm.dht.node import IMMUTABLE, MUTABLE, PEERS, DhtNode
from hyperfs.swarm.dht.reachability import Nat
from hyperfs.swarm.dht.records import GENERATION_SECONDS, MAX_TOLD, immutable_target
from hyperfs.swarm.dht.requests import HOLEPUNCH
from hyperfs.swarm.dht.timers import Timers
from hyperfs.swarm.dht.walk import WalkReport
from hyperfs.swarm.dht.ways import OpenWays
from hyperfs.swarm.interfaces import interfaces
from hyperfs.swarm.routes import host_names
from hyperfs.swarm.utp.endpoint import UtpEndpoint
from hyperfs.swarm.utp.packets import is_utp

logger = logging.getLogger(__name__)

DEFAULT_BOOTSTRAP: Final = (
    ("bootstrap1.hyperdht.org", 49737),
    ("bootstrap2.hyperdht.org", 49737),
    ("bootstrap3.hyperdht.org", 49737),
)
LOOK_SECONDS: Final = (300.0, 600.0)
"""A topic is looked up again after between so much and so much."""
ANNOUNCE_SECONDS: Final = (300.0, 0.9 * GENERATION_SECONDS)
"""A topic is announced again after between so much and so much: before anybody has forgotten it."""
LEAVE_SECONDS: Final = 5.0
"""For how long the end of a service waits for what it takes back."""
MAX_FOUND: Final = 4096
"""Addresses that one walk yields at most, whoever invents them."""
_NOBODY: Final = Address("0.0.0.0", 0)
_SLICE_SECONDS: Final = 0.002
"""For how long the socket is read before others have their turn."""
FLOOD_A_SECOND: Final = 300
"""So many datagrams that belong to no connection are more than a walk has for answers, and are let gather."""
GATHER_SECONDS: Final = 0.005
GATHER_DATAGRAMS: Final = 32
"""They gather for so long, or until there are about so many, which any socket holds."""
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_RETRY_SECONDS: Final = (5.0, 15.0)
_TRANSIENT: Final = {errno.ECONNREFUSED, errno.EMSGSIZE, errno.EAGAIN, errno.ENOBUFS, errno.EPERM, errno.EINTR}


Pause = Callable[[float], Awaitable[None]]


class DhtFailed(HyperfsError):
    """Nobody in the DHT answered, or nobody took what was to be kept."""


@dataclass(frozen=True, slots=True)
class FoundPeer:
    """An address that was announced for a topic. ``referrer`` is the node that told of it, None when it was our own."""

    address: Address
    referrer: Address | None


class Flood:
    """Tells whether very many datagrams come, each of which had this process woken. Times are trio's, in seconds."""

    def __init__(self) -> None:
        self._second = 0
        self._count = self._previous_count = 0

    def note(self, now: float) -> None:
        """Count one."""
        self._turn(now)
        self._count += 1

    def pause_seconds(self, now: float) -> float:
        """Return for how long to let them gather, if there are too many in this second, or were in the one before."""
        self._turn(now)
        rate = max(self._count, self._previous_count)
        return min(GATHER_SECONDS, GATHER_DATAGRAMS / rate) if rate >= FLOOD_A_SECOND else 0.0

    def _turn(self, now: float) -> None:
        second = int(now)
        if second != self._second:
            self._previous_count = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0


class DhtService:
    """A running node. Made by `open_dht`."""

    def __init__(self, sock: socket.socket, node: DhtNode, timers: Timers) -> None:
        self.node = node
        self._socket = sock
        self._timers = timers
        self._changed = trio.Event()
        self.ways = OpenWays(timers, self._open_way, lambda: node.nat() is not Nat.NONE)
        """Those by which hole punches are passed on to us."""
        self.utp = UtpEndpoint(timers, self.send, woken=self._wake)
        """The connections over the same socket."""

    @property
    def address(self) -> Address:
        """Where the socket is bound."""
        host, port = self._socket.getsockname()
        return Address(host, port)

    async def lookup(self, topic: bytes, *, port: int = 0) -> AsyncGenerator[FoundPeer, None]:
        """Yield who announced a 32-byte topic, each address once, as they are found; ends with the walk.

        ``port`` is our own announced one, so that we are not told of ourselves. Raises `DhtFailed` when nobody answers.
        """
        async with aclosing(self._peers(topic, PeersInput(port), update=False)) as found:
            async for peer in found:
                yield peer

    async def announce(self, topic: bytes, *, port: int = 0) -> AsyncGenerator[FoundPeer, None]:
        """Announce ``port`` (0: that of our UDP socket) for a topic, and yield who else did, as `lookup` does.

        The announcement stands when the iteration has ended; it is forgotten after 8 to 16 minutes.
        """
        async with aclosing(self._peers(topic, PeersInput(port), update=True)) as found:
            async for peer in found:
                yield peer

    async def unannounce(self, topic: bytes, *, port: int = 0) -> None:
        """Take back what `announce` said. Raises `DhtFailed` when nobody took it."""
        said = PeersInput(port, unannounce=True).encode()
        report, _ = await self._walk(PEERS, topic, said, query=False, update=True)
        _check_taken(report)

    async def put(self, value: bytes) -> bytes:
        """Have the DHT keep up to 1,000 bytes; return the 32 bytes that they are fetched by. Raises `DhtFailed`."""
        if len(value) > MAX_VALUE_BYTES:
            raise ValueError(f"a value of {len(value)} bytes, where {MAX_VALUE_BYTES} are allowed")
        target = immutable_target(value)
        report, _ = await self._walk(IMMUTABLE, target, value, query=False, update=True)
        _check_taken(report)
        return target

    async def get(self, target: bytes) -> bytes | None:
        """Return the value whose hash is ``target``, or None when nobody has it."""
        here = self.node.values.immutable(target)
        if here is not None:
            return here
        _, answers = await self._walk(IMMUTABLE, target, None)
        return next((value for value in answers if immutable_target(value) == target), None)

    async def put_mutable(self, key_pair: KeyPair, value: bytes, *, seq: int, salt: bytes | None = None) -> None:
        """Have the DHT keep up to 1,000 bytes under a public key; a higher ``seq`` replaces them.

        Raises ValueError for sizes that are not allowed, `DhtFailed` when nobody took it, as when he has a newer one.
        """
        _check_salt(salt)
        if len(value) > MAX_VALUE_BYTES:
            raise ValueError(f"a value of {len(value)} bytes, where {MAX_VALUE_BYTES} are allowed")
        unsigned = Mutable(seq, salt, value)
        record = Mutable(seq, salt, value, sign(unsigned.signable(), key_pair.secret))
        report, _ = await self._walk(MUTABLE, key_pair.public, record.encode(), query=False, update=True)
        _check_taken(report)

    async def get_mutable(self, public_key: bytes, *, seq: int = 0, salt: bytes | None = None) -> Mutable | None:
        """Return the newest value kept under a public key, if one of at least ``seq`` is."""
        _check_salt(salt)
        asked = Mutable(seq, salt)
        _, answers = await self._walk(MUTABLE, public_key, asked.encode())
        here = self.node.values.mutable(public_key, asked)
        found = [] if here is None else [here]
        found += [record for answer in answers if (record := _verified(answer, public_key, seq, salt)) is not None]
        return max(found, key=lambda record: record.seq, default=None)

    async def holepunch(self, to: Address, referrer: Address) -> Address | None:
        """Open the way to ``to`` with the help of who told of him; return from where he answered, None if he did not.

        Cancelled, nothing more is asked.
        """
        done = trio.Event()
        answered: Address | None = None

        def over(source: Address | None) -> None:
            nonlocal answered
            answered = source
            done.set()

        asked = self.node.holepunch(to, referrer, over)
        self._wake()
        try:
            await done.wait()
        finally:
            self.node.give_up(asked)
        return answered

    async def join(self) -> bool:
        """Fill the table with neighbours, by a walk for our own id; return whether anybody answered."""
        done = trio.Event()
        self.node.join(done.set)
        self._wake()
        await done.wait()
        return len(self.node.table) > 0

    async def keep_announced(
        self,
        topic: bytes,
        *,
        port: int,
        found: Callable[[FoundPeer], None],
        walked: Callable[[WalkReport], None] = lambda report: None,
        pause: Pause = trio.sleep,
    ) -> None:
        """Announce a topic again and again, telling ``found`` whom that finds; when cancelled, take it back.

        The first time it is looked up once more when that is done: of two who announce it at the same moment neither
        was told of the other, and whose announcement was taken last learns of the other then.

        ``walked`` is told how each walk went, ``pause`` waits for so many seconds in between, or less.
        """
        said = PeersInput(port)

        def announced(report: WalkReport) -> None:
            self.ways.keep(topic, report.takers)
            walked(report)

        has_looked = False

        async def walk() -> AsyncGenerator[FoundPeer, None]:
            nonlocal has_looked
            async with aclosing(self._peers(topic, said, update=True, walked=announced)) as peers:
                async for peer in peers:
                    yield peer
            if not has_looked:
                has_looked = True
                async with aclosing(self._peers(topic, said, update=False)) as peers:
                    async for peer in peers:
                        yield peer

        try:
            await self._again_and_again(topic, walk, found, ANNOUNCE_SECONDS, pause)
        finally:
            self.ways.keep(topic, ())
            with trio.move_on_after(LEAVE_SECONDS, shield=True):
                try:
                    if len(self.node.table):  # else nobody took what was announced
                        await self.unannounce(topic, port=port)
                except DhtFailed as error:
                    logger.debug("cannot unannounce %s: %s", topic.hex()[:8], error)

    async def keep_looking(
        self,
        topic: bytes,
        *,
        found: Callable[[FoundPeer], None],
        walked: Callable[[WalkReport], None] = lambda report: None,
        pause: Pause = trio.sleep,
    ) -> None:
        """Look a topic up again and again, until cancelled; ``found`` and so on as in `keep_announced`."""
        said = PeersInput(0)
        await self._again_and_again(
            topic, lambda: self._peers(topic, said, update=False, walked=walked), found, LOOK_SECONDS, pause
        )

    async def _again_and_again(
        self,
        topic: bytes,
        walk: Callable[[], AsyncGenerator[FoundPeer, None]],
        found: Callable[[FoundPeer], None],
        between: tuple[float, float],
        pause: Pause,
    ) -> None:
        while True:
            try:
                async with aclosing(walk()) as peers:
                    async for peer in peers:
                        found(peer)
                seconds = random.uniform(*between)
            except DhtFailed as error:
                logger.debug("topic %s: %s", topic.hex()[:8], error)
                seconds = random.uniform(*_RETRY_SECONDS)
            await pause(seconds)

    async def _peers(
        self,
        topic: bytes,
        said: PeersInput,
        *,
        update: bool,
        walked: Callable[[WalkReport], None] = lambda report: None,
    ) -> AsyncGenerator[FoundPeer, None]:
        found: deque[FoundPeer] = deque()
        seen: set[Address] = set()
        progress = trio.Event()
        report: WalkReport | None = None

        def tell(told: PeersOutput | None, referrer: Address | None) -> None:
            for address in decode_addresses(told.peers if told is not None else b"", MAX_TOLD):
                if address not in seen and len(seen) < MAX_FOUND:
                    seen.add(address)
                    found.append(FoundPeer(address, referrer))

        def answered(answer: Datagram, node: Address) -> None:
            tell(PeersOutput.decode(answer.value or b""), node)
            progress.set()

        def over(end: WalkReport) -> None:
            nonlocal report
            report = end
            progress.set()

        tell(self.node.announcements.told(topic, said, _NOBODY), None)  # a walk never asks the node that it begins at
        walk = self.node.walk(PEERS, topic, said.encode(), update=update, on_answer=answered, done=over)
        self._wake()
        try:
            while True:
                while found:
                    yield found.popleft()
                if report is not None:
                    break
                progress = trio.Event()
                await progress.wait()
        finally:
            walk.cancel()
        walked(report)
        _check_answered(report)
        if update:
            _check_taken(report)

    async def _walk(
        self, command: str, target: bytes, value: bytes | None, *, query: bool = True, update: bool = False
    ) -> tuple[WalkReport, list[bytes]]:
        """Walk, and return how it went and the values of the answers. Raises `DhtFailed` when nobody answers."""
        done = trio.Event()
        answers: list[bytes] = []
        reports: list[WalkReport] = []

        def answered(answer: Datagram, node: Address) -> None:
            if answer.value:
                answers.append(answer.value)

        def over(report: WalkReport) -> None:
            reports.append(report)
            done.set()

        walk = self.node.walk(command, target, value, query=query, update=update, on_answer=answered, done=over)
        self._wake()
        try:
            await done.wait()
        finally:
            walk.cancel()
        _check_answered(reports[0])
        return reports[0], answers

    def close(self) -> None:
        """Keep no way open any more."""
        self.ways.close()

    # The socket

    def send(self, data: bytes, to: Address) -> None:
        """Send a datagram; what the system does not take at once is lost, as datagrams are."""
        try:
            self._socket.sendto(data, to)
        except OSError as error:
            if error.errno not in _TRANSIENT:
                logger.debug("cannot send to %s: %s", to, error)

    def _open_way(self, to: Address) -> None:
        """Have a router before us let in what comes from somebody: by something that he does not answer."""
        self.send(encode(Datagram(Kind.QUERY, 0, command=HOLEPUNCH, to=to)), to)

    async def run(self) -> None:
        """Read the socket and do what is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            nursery.start_soon(self._keep_time)

    async def _read(self) -> None:
        flood = Flood()
        is_empty = True
        while True:
            if is_empty and (seconds := flood.pause_seconds(trio.current_time())):
                await trio.sleep(seconds)
            is_empty = False
            await trio.lowlevel.wait_readable(self._socket)
            over = time.perf_counter() + _SLICE_SECONDS
            while time.perf_counter() < over:
                try:
                    data, (host, port) = self._socket.recvfrom(MAX_DATAGRAM_BYTES + 1)
                except OSError as error:  # nothing more, or an ICMP answer to something sent earlier
                    if error.errno not in _TRANSIENT:
                        logger.warning("reading datagrams: %s", error)
                    is_empty = True
                    break
                if not is_utp(data):
                    self.node.receive(data, Address(host, port))
                elif self.utp.receive(data, Address(host, port)):
                    continue
                flood.note(trio.current_time())
            self.utp.flush()
            self._wake()

    async def _keep_time(self) -> None:
        while True:
            self._changed = trio.Event()
            self._timers.run_due()
            due = self._timers.next_at
            with trio.move_on_at(math.inf if due is None else due):
                await self._changed.wait()

    def _wake(self) -> None:
        """Have the timers looked at again: something may be due sooner than what was waited for."""
        self._changed.set()


@asynccontextmanager
async def open_dht(
    host: str = "0.0.0.0",
    port: int = 0,
    *,
    bootstrap: Sequence[tuple[str, int]] = DEFAULT_BOOTSTRAP,
    ephemeral: bool = True,
    rates: Rates | None = None,
) -> AsyncIterator[DhtService]:
    """Run a node at ``host`` and ``port`` (0: any free one) for as long as the body runs. IPv4 only, as the protocol.

    ``bootstrap`` are (host, port) of nodes to begin with; names that cannot be looked up are left out, and none at all
    makes this the first node of a network. It joins when `DhtService.join` is called, or something is asked. Raises
    OSError when the address cannot be had.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen there: {error.strerror}", f"{host}:{port}") from error
        known = await resolve(bootstrap)
        async with open_work() as nursery:
            timers = Timers(trio.current_time)
            node = DhtNode(
                timers,
                lambda data, to: service.send(data, to),
                bootstrap=known,
                ephemeral=ephemeral,
                is_ours=lambda address: address == host or address in own_hosts(),
                rates=rates,
            )
            service = DhtService(sock, node, timers)
            nursery.start_soon(service.run)
            try:
                yield service
            finally:
                service.utp.close()
                service.close()
                node.close()
                nursery.cancel_scope.cancel()
    finally:
        sock.close()


def own_hosts() -> set[str]:
    """Return the addresses of this machine's interfaces, the first of each."""
    return {interface.host for interface in interfaces() if interface.host is not None}


async def resolve(nodes: Iterable[tuple[str, int]]) -> list[Address]:
    """Return the IPv4 addresses of nodes by name. Those whose name cannot be looked up are logged, and left out."""
    found: dict[int, Address] = {}

    async def look_up(number: int, host: str, port: int) -> None:
        try:
            with host_names():
                answers = await trio.socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            logger.warning("cannot find the bootstrap node %s: %s", host, error.strerror or error)
            return
        found.update((number, Address(*answer[4][:2])) for answer in answers[:1])

    async with open_work() as nursery:  # at one time: where no name server answers, each takes many seconds
        for number, node in enumerate(nodes):
            nursery.start_soon(look_up, number, *node)
    return [found[number] for number in sorted(found)]


def _verified(answer: bytes, public_key: bytes, seq: int, salt: bytes | None) -> Mutable | None:
    record = Mutable.decode(answer)
    if record is None or record.value is None or record.signature is None or record.seq < seq:
        return None
    record = replace(record, salt=salt)
    return record if verify(record.signable(), record.signature or b"", public_key) else None


def _check_salt(salt: bytes | None) -> None:
    if salt is not None and not MIN_SALT_BYTES <= len(salt) <= MAX_SALT_BYTES:
        raise ValueError(f"a salt of {len(salt)} bytes, where {MIN_SALT_BYTES} to {MAX_SALT_BYTES} are allowed")


def _check_answered(report: WalkReport) -> None:
    if not report.answers:
        raise DhtFailed(
            f"none of {report.asked} nodes of the DHT answered; is the network up, are the bootstrap nodes?"
        )


def _check_taken(report: WalkReport) -> None:
    if not report.updates:
        raise DhtFailed("no node of the DHT near to it took what was to be kept")
