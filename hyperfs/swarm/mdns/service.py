"""Multicast DNS on the interfaces of the machine.

The rules: what did not come from this very network (its TTL is not 255) is not looked at; a question is answered on the
interface it came in by. Interfaces come and go, and are looked at again every few seconds.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from hyperfs.drive.nursery import open_work
from hyperfs.swarm.interfaces import Interface, interfaces
from hyperfs.swarm.mdns.messages import GROUP, MAX_MESSAGE_BYTES, PORT
from hyperfs.swarm.mdns.neighbours import Neighbour, Neighbours

logger = logging.getLogger(__name__)

INTERFACES_SECONDS: Final = 5.0
_TTL: Final = 255
_SLICE_SECONDS: Final = 0.002
_ANCILLARY_BYTES: Final = 256
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
# linux/in.h; the socket module has no names for these
_IP_PKTINFO: Final = 8
_IP_RECVTTL: Final = 12
_PACKET_INFO: Final = struct.Struct("@i4s4s")
_MULTICAST_REQUEST: Final = struct.Struct("@4s4si")
_JOINED_ALREADY: Final = errno.EADDRINUSE

Found = Callable[[Neighbour], None]


class MdnsService:
    """Asks, answers and listens on every interface. Made by `open_mdns`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._neighbours = Neighbours(os.urandom, trio.current_time)
        self._found: dict[bytes, Found] = {}
        self._interfaces: frozenset[Interface] = frozenset()

    @property
    def is_on_network(self) -> bool:
        """Whether there is anybody to ask: an interface with an IPv4 address."""
        return bool(self._interfaces)

    def join(self, topic: bytes, *, port: int | None, found: Found | None) -> None:
        """Announce a 32-byte topic at a TCP ``port`` (None: do not), and tell ``found`` (None: nobody) who has it."""
        if found is None:
            self._found.pop(topic, None)
        else:
            self._found[topic] = found
        for message in self._neighbours.join(topic, port=port, looks=found is not None):
            self._send(message)

    def leave(self, topic: bytes) -> None:
        """Announce a topic, and look for it, no more."""
        self._neighbours.leave(topic)
        self._found.pop(topic, None)

    def ask(self, topic: bytes) -> None:
        """Ask for a topic that was joined and is looked for."""
        message = self._neighbours.question(topic)
        if message is not None:
            self._send(message)

    async def run(self) -> None:
        """Listen, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            nursery.start_soon(self._follow_interfaces)

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            over = time.perf_counter() + _SLICE_SECONDS
            while time.perf_counter() < over:
                try:
                    data, ancillary, _, (sender, _) = self._socket.recvmsg(MAX_MESSAGE_BYTES + 1, _ANCILLARY_BYTES)
                except BlockingIOError:
                    break
                except OSError as error:
                    logger.warning("multicast DNS: %s", error.strerror or error)
                    break
                self._received(data, sender, ancillary)

    def _received(self, data: bytes, sender: str, ancillary: list[tuple[int, int, bytes]]) -> None:
        ttl, interface = _origin(ancillary)
        if ttl != _TTL:
            return
        found, reply = self._neighbours.receive(data, sender)
        for neighbour in found:
            tell = self._found.get(neighbour.topic)
            if tell is not None:
                tell(neighbour)
        if reply is not None and interface is not None:
            self._send_by(interface, reply)

    async def _follow_interfaces(self) -> None:
        while True:
            await trio.sleep(INTERFACES_SECONDS)
            self.look_at_interfaces()

    def look_at_interfaces(self) -> None:
        """Listen on interfaces that came; announce and ask there at once, as for what is joined later."""
        before, self._interfaces = self._interfaces, usable_interfaces()
        joined = {interface for interface in self._interfaces if self._join_group(interface.index)}
        for interface in joined - before:
            for message in self._neighbours.greeting():
                self._send_by(interface.index, message)

    def _join_group(self, interface: int) -> bool:
        request = _MULTICAST_REQUEST.pack(socket.inet_aton(GROUP), bytes(4), interface)
        try:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError as error:
            if error.errno != _JOINED_ALREADY:
                logger.debug("multicast DNS on interface %d: %s", interface, error.strerror)
                return False
        return True

    def _send(self, message: bytes) -> None:
        for interface in self._interfaces:
            self._send_by(interface.index, message)

    def _send_by(self, interface: int, message: bytes) -> None:
        info = _PACKET_INFO.pack(interface, bytes(4), bytes(4))
        try:
            self._socket.sendmsg([message], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, (GROUP, PORT))
        except OSError as error:  # an interface without an address, or one that is just going away
            logger.debug("multicast DNS by interface %d: %s", interface, error.strerror)


@asynccontextmanager
async def open_mdns() -> AsyncIterator[MdnsService]:
    """Run multicast DNS for as long as the body runs, beside whoever else does on this machine.

    Raises OSError when the port cannot be shared.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)  # or as much as the system allows
        for option, value in (
            (socket.IP_MULTICAST_TTL, _TTL),
            (socket.IP_MULTICAST_LOOP, 1),
            (_IP_RECVTTL, 1),
            (_IP_PKTINFO, 1),
        ):
            sock.setsockopt(socket.IPPROTO_IP, option, value)
        try:
            sock.bind(("", PORT))
        except OSError as error:
            raise OSError(error.errno, f"multicast DNS: {error.strerror}", f"UDP port {PORT}") from error
        async with open_work() as nursery:
            service = MdnsService(sock)
            service.look_at_interfaces()
            nursery.start_soon(service.run)
            yield service
            nursery.cancel_scope.cancel()


def usable_interfaces() -> frozenset[Interface]:
    """Return the interfaces that are up and have an IPv4 address; loopback only if there is no other."""
    up = frozenset(interface for interface in interfaces() if interface.host is not None)
    return frozenset(interface for interface in up if not interface.is_loopback) or up


def _origin(ancillary: list[tuple[int, int, bytes]]) -> tuple[int | None, int | None]:
    """Return (TTL, interface) of a datagram."""
    ttl = interface = None
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == socket.IP_TTL:
            ttl = int.from_bytes(data[:4], sys.byteorder)
        elif level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            interface = _PACKET_INFO.unpack(data[: _PACKET_INFO.size])[0]
    return ttl, interface
