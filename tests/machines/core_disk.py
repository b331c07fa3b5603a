"""A core on a disk that fails one operation, then behaves: nothing promised is gone, nothing hangs, the error is told.

A seed chooses what is done to a core of ours and to one of somebody else's, which operation of the disk fails and how,
and how it ends: by closing, by the death of the process, by a power failure. What `Core.sync` returned for is there
after any of them; what `Core.append` returned for, unless the power failed or the disk lost it and said so; and no file
is left open.
"""

import logging
import random

import trio

from hyperfs.core.core import Core
from hyperfs.core.head_record import HeadRecord
from hyperfs.core.proofs import Received
from hyperfs.crypto import key_pair
from hyperfs.errors import BlockNotAvailable, DamagedStore, HyperfsError, InvalidKey
from tests.support.lying_disk import LyingDirectory, LyingDisk

SEEDS = 200
OURS, THEIRS = key_pair(b"\x01" * 32), key_pair(b"\x02" * 32)
STEPS = 14


def block(index: int) -> bytes:
    """The block of that index in any core here."""
    return b"%d." % index * (1 + index * 7 % 90)


class Told(logging.Handler):
    """Hears what is logged as a warning, or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Run:
    """One run: two cores, what was promised of them, and what was told."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.forgets = self.chance.random() < 0.4
        self.disk = LyingDisk(self.chance, forgets=self.forgets)
        self.boot = b"1" * 16
        self.ours: Core | None = None
        self.theirs: Core | None = None
        self.origin: Core | None = None
        self.appended = 0
        self.synced = 0
        self.cleared: set[int] = set()
        self.fetched_synced: set[int] = set()
        self.fetched: set[int] = set()
        self.errors: list[BaseException] = []
        self.did: list[str] = []
        self.lost_said = False

    async def open(self) -> None:
        """Open what is closed. Raises OSError, HyperfsError."""
        if self.ours is None:
            record = HeadRecord(LyingDirectory(self.disk, "heads/"), "ours", boot=self.boot)
            try:
                self.ours = await Core.open(LyingDirectory(self.disk, "ours/"), key_pair=OURS, record=record)
            finally:
                if self.ours is None:
                    record.close()
        if self.theirs is None:
            self.theirs = await Core.open(LyingDirectory(self.disk, "theirs/"), key=THEIRS.public)

    async def append(self) -> None:
        assert self.ours is not None
        count = self.chance.choice([1, 1, 2, 5, 30])
        start = self.ours.length
        assert start == self.appended
        try:
            await self.ours.append([block(index) for index in range(start, start + count)], expected_length=start)
        except BaseException:
            assert self.ours.length == start, "append raised after it had appended"
            raise
        self.appended += count

    async def sync(self) -> None:
        assert self.ours is not None
        assert self.theirs is not None
        await self.ours.sync()
        self.synced = self.ours.length
        await self.theirs.sync()
        self.fetched_synced = set(self.fetched)

    async def clear(self) -> None:
        assert self.ours is not None
        if self.appended:
            start = self.chance.randrange(self.appended)
            gone = range(start, min(self.appended, start + self.chance.randrange(1, 9)))
            self.cleared.update(gone)
            await self.ours.clear(gone.start, gone.stop)

    async def fetch(self) -> None:
        assert self.theirs is not None
        assert self.origin is not None
        index = self.chance.randrange(self.origin.length)
        items = []
        for at in range(index, min(index + self.chance.choice([1, 1, 4]), self.origin.length)):
            proof = await self.origin.proof(at)
            items.append(Received(at, await self.origin.get(at), proof.nodes, proof.signature))
        await self.theirs.store(items, origin=None)
        self.fetched.update(item.index for item in items)

    async def read(self) -> None:
        for core, here in ((self.ours, set(range(self.appended)) - self.cleared), (self.theirs, self.fetched)):
            assert core is not None
            if here:
                index = self.chance.choice(sorted(here))
                assert await core.get(index) == block(index)

    async def audit(self) -> None:
        assert self.ours is not None
        assert await self.ours.audit() == []

    async def close(self) -> None:
        """Close both, whatever happens to one."""
        for name in ("ours", "theirs"):
            core: Core | None = getattr(self, name)
            setattr(self, name, None)
            if core is not None:
                try:
                    await core.close()
                except (OSError, HyperfsError) as error:
                    self.tell(error)
                else:
                    if name == "ours":
                        self.synced = self.appended
                    else:
                        self.fetched_synced = set(self.fetched)

    def die(self) -> None:
        """Leave both as the death of the process does."""
        for core in (self.ours, self.theirs):
            if core is not None:
                core.close_without_sync()
        self.ours = self.theirs = None
        self.disk.kill()

    def tell(self, error: BaseException) -> None:
        """Note an error that was told, which has to be the one that happened."""
        self.errors.append(error)
        assert self.disk.failed, f"{error!r}, though nothing has failed"
        if isinstance(error, OSError):
            assert error.errno == self.disk.failed[0][2], f"{error!r}, where {self.disk.failed} failed"
        else:
            # The disk forgot what it was given; whoever says so in words may lose that, and nothing else.
            assert self.forgets, repr(error)
            assert isinstance(error, DamagedStore | BlockNotAvailable), repr(error)
            self.lost_said = True
            if self.theirs is not None:
                self.fetched = {index for index in self.fetched if self.theirs.has(index, index + 1)}

    async def check(self, *, power_failed: bool) -> None:
        """Open both once more, by now on a disk that behaves, and compare with what was promised."""
        self.disk.fault = lambda kind, name: None
        lost = self.forgets and bool(self.disk.failed)
        at_least = self.synced if power_failed or lost else self.appended
        record = HeadRecord(LyingDirectory(self.disk, "heads/"), "ours", boot=self.boot)
        try:
            core = await Core.open(LyingDirectory(self.disk, "ours/"), record=record)
        except InvalidKey:
            record.close()
            assert not at_least
        else:
            try:
                assert at_least <= core.length <= self.appended, (
                    f"{core.length} of {self.appended}, {at_least} promised"
                )
                bad = await core.audit()
                assert not [index for index in bad if index < at_least], f"{bad} are damaged"
                for index in range(core.length):
                    if index < at_least and index not in self.cleared:
                        assert core.has(index, index + 1), f"block {index} is gone"
                    if core.has(index, index + 1):
                        assert await core.get(index) == block(index)
                start = core.length
                await core.append([block(start)])
                await core.sync()
                assert await core.get(start) == block(start)
            finally:
                await core.close()
        try:
            core = await Core.open(LyingDirectory(self.disk, "theirs/"))
        except InvalidKey:
            assert not self.fetched_synced
        else:
            try:
                bad = await core.audit()
                assert not self.fetched_synced.intersection(bad)
                for index in self.fetched_synced:
                    assert await core.get(index) == block(index)
            finally:
                await core.close()


async def _run(seed: int) -> str:
    run = Run(seed)
    told = Told()
    logging.getLogger("hyperfs").addHandler(told)
    origin_disk = LyingDisk(random.Random(seed))
    run.origin = await Core.open(LyingDirectory(origin_disk, "origin/"), key_pair=THEIRS)
    try:
        await run.origin.append([block(index) for index in range(run.chance.choice([1, 7, 40]))])
        await run.origin.sync()
        run.disk.fail_once(run.chance.randrange(160))
        steps = [run.append, run.append, run.append, run.sync, run.sync, run.clear, run.fetch, run.fetch, run.read]
        steps += [run.audit, run.close]
        for _ in range(STEPS):
            try:
                await run.open()
                step = run.chance.choice(steps)
                run.did.append(step.__name__)
                await step()
            except (OSError, HyperfsError) as error:
                run.did.append(f"  {error!r}")
                run.tell(error)
            if run.lost_said:
                break
        end = run.chance.choice(["close", "death", "power failure"])
        run.did.append(end)
        if end == "close":
            await run.close()
        else:
            run.die()
        if end == "power failure":
            run.disk, run.boot = run.disk.lose_power(), b"2" * 16
        elif run.disk.failed:
            swallowed = run.disk.failed[0][1].startswith("heads/")
            assert run.errors or told.lines or swallowed, f"nobody was told that {run.disk.failed} failed"
        await run.check(power_failed=end == "power failure")
        return "\n".join([*run.did, f"failed: {run.disk.failed}", *told.lines])
    except BaseException:
        print("\n".join([*run.did, f"failed: {run.disk.failed}", *told.lines]))
        raise
    finally:
        logging.getLogger("hyperfs").removeHandler(told)
        run.die()
        await run.origin.close()


def run(seed: int) -> str:
    """Make one run, and return what was done in it."""
    logging.getLogger("hyperfs").propagate = False
    return trio.run(_run, seed)
