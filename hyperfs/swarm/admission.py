"""Whose connections are accepted: how many at one time, from one place, and from where none for a while.

A key costs its maker nothing, and a port neither, so what is counted is the network that a connection comes from: an
IPv4 address, or the 64 leading bits of an IPv6 one, which is what a household is given. This machine itself may have
more, and is never banned: behind its address there may be anybody, as with a tunnel. It leaves room for others all the
same. Whoever has not shown yet that he knows a key gives way to the next one: places are for those who want something.
And where all are taken, those that have several give one to who has none: who is far away opens more than he needs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Final, NamedTuple

from hyperfs.replication.bans import Bans

MAX_ACCEPTED: Final = 256
"""Connections that were accepted and are up at one time."""
MAX_OF_NETWORK: Final = 24
"""Of these, from one network."""
MAX_OF_MACHINE: Final = 128
"""Of these, from this machine itself."""
MAX_OFFENCES: Final = 3
"""A network from which peers broke the rules so often, within the time of a ban, is banned."""
_MACHINE: Final = ""


class Refusal(NamedTuple):
    """Why a connection is not accepted, unless another one ends for it.

    That is one with a name of ``strangers`` that has shown to know no key, or else any of ``crowd``.
    """

    reason: str
    strangers: Container[str] = ()
    crowd: Container[str] = ()


class Admission:
    """Knows the connections that are up by their names, and counts the offences."""

    def __init__(self) -> None:
        self._up: dict[str, list[str]] = {}
        self._bans = Bans()
        self._offences = Bans()

    def refusal(self, host: str) -> Refusal | None:
        """Return why a connection from ``host`` is not accepted now, None when it is."""
        network = network_of(host)
        if network in self._bans:
            return Refusal("peers there misbehaved lately")
        most = MAX_OF_MACHINE if network is None else MAX_OF_NETWORK
        from_there = self._up.get(network or _MACHINE, [])
        if len(from_there) >= most:
            return Refusal(f"{most} connections from there are up", from_there)
        if sum(map(len, self._up.values())) >= MAX_ACCEPTED:
            crowd = max(self._up.values(), key=len)
            return Refusal(
                f"{MAX_ACCEPTED} connections are up",
                set(chain.from_iterable(self._up.values())),
                crowd if len(crowd) > len(from_there) + 1 else (),
            )
        return None

    @contextmanager
    def admitted(self, host: str, name: str) -> Iterator[None]:
        """Count a connection from ``host`` within this block. By uTP several have one ``name``, and one port."""
        network = network_of(host) or _MACHINE
        self._up.setdefault(network, []).append(name)
        try:
            yield
        finally:
            self._up[network].remove(name)
            if not self._up[network]:
                del self._up[network]

    def note_offence(self, host: str) -> None:
        """Note that a peer at ``host`` broke the rules."""
        network = network_of(host)
        if network is None:
            return
        for number in range(1, MAX_OFFENCES):
            if f"{network} {number}" not in self._offences:
                self._offences.add(f"{network} {number}")
                return
        self._bans.add(network)


def network_of(host: str) -> str | None:
    """Return what stands for all addresses that ``host``'s owner has; None for this machine, or for no address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return None
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
