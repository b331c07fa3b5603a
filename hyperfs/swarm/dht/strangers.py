"""Whether those reach us to whom we have sent nothing, as they do behind a router that lets everybody through.

The way: each of a few nodes is asked for one that we have sent nothing lately, and passes a `_holepunch` on to it. The
answer to that comes from a host for which no router has opened anything on our account.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.datagrams import Datagram, decode_nodes
from hyperfs.swarm.dht.table import Contact
from hyperfs.swarm.reach import may_dial

MAX_TRIED: Final = 6
"""How many nodes are asked to pass it on."""
LEAST_HEARD: Final = 3
"""How many strangers have to be heard of them: one that we took for a stranger may not have been one."""
SENT_SECONDS: Final = 900.0
"""For longer than this no router lets answers through to who has sent nothing more."""
MAX_HOSTS: Final = 8192


class SentTo:
    """The hosts that something was sent to within `SENT_SECONDS`; at most `MAX_HOSTS` are known by name."""

    def __init__(self) -> None:
        self._sent_at: OrderedDict[str, float] = OrderedDict()
        self._forgotten_at = -SENT_SECONDS

    def note(self, host: str, now: float) -> None:
        """Note that something is sent to ``host``."""
        self._sent_at[host] = now
        self._sent_at.move_to_end(host)
        if len(self._sent_at) > MAX_HOSTS:
            self._forgotten_at = self._sent_at.popitem(last=False)[1]

    def may_include(self, host: str, now: float) -> bool:
        """Tell whether ``host`` is among them, or may be one of those that there was no room for."""
        return max(self._sent_at.get(host, -SENT_SECONDS), self._forgotten_at) + SENT_SECONDS > now


class Asker(Protocol):
    """What a `Trial` asks others by: a node."""

    def find(self, contact: Contact, done: Callable[[Datagram | None], None]) -> None:
        """Ask a node that we know for some others; ``done`` gets the answer, or None for none."""

    def hear(self, stranger: Address, referrer: Address, done: Callable[[bool], None]) -> None:
        """Have ``referrer`` tell ``stranger`` to answer us; ``done`` is told whether he was heard."""

    def is_stranger(self, host: str) -> bool:
        """Tell whether ``host`` was sent nothing lately."""


class Trial:
    """One look whether strangers reach us, by the help of ``contacts``; ``done`` is told, in half a minute at most."""

    def __init__(self, asker: Asker, contacts: Sequence[Contact], done: Callable[[bool], None]) -> None:
        self._asker = asker
        self._contacts = list(contacts[:MAX_TRIED])
        self._done = done
        self._tried: set[str] = set()
        self._heard = 0
        self._open = len(self._contacts)

    def start(self) -> None:
        """Begin to ask."""
        if not self._contacts:
            self._done(False)
        for contact in self._contacts:
            self._ask(contact)

    def _ask(self, contact: Contact) -> None:
        def found(answer: Datagram | None) -> None:
            stranger = None if answer is None else self._choose(answer, contact.address)
            if stranger is None:
                self._over(heard=False)
                return
            self._tried.add(stranger.host)
            self._asker.hear(stranger, contact.address, lambda heard: self._over(heard=heard))

        self._asker.find(contact, found)

    def _choose(self, answer: Datagram, told_by: Address) -> Address | None:
        for node in decode_nodes(answer.closer):
            host = node.address.host
            if (
                host != told_by.host
                and host not in self._tried
                and self._asker.is_stranger(host)
                and may_dial(node.address, told_by=told_by.host, own=())
            ):
                return node.address
        return None

    def _over(self, *, heard: bool) -> None:
        self._heard += heard
        self._open -= 1
        if not self._open:
            self._done(self._heard >= LEAST_HEARD)
