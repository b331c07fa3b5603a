"""A trie whose owner is hostile: nodes that no honest writer makes, signed as a real key could, walked in every way.

Whatever its nodes hold, each walk ends, in an answer or in an error that says what is wrong; no turn of it is long; and
a peer that is asked about such a trie answers a little at a time.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from google.protobuf.message import DecodeError

from hyperfs.errors import HyperfsError
from hyperfs.trie import (
    Delete,
    DeleteTree,
    Header,
    HypertrieExtension,
    NodeCache,
    Put,
    Trie,
    encode_batch,
    messages_pb2,
)
from hyperfs.trie.paths import Hashing, Path
from tests.support.scheduling import Schedule
from tests.support.sparse_core import SparseCore
from tests.support.turns import STEPS_A_MILLISECOND, TurnMeter, bounded_memory, measure

SEEDS = 60
TURN_MILLISECONDS = 20
_MEMORY_BYTES = 256 << 20
_NODES_LOOKED_AT = 3000
"""How many nodes of one walk are looked at: an owner may well have a trie of many."""
_NUMBERS = [0, 0, 1, 1, 2, 3, 5, 31, 32, 33, 64, 65, 1 << 16, 1 << 31, 1 << 32, (1 << 64) - 1]
_LONG = [30, 300, 2040]
"""Parts of a deep key; one of more is refused before it costs anything."""


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    meter = TurnMeter()
    schedule = Schedule(seed)
    machine = Machine(schedule.chance, schedule.told, meter)
    with bounded_memory(_MEMORY_BYTES), meter.counting():
        schedule.run(machine.run)
    milliseconds = meter.longest / STEPS_A_MILLISECOND
    schedule.tell(f"the longest turn took {meter.longest} steps, {milliseconds:.1f} ms")
    assert milliseconds <= TURN_MILLISECONDS, "\n".join(schedule.told)
    return "\n".join(schedule.told)


class Machine:
    """One run."""

    def __init__(self, chance: random.Random, told: list[str], meter: TurnMeter) -> None:
        self.chance = chance
        self.told = told
        self.meter = meter
        self.keys: list[str] = []

    async def run(self) -> None:
        trio.lowlevel.add_instrument(self.meter)
        blocks = await self.make()
        held = None if self.chance.random() < 0.6 else self.chance.sample(range(len(blocks)), len(blocks) // 2)
        core = SparseCore(blocks, held=held)
        trie = Trie(core, core.length, NodeCache(self.chance.choice([1, 1 << 16, 1 << 22])))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.walk, trie)

    # What is in the trie

    async def make(self) -> list[bytes]:
        """Return an honest trie, of whose nodes some are bent, or that goes on with what is no honest node."""
        self.keys = [self.key() for _ in range(self.chance.choice([3, 20, 100]))]
        core = SparseCore([Header().encode()])
        puts = [Put(key, b"v") for key in self.keys if key.strip("/")]
        try:
            blocks = core.blocks + await encode_batch(Trie(core, 1, NodeCache()), puts)
        except HyperfsError as error:
            self.told.append(f"not to be put: {error!s:.80}")
            blocks = core.blocks
        for _ in range(self.chance.choice([0, 1, 5, 40])):
            at = self.chance.randrange(1, len(blocks) + 1)
            if at == len(blocks):
                blocks.append(self.forged(at, None))
            else:
                blocks[at] = self.forged(at, blocks[at])
        self.told.append(f"{len(blocks)} blocks, {sum(map(len, blocks))} bytes")
        return blocks

    def key(self) -> str:
        chance = self.chance
        if self.keys and chance.random() < 0.5:
            return chance.choice(self.keys) + "/" + chance.choice("abc")
        depth = chance.choice(_LONG) if chance.random() < 0.02 else chance.choice([1, 1, 2, 3, 8])
        return "/".join(chance.choice(["a", "b", "c", "", "é", "name" * 9]) for _ in range(depth)) or "x"

    def forged(self, seq: int, honest: bytes | None) -> bytes:
        chance = self.chance
        if chance.random() < 0.05:
            return chance.choice([b"", chance.randbytes(40), b"\x0a\x01k" * 50_000, bytes(1 << 20)])
        node = messages_pb2.Node(key=b"a")
        with suppress(DecodeError):  # what was forged before stays what it is
            node.MergeFromString(honest or b"")
        words = list(node.trieBuffer) or [0]
        for _ in range(chance.choice([0, 1, 1, 2, 9])):
            words[chance.randrange(len(words))] = chance.choice([*_NUMBERS, seq, seq - 1, chance.randrange(seq + 1)])
        bend = chance.randrange(9)
        if bend == 0:
            node.key = self.key().encode()
        elif bend == 1:
            node.key = b"/".join([b"a"] * chance.choice([*_LONG, 3000, 30_000]))
        elif bend == 2:
            words = self.linked_everywhere(node.key, seq)
        elif bend == 3:
            words += [0, 0] * chance.choice([1, 100, 40_000])
        elif bend == 4:
            del words[chance.randrange(len(words)) :]
        elif bend == 5:
            node.valueBuffer = bytes(chance.choice([0, 1, 1 << 20]))
        del node.trieBuffer[:]
        node.trieBuffer.extend(words)
        return node.SerializeToString()

    def linked_everywhere(self, key: bytes, seq: int) -> list[int]:
        """Return links of every slot of every place, to nodes that are older."""
        if seq < 2 or key.count(b"/") >= 60:
            return [0]
        length = Path.of(key.decode("utf-8", "replace"), Hashing()).length
        words = [length]
        for position in range(length):
            words += [position, 31, *(self.chance.randrange(1, seq) for _ in range(5))]
        return words

    # How it is walked

    async def walk(self, trie: Trie) -> None:
        measure()
        older = trie.checkout(self.chance.randrange(trie.version))
        walks: list[Callable[[], Awaitable[Any]]] = [
            lambda: _drain(trie.iterate()),
            lambda: _drain(trie.iterate(reverse=True, gt=True)),
            lambda: _drain(trie.iterate(self.any_key(), recursive=False)),
            lambda: _drain(trie.diff(older)),
            lambda: _drain(older.diff(trie)),
            lambda: _drain(trie.history()),
            lambda: _drain(trie.history(reverse=True)),
            lambda: encode_batch(trie, [Put("new/name", b"v"), Delete(self.any_key()), DeleteTree("a")]),
            lambda: self.answer(trie),
        ]
        walks += [lambda: trie.get(self.any_key())] * 5
        for walk in self.chance.sample(walks, len(walks)):
            try:
                await walk()
            except HyperfsError as error:
                self.told.append(f"{type(error).__name__}: {error!s:.100}")
            await trio.lowlevel.checkpoint()

    def any_key(self) -> str:
        return self.chance.choice(self.keys) if self.chance.random() < 0.7 else self.key()

    async def answer(self, trie: Trie) -> None:
        """Answer a peer's questions about it."""
        extension = messages_pb2.Extension
        for question in (
            extension(get=extension.Get(head=trie.head_seq, key=self.any_key().encode())),
            extension(iterator=extension.Iterator(head=trie.head_seq, key=self.any_key().encode())),
        ):
            _, questions = HypertrieExtension().receive(trie.core, question.SerializeToString())
            for steps in questions:
                for _ in steps:
                    await trio.lowlevel.checkpoint()


async def _drain(items: Any) -> None:
    looked_at = 0
    async for _ in items:
        looked_at += 1
        if looked_at >= _NODES_LOOKED_AT:
            return
