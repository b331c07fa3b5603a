"""Which of the addresses that somebody tells of are dialled.

The rule: nobody makes us dial where he could not be himself. A stranger on the internet tells of public addresses only,
a neighbour of private ones too, and of loopback who is on it; our own address, and what no peer can have, is left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container
from enum import IntEnum

from hyperfs.swarm.addresses import Address


class Scope(IntEnum):
    """From how far an address can be reached."""

    NOWHERE = 0
    MACHINE = 1
    NETWORK = 2
    INTERNET = 3


def scope_of(host: str) -> Scope:
    """Return the scope of an IPv4 address."""
    address = ipaddress.IPv4Address(host)
    if address.is_multicast or address.is_unspecified or address == ipaddress.IPv4Address("255.255.255.255"):
        return Scope.NOWHERE
    if address.is_loopback:
        return Scope.MACHINE
    return Scope.INTERNET if address.is_global else Scope.NETWORK


def may_dial(address: Address, *, told_by: str | None, own: Container[Address]) -> bool:
    """Tell whether ``address`` is dialled, of which the host ``told_by`` (None: this process) told.

    ``own`` are the addresses at which this process listens.
    """
    scope = scope_of(address.host)
    teller = Scope.MACHINE if told_by is None else scope_of(told_by)
    return 0 < address.port < 1 << 16 and scope >= max(teller, Scope.MACHINE) and address not in own
