"""What a node keeps for others: who announced a topic, and small values.

The rules: everything has a bound, and the oldest goes. Announcements live in two generations, so that each is told of
for 8 to 16 minutes. A local address is told only to who has the public address of the one who announced it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, OrderedDict
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

_Records = dict[bytes, dict[bytes, None]]
"""Records by name: a topic, or a topic with what a local address has in common with others."""


class Announcements:
    """Who announced what: at most `MAX_RECORDS` records in each of two generations."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._fresh: _Records = {}
        self._stale: _Records = {}
        self._fresh_count = 0
        self._of_host: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._fresh.values())) + sum(map(len, self._stale.values()))

    def age(self) -> None:
        """Begin a new generation and forget the one before the last."""
        self._stale, self._fresh, self._fresh_count = self._fresh, {}, 0
        self._of_host.clear()

    def update(self, topic: bytes, announced: PeersInput, source: Address) -> None:
        """Add, or take away, what ``source`` says of a ``topic``."""
        host = encode_address(source)[: ADDRESS_BYTES - 2]
        for name, record in self._names(topic, announced, source):
            there = self._fresh.get(name)
            if announced.unannounce:
                for records in (self._fresh, self._stale):
                    self._remove(records, name, record)
            elif (there is None or record not in there) and self._of_host[host] < MAX_RECORDS_OF_HOST:
                self._of_host[host] += 1
                self._fresh.setdefault(name, {})[record] = None
                self._fresh_count += 1
                self._remove(self._stale, name, record)
                if self._fresh_count > MAX_RECORDS:
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
        found = [record for records in (self._fresh, self._stale) for record in records.get(name, ()) if record != but]
        return self._random.sample(found, min(most, len(found)))

    def _remove(self, records: _Records, name: bytes, record: bytes) -> None:
        there = records.get(name)
        if there is None or record not in there:
            return
        del there[record]
        if records is self._fresh:
            self._fresh_count -= 1
        if not there:
            del records[name]


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
