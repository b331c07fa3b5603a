"""Blocks that are appended, stored, cleared, read, audited and synced at once, in a core of ours and in a reader's.

Each core is worked on by several tasks, and in some runs closed under them. What has to hold:

- what is read is what was appended, whatever is cleared, fetched again or audited meanwhile;
- a block that nobody clears stays, and is read without anybody being asked;
- blocks of one append lie together, in order, and are appended once, or not at all when it says so;
- who waits when a core is closed hears that it is closed, and nothing else goes wrong;
- after a kill or a power failure at any moment a core opens whole, with all that was synced.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from hyperfs.core.core import Core
from hyperfs.core.reader import CoreReader, Hint, Priority
from hyperfs.errors import BlockNotAvailable, Closed, ConflictingLength, InvalidKey
from hyperfs.storage import MemoryDirectory
from tests.support.cores import KEYS, received, writer
from tests.support.crashes import Replay
from tests.support.scheduling import Schedule
from tests.support.slow_files import SlowDirectory

SEEDS = 200
_CRASHES = 3
_THREADS = "_THREAD_BYTES"


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    schedule = Schedule(seed)
    machine = (OwnCore if schedule.chance.random() < 0.5 else ReadersCore)(schedule)
    with _threads_from(schedule.chance.choice((0, 100, 1 << 20))):
        schedule.run(machine.run)
    return "\n".join(schedule.told)


@contextmanager
def _threads_from(byte_count: int) -> Iterator[None]:
    """Let what hashes and writes as many bytes do so in a thread, as it does with many more."""
    modules = [module for name, module in sys.modules.items() if name.startswith("hyperfs.core.")]
    kept = [(module, module.__dict__[_THREADS]) for module in modules if _THREADS in module.__dict__]
    assert kept, "nothing goes to a thread any more, or what says so has another name"
    for module, _ in kept:
        setattr(module, _THREADS, byte_count)
    try:
        yield
    finally:
        for module, before in kept:
            setattr(module, _THREADS, before)


class Blocks(ABC):
    """One core, and what has been done to it."""

    core: Core

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.chance = schedule.chance
        self.directory = SlowDirectory(schedule)
        self.known: dict[int, bytes] = {}
        """The blocks that were appended, by index."""
        self.read: dict[int, bytes] = {}
        """What was read before it was known what had been appended there."""
        self.clears: dict[int, int] = {}
        """How often each block was, or is being, cleared."""
        self.clearing: dict[int, int] = {}
        """How many are clearing it now."""
        self.promised: list[tuple[int, int, dict[int, int]]] = []
        """Where in the list of operations a sync had ended; how long the core was and what it had when that began."""
        self.is_closing = False

    async def run(self) -> None:
        with self.schedule.quiet():
            await self.begin()
        async with trio.open_nursery() as nursery:
            for work in self.works():
                nursery.start_soon(self._work, work)
            if self.chance.random() < 0.3:
                nursery.start_soon(self._close)
        with self.schedule.quiet():
            if not self.is_closing:
                await self.check_end()
                await self.core.close()
            await self.check_crashes()

    @abstractmethod
    async def begin(self) -> None:
        """Make the core and what the run needs besides."""

    @abstractmethod
    def works(self) -> list[Callable[[], Awaitable[None]]]:
        """Return what the tasks of a run do, each again and again."""

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        for _ in range(self.chance.randrange(1, 9)):
            for _ in range(self.chance.randrange(3)):
                await trio.lowlevel.checkpoint()
            await self.schedule.turns()
            try:
                await work()
            except Closed:
                assert self.is_closing, "it says that it is closed, and nobody closed it"
                return

    async def _close(self) -> None:
        for _ in range(self.chance.randrange(40)):
            await trio.lowlevel.checkpoint()
        self.is_closing = True
        self.tell("close")
        await self.core.close()
        self.tell("closed")

    def tell(self, what: str) -> None:
        self.schedule.tell(what)

    def _some(self) -> range:
        start = self.chance.randrange(max(1, self.core.length))
        return range(start, min(self.core.length, start + self.chance.choice((1, 1, 3, 9))))

    # What is done to either

    async def get(self) -> None:
        if not self.core.length:
            return
        index = self.chance.randrange(self.core.length)
        before = self.clears.get(index, 0)
        is_here = self.core.has(index, index + 1) and not self.clearing.get(index)
        try:
            block = await self.core.get(index)
        except BlockNotAvailable:
            was_cleared = self.clears.get(index, 0) > before
            assert was_cleared or not is_here, f"block {index} was here, and nobody cleared it"
            return
        self.tell(f"got {index}")
        if index in self.known:
            assert block == self.known[index], f"block {index} is read as {block!r}, not {self.known[index]!r}"
        else:
            self.read[index] = block

    async def clear(self) -> None:
        blocks = self._some()
        for index in blocks:
            self.clears[index] = self.clears.get(index, 0) + 1
            self.clearing[index] = self.clearing.get(index, 0) + 1
        self.tell(f"clear {blocks}")
        try:
            await self.core.clear_all([blocks])
        finally:
            for index in blocks:
                self.clearing[index] -= 1
        self.tell(f"cleared {blocks}")

    async def sync(self) -> None:
        length, here = self.core.length, self._here()
        await self.core.sync()
        self.promised.append((len(self.directory.operations), length, here))
        self.tell(f"synced {length}")

    async def audit(self) -> None:
        bad = await self.core.audit()
        assert not bad, f"an audit says that blocks {bad} are damaged"
        self.tell("audited")

    def _here(self) -> dict[int, int]:
        """Return the blocks that are here and that nobody is clearing, and how often each was cleared."""
        return {
            index: self.clears.get(index, 0)
            for index in range(self.core.length)
            if self.core.has(index, index + 1) and not self.clearing.get(index)
        }

    # Afterwards

    async def check_end(self) -> None:
        for index, block in self.read.items():
            assert block == self.known[index], f"block {index} was read as {block!r}, not {self.known[index]!r}"
        for index in range(self.core.length):
            if self.core.has(index, index + 1):
                found = await self.core.get(index)
                assert found == self.known[index], f"block {index} is {found!r}, not {self.known[index]!r}"
        assert await self.core.audit() == []

    async def check_crashes(self) -> None:
        operations = self.directory.operations
        replay = Replay(operations)
        for position in sorted(self.chance.randrange(len(operations) + 1) for _ in range(_CRASHES)):
            replay.advance(position)
            for what, left in (("kill", replay.killed()), ("power failure", replay.lost_power(self.chance))):
                try:
                    await self.check_left(left, position)
                except BaseException as error:
                    error.add_note(f"after a {what} at operation {position} of {len(operations)}")
                    raise

    async def check_left(self, left: MemoryDirectory, position: int) -> None:
        promised = [(length, here) for at, length, here in self.promised if at <= position]
        try:
            core = await Core.open(left)
        except InvalidKey:
            assert not promised, "nothing is left of it"
            return
        synced = max((length for length, _ in promised), default=0)
        assert core.length >= synced, f"{synced} blocks were synced, and {core.length} are left"
        bad = await core.audit()
        assert not bad, f"an audit of what is left says that blocks {bad} are damaged"
        for index in range(core.length):
            if core.has(index, index + 1) and index in self.known:
                found = await core.get(index)
                assert found == self.known[index], f"block {index} is {found!r}, not {self.known[index]!r}"
        for length, here in promised[-1:]:
            for index, clears in here.items():
                if index < length and self.clears.get(index, 0) == clears:
                    assert core.has(index, index + 1), f"block {index} was synced, and is gone"
        core.close_without_sync()


class OwnCore(Blocks):
    """A core that is appended to."""

    async def begin(self) -> None:
        self.core = await Core.open(self.directory, key_pair=KEYS)

    def works(self) -> list[Callable[[], Awaitable[None]]]:
        return [self.append, self.append, self.get, self.get, self.get, self.clear, self.sync, self.audit]

    async def append(self) -> None:
        blocks = [
            self.chance.randbytes(self.chance.choice((0, 1, 40, 700))) for _ in range(self.chance.choice((1, 2, 9)))
        ]
        expected = self.core.length if self.chance.random() < 0.3 else None
        self.tell(f"append {len(blocks)}")
        try:
            start = await self.core.append(blocks, expected_length=expected)
        except ConflictingLength:
            assert expected is not None
            assert self.core.length != expected
            return
        assert expected is None or start == expected
        for index, block in enumerate(blocks, start):
            assert index not in self.known, f"block {index} was appended twice"
            self.known[index] = block
        self.tell(f"appended {start} to {start + len(blocks)}")

    async def check_end(self) -> None:
        assert sorted(self.known) == list(range(self.core.length)), "blocks were appended that no append returned"
        for index in range(self.core.length):
            if not self.clears.get(index):
                assert self.core.has(index, index + 1), f"block {index} is gone, and nobody cleared it"
        await super().check_end()


class ReadersCore(Blocks):
    """A core of somebody else's that is fetched block by block."""

    async def begin(self) -> None:
        self.origin = await writer()
        await self._grow_origin(20)
        self.core = await Core.open(self.directory, key=KEYS.public, source=self)

    async def _grow_origin(self, count: int) -> None:
        blocks = [self.chance.randbytes(self.chance.choice((0, 1, 40, 700))) for _ in range(count)]
        start = await self.origin.append(blocks)
        self.known.update(enumerate(blocks, start))

    def works(self) -> list[Callable[[], Awaitable[None]]]:
        return [self.bring, self.bring, self.get, self.get, self.get, self.clear, self.sync, self.audit, self.grow]

    async def grow(self) -> None:
        await self._grow_origin(self.chance.choice((1, 5)))
        await self.core.update()

    async def bring(self) -> None:
        index = self.chance.randrange(self.origin.length)
        before = self.clears.get(index, 0)
        await self.fetch(self.core, [range(index, index + 1)], Priority.URGENT, None)
        self.tell(f"brought {index}")
        if self.clears.get(index, 0) == before and not self.clearing.get(index):
            assert self.core.has(index, index + 1), f"block {index} was stored, and is not here"

    # As the core's source

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        for index in (index for blocks in ranges for index in blocks):
            await self.schedule.turns()
            item = await received(self.origin, self.core, index)
            await self.schedule.turns()
            await self.core.store([item], origin=self)

    def prefetch(self, core: CoreReader, ranges: Sequence[range], hint: Hint | None) -> None:
        pass

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        index, _ = await self.origin.seek(byte_offset)
        await self.fetch(core, [range(index, index + 1)], priority, None)

    async def update(self, core: CoreReader) -> None:
        await self.fetch(core, [range(self.origin.length - 1, self.origin.length)], Priority.URGENT, None)
