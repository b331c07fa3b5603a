"""Who is in a node's table: whoever has answered, as long as he goes on to.

The rule: nobody makes room for another before he was asked, and said nothing.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.datagrams import Datagram, Kind
from hyperfs.swarm.dht.requests import Asked
from hyperfs.swarm.dht.table import Contact
from hyperfs.swarm.dht.timers import Timers

if TYPE_CHECKING:
    from hyperfs.swarm.dht.node import DhtNode

TICK_SECONDS: Final = 5.0
"""How often `Keeping.tick` is to be called."""
_PING_TICKS: Final = 8
_JOIN_TICKS: Final = 64
_FEW_NODES: Final = 20
_PINGED: Final = 5
_PINGED_WHEN_BUSY: Final = 3
_PINGED_OF_BUCKET: Final = 3
_MAX_CHECKED_BUCKETS: Final = 8
_MAX_NEWCOMERS: Final = 16
"""Whom nobody else has spoken of, and who are pinged at one time to see whether they are there."""


class Keeping:
    """Keeps the table of ``node``."""

    def __init__(self, node: DhtNode, timers: Timers) -> None:
        self._node = node
        self._timers = timers
        self._checked_buckets: set[bytes] = set()
        self._newcomers: set[Address] = set()
        self._ticks = 0
        self._closed = False

    def close(self) -> None:
        """Take nobody in any more."""
        self._closed = True

    def asked_by(self, datagram: Datagram, source: Address) -> None:
        """Take up who asked us something, once he has shown to be there."""
        if datagram.id is None or datagram.id == self._node.id:
            return
        # A token is of this very address; that somebody there has answered before says nothing of who sends this.
        is_there = datagram.kind is Kind.UPDATE or self._node.table.get(datagram.id) is not None
        if is_there:
            self.heard(datagram, source)
        elif (
            self._node.table.has_room(datagram.id)
            and source not in self._newcomers
            and len(self._newcomers) < _MAX_NEWCOMERS
        ):
            self._newcomers.add(source)
            self._node.ping(Asked(source, datagram.id), lambda answer: self._newcomers.discard(source))

    def forget(self, node_id: bytes, address: Address) -> None:
        """Have nobody in the table who did not answer at ``address``, or is another one there."""
        known = self._node.table.get(node_id)
        if known is not None and known.address == address:
            self._node.table.remove(node_id)

    def heard(self, datagram: Datagram, source: Address) -> None:
        """Take up who answered us, or go on with him."""
        if datagram.id is None or datagram.id == self._node.id:
            return
        known = self._node.table.get(datagram.id)
        if known is not None and known.address != source:
            return  # nobody takes another's place by using his id
        full = self._node.table.heard(datagram.id, source, self._timers.now(), datagram.to)
        if full and self._node.bootstrapped:
            self._make_room(full, datagram, source)

    def _make_room(self, bucket: list[Contact], newcomer: Datagram, source: Address) -> None:
        """Ping the oldest of a full bucket in turn; the newcomer takes the place of the first that is silent."""
        first = bucket[0].id
        if first in self._checked_buckets or len(self._checked_buckets) >= _MAX_CHECKED_BUCKETS:
            return
        just_now = self._timers.now() - TICK_SECONDS
        oldest = [contact for contact in bucket[:_PINGED_OF_BUCKET] if contact.heard_at < just_now]
        self._checked_buckets.add(first)

        def check() -> None:
            if not oldest:
                self._checked_buckets.discard(first)
                return
            contact = oldest.pop(0)
            self._node.ping(Asked(contact.address, contact.id), partial(checked, contact), urgent=True)

        def checked(contact: Contact, answer: Datagram | None) -> None:
            if answer is not None and answer.id == contact.id:
                check()
                return
            self._checked_buckets.discard(first)
            if not self._closed:
                self.heard(newcomer, source)

        check()

    def tick(self) -> None:
        """See now and then whether those are there of whom nothing was heard for longest, and whether there are any."""
        self._ticks += 1
        if self._ticks % _PING_TICKS == 0:
            self._ping_oldest()
        if self._ticks % _JOIN_TICKS == 0 and len(self._node.table) < _FEW_NODES:
            self._node.join()

    def _ping_oldest(self) -> None:
        if not len(self._node.table):
            self._node.join()
            return
        just_now = self._timers.now() - TICK_SECONDS
        most = _PINGED_WHEN_BUSY if self._node.walks > 2 else _PINGED
        for contact in [contact for contact in islice(self._node.table, most) if contact.heard_at < just_now]:
            self._node.ping(Asked(contact.address, contact.id), lambda answer: None)
