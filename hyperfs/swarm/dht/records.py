"""What a node keeps for others: who announced a topic, and small values.

The rules: everything has a bound, and the oldest goes. Announcements live in two generations, so that each is told of
for 8 to 16 minutes. A local address is told only to who has the public address of the one who announced it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final

from hyperfs.crypto import HASH_BYTES, verify
from hyperfs.swarm.addresses import ADDRESS_BYTES, Address, encode_address
from hyperfs.swarm.dht.datagrams import MAX_VALUE_BYTES, Mutable, PeersInput, PeersOutput

GENERATION_SECONDS: Final = 480.0
MAX_RECORDS: Final = 65_536
MAX_RECORDS_OF_HOST: Final = 2048
"""Of one generation; the reference lets one host fill it."""
MAX_TOLD: Final = 128
MAX_LOCAL_TOLD: Final = 32
MAX_VALUES: Final = 5000
"""Values of one generation; there are two."""
INVALID_INPUT: Final = "ERR_INVALID_INPUT"
INVALID_SEQ: Final = "ERR_INVALID_SEQ"
SEQ_MUST_EXCEED: Final = "ERR_SEQ_MUST_EXCEED_CURRENT"
_LOCAL_PREFIX_BYTES: Final = 2


class _Members:
    """Records of one name, of which any can be picked, added and taken away at once, however many there are."""

    __slots__ = ("_places", "all")

    def __init__(self) -> None:
        self.all: list[bytes] = []
        self._places: dict[bytes, int] = {}

    def __contains__(self, record: bytes) -> bool:
        return record in self._places

    def add(self, record: bytes) -> None:
        """Add one that is not there."""
        self._places[record] = len(self.all)
        self.all.append(record)

    def remove(self, record: bytes) -> None:
        """Take one away that is there; the last takes its place."""
        last = self.all.pop()
        place = self._places.pop(record)
        if last != record:
            self.all[place] = last
            self._places[last] = place


class _Generation:
    """Records by name: a topic, or a topic with what a local address has in common with others."""

    def __init__(self) -> None:
        self.count = 0
        self._names: dict[bytes, _Members] = {}

    def of(self, name: bytes) -> Sequence[bytes]:
        """Return the records of a name, in no order."""
        members = self._names.get(name)
        return () if members is None else members.all

    def add(self, name: bytes, record: bytes) -> bool:
        """Add a record; tell whether it is new."""
        members = self._names.setdefault(name, _Members())
        if record in members:
            return False
        members.add(record)
        self.count += 1
        return True

    def has(self, name: bytes, record: bytes) -> bool:
        """Tell whether a record is there."""
        return name in self._names and record in self._names[name]

    def remove(self, name: bytes, record: bytes) -> bool:
        """Take a record away; tell whether it was there."""
        if not self.has(name, record):
            return False
        members = self._names[name]
        members.remove(record)
        if not members.all:
            del self._names[name]
        self.count -= 1
        return True


class Announcements:
    """Who announced what: at most `MAX_RECORDS` records in each of two generations."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._fresh = _Generation()
        self._stale = _Generation()
        self._of_host: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return self._fresh.count + self._stale.count

    def age(self) -> None:
        """Begin a new generation and forget the one before the last."""
        self._stale, self._fresh = self._fresh, _Generation()
        self._of_host.clear()

    def update(self, topic: bytes, announced: PeersInput, source: Address) -> None:
        """Add, or take away, what ``source`` says of a ``topic``."""
        host = encode_address(source)[: ADDRESS_BYTES - 2]
        for name, record in self._names(topic, announced, source):
            if announced.unannounce:
                self._of_host[host] -= self._fresh.remove(name, record)
                self._stale.remove(name, record)
            elif self._of_host[host] < MAX_RECORDS_OF_HOST and self._fresh.add(name, record):
                self._of_host[host] += 1
                self._stale.remove(name, record)
                if self._fresh.count > MAX_RECORDS:
                    self.age()

    def told(self, topic: bytes, asked: PeersInput, source: Address) -> PeersOutput:
        """Return what ``source`` is told of a ``topic``: a random choice, without himself."""
        names = self._names(topic, asked, source)
        local = self._some(*names[1], MAX_LOCAL_TOLD) if len(names) > 1 else []
        peers = self._some(*names[0], MAX_TOLD - len(local))
        return PeersOutput(b"".join(peers), b"".join(local))

    @staticmethod
    def _names(topic: bytes, said: PeersInput, source: Address) -> list[tuple[bytes, bytes]]:
        """Return (name, record) for the public address, and for the local one where there is one."""
        port = said.port or source.port
        names = [(topic, encode_address(Address(source.host, port)))]
        if said.local is not None:
            local = encode_address(said.local)
            public = encode_address(source)[: ADDRESS_BYTES - 2]
            names.append((topic + public + local[:_LOCAL_PREFIX_BYTES], local[_LOCAL_PREFIX_BYTES:]))
        return names

    def _some(self, name: bytes, but: bytes, most: int) -> list[bytes]:
        fresh, stale = self._fresh.of(name), self._stale.of(name)
        count = len(fresh) + len(stale)
        places = self._random.sample(range(count), min(most + 1, count))
        found = [fresh[place] if place < len(fresh) else stale[place - len(fresh)] for place in places]
        return [record for record in found if record != but][:most]


class Values:
    """Values that anybody may store: `MAX_VALUES` to twice as many, those used least recently go."""

    def __init__(self) -> None:
        self._values: OrderedDict[bytes, bytes | Mutable] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def immutable(self, target: bytes) -> bytes | None:
        """Return the value whose hash is ``target``."""
        found = self._find(b"i" + target)
        return found if isinstance(found, bytes) else None

    def put_immutable(self, target: bytes, value: bytes) -> str | None:
        """Keep a value; return the error when it is not what ``target`` is the hash of, or too long."""
        if len(value) > MAX_VALUE_BYTES or immutable_target(value) != target:
            return INVALID_INPUT
        self._keep(b"i" + target, value)
        return None

    def mutable(self, target: bytes, asked: Mutable) -> Mutable | None:
        """Return the value of the key ``target`` and the salt asked for, if it is not older than asked for."""
        found = self._find(_mutable_name(target, asked))
        return found if isinstance(found, Mutable) and found.seq >= asked.seq else None

    def put_mutable(self, target: bytes, record: Mutable) -> tuple[str | None, Mutable | None]:
        """Keep a signed value; return the error, and with it the record that stands in its way."""
        if record.value is None or record.signature is None or not verify(record.signable(), record.signature, target):
            return INVALID_INPUT, None
        name = _mutable_name(target, record)
        there = self._find(name)
        if isinstance(there, Mutable):
            if there.seq == record.seq and there.value != record.value:
                return INVALID_SEQ, there
            if there.seq >= record.seq:
                return SEQ_MUST_EXCEED, there
        self._keep(name, record)
        return None, None

    def _find(self, name: bytes) -> bytes | Mutable | None:
        found = self._values.get(name)
        if found is not None:
            self._values.move_to_end(name)
        return found

    def _keep(self, name: bytes, value: bytes | Mutable) -> None:
        self._values[name] = value
        self._values.move_to_end(name)
        while len(self._values) > 2 * MAX_VALUES:
            self._values.popitem(last=False)


def immutable_target(value: bytes) -> bytes:
    """Return the 32 bytes under which an immutable value is stored."""
    return hashlib.blake2b(value, digest_size=HASH_BYTES).digest()


def _mutable_name(target: bytes, record: Mutable) -> bytes:
    return b"m" + target + (record.salt or b"")
