"""The nodes that one node knows: Kademlia by XOR of 32-byte ids, buckets of 20.

The rules: all that share equally many leading bits with our own id are one bucket, so those near to us are known better
than those far off; a full bucket takes nobody up before one of its own was found to be silent. Whoever was heard of
last stands last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.datagrams import ID_BYTES, NodeAddress

BUCKET_NODES: Final = 20
_ID_BITS: Final = 8 * ID_BYTES


@dataclass(slots=True)
class Contact:
    """A node as it was heard of last, at ``heard_at`` (seconds). ``sees_us_at`` is our address in its datagrams."""

    id: bytes
    number: int
    address: Address
    heard_at: float
    sees_us_at: Address | None = None


class RoutingTable:
    """What one node with the 32-byte id ``own_id`` knows of others."""

    def __init__(self, own_id: bytes) -> None:
        self.own_id = own_id
        self._own = int.from_bytes(own_id, "big")
        self._buckets: list[dict[bytes, Contact]] = []
        """By how many leading bits are shared, as far down as anybody was heard of."""
        self._heard: dict[bytes, Contact] = {}
        self._seen_at: Address | None = None

    def __len__(self) -> int:
        return len(self._heard)

    def __iter__(self) -> Iterator[Contact]:
        """Yield all contacts, the least recently heard of first."""
        return iter(self._heard.values())

    def get(self, node_id: bytes) -> Contact | None:
        """Return what is known of a node."""
        return self._heard.get(node_id)

    def has_room(self, node_id: bytes) -> bool:
        """Tell whether a node that is not known would be taken up."""
        number = int.from_bytes(node_id, "big")
        return number != self._own and len(self._bucket(number)) < BUCKET_NODES

    def latest(self, most: int) -> list[Contact]:
        """Return the contacts heard of last, newest first."""
        return list(islice(reversed(self._heard.values()), most))

    def heard(self, node_id: bytes, address: Address, now: float, sees_us_at: Address | None) -> list[Contact]:
        """Note that a node was heard of. Empty when it is in the table now.

        Otherwise its bucket is full: the contacts of it least recently heard of come back, first the oldest; one that
        turns out to be silent makes room.
        """
        there = self._heard.get(node_id)
        if there is not None:
            there.address, there.heard_at = address, now
            if sees_us_at is not None:
                there.sees_us_at = self._same(sees_us_at)
            self._heard[node_id] = self._heard.pop(node_id)
            bucket = self._bucket(there.number)
            bucket[node_id] = bucket.pop(node_id)
            return []
        number = int.from_bytes(node_id, "big")
        if number == self._own:
            return []
        bucket = self._bucket(number)
        if len(bucket) >= BUCKET_NODES:
            return list(bucket.values())
        self._heard[node_id] = bucket[node_id] = Contact(node_id, number, address, now, self._same(sees_us_at))
        return []

    def _same(self, sees_us_at: Address | None) -> Address | None:
        """Return that address, one and the same object for all who see us there: nearly everybody."""
        if sees_us_at != self._seen_at:
            self._seen_at = sees_us_at
        return self._seen_at

    def remove(self, node_id: bytes) -> None:
        """Forget a node, if it is known."""
        contact = self._heard.pop(node_id, None)
        if contact is not None:
            del self._bucket(contact.number)[node_id]

    def closest(self, target: bytes, most: int = BUCKET_NODES) -> list[Contact]:
        """Return the contacts nearest to a 32-byte ``target``, nearest first."""
        number = int.from_bytes(target, "big")
        shared = _ID_BITS - (number ^ self._own).bit_length()
        found = self._sorted(self._buckets[shared : shared + 1], number)
        if len(found) < most:
            found += self._sorted(self._buckets[shared + 1 :], number)
        for bucket in reversed(self._buckets[:shared]):
            if len(found) >= most:
                break
            found += self._sorted([bucket], number)
        return found[:most]

    @staticmethod
    def _sorted(buckets: list[dict[bytes, Contact]], number: int) -> list[Contact]:
        contacts = [contact for bucket in buckets for contact in bucket.values()]
        contacts.sort(key=lambda contact: contact.number ^ number)
        return contacts

    def _bucket(self, number: int) -> dict[bytes, Contact]:
        shared = _ID_BITS - (number ^ self._own).bit_length()
        while len(self._buckets) <= shared:
            self._buckets.append({})
        return self._buckets[shared]


def node_addresses(contacts: list[Contact]) -> tuple[NodeAddress, ...]:
    """Return contacts as datagrams tell of them."""
    return tuple(NodeAddress(contact.id, contact.address) for contact in contacts)
