"""A store of which one call to the disk fails: the error is told, nothing is left open, nothing promised is gone.

A seed chooses the call and the errno. What is done: a store is opened, a core of ours is made and written to, one of
somebody else's gets its first blocks, one is made writable; all are synced, closed, and opened again.
"""

import errno
import logging
import os
import random
import shutil
import tempfile
import types
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final
from unittest import mock

import trio

from hyperfs.core import reserve, shared_map
from hyperfs.core.core import Core
from hyperfs.core.store import Store
from hyperfs.crypto import key_pair
from hyperfs.errors import Closed, HyperfsError
from hyperfs.storage import MemoryDirectory, disk
from tests.support.cores import bring

SEEDS = 190
"""As many as a run makes calls: each fails once."""
CALLS: Final = {
    "open": (errno.EMFILE, errno.ENOSPC, errno.EIO, errno.EACCES, errno.ENOMEM),
    "mkdir": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "pread": (errno.EIO,),
    "preadv": (errno.EIO, errno.ENOMEM),
    "pwrite": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "pwritev": (errno.ENOSPC, errno.EIO),
    "fdatasync": (errno.EIO, errno.ENOSPC),
    "fsync": (errno.EIO, errno.ENOSPC),
    "ftruncate": (errno.EIO,),
    "posix_fallocate": (errno.ENOSPC, errno.EIO),
    "fstat": (errno.EIO,),
    "replace": (errno.EIO, errno.ENOSPC),
}
_MEMORY: Final = Path("/dev/shm")
ADOPTED, THEIRS = key_pair(b"\x03" * 32), key_pair(b"\x02" * 32)
BLOCKS = [b"block %d" % index * 40 for index in range(20)]


class Failing:
    """Counts the calls of this process to a disk, and has one fail."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.failed: tuple[str, int] | None = None
        self.calls = 0
        self._chance = chance
        self._number = number

    def os(self) -> types.SimpleNamespace:
        """Return what stands for the module `os`."""
        wrapped = types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
        for name in CALLS:
            setattr(wrapped, name, self._wrapped(name, getattr(os, name)))
        return wrapped

    def _wrapped(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._number:
                self.failed = name, self._chance.choice(CALLS[name])
                raise OSError(self.failed[1], os.strerror(self.failed[1]), name)
            return plain(*arguments, **options)

        return call


async def _work(store: Store, promised: dict[bytes, int]) -> None:
    own = await store.create_core(b"own")
    with store.hold(own):
        await own.append(BLOCKS[:7])
        await own.append(BLOCKS[7:9])
        await own.sync()
        promised[own.key] = 9
        await own.clear(2, 4)
    origin = await Core.open(MemoryDirectory(), key_pair=THEIRS)
    try:
        await origin.append(BLOCKS)
        theirs = await store.core(THEIRS.public)
        await bring(origin, theirs, [3, 4, 19])
        await theirs.fork_guard.note_signed(30)
        await theirs.sync()
        promised[theirs.key] = 20
    finally:
        await origin.close()
    adopted = await store.adopt(ADOPTED.secret)
    await adopted.append(BLOCKS[:1])
    await store.sync()
    promised[adopted.key] = 1
    await store.close_idle()


async def _run(seed: int, path: Path) -> str:
    chance = random.Random(seed)
    failing = Failing(chance, seed % SEEDS + 1)
    promised: dict[bytes, int] = {}
    told: list[BaseException] = []
    open_before = _open_files(path)
    with ExitStack() as patches:
        for module in (disk, shared_map, reserve):
            patches.enter_context(mock.patch.object(module, "os", failing.os()))
        store = None
        try:
            store = await Store.open(path, maps=path / "maps")
            await _work(store, promised)
        except OSError as error:
            told.append(error)
        if store is not None:
            try:
                await store.close()
            except OSError as error:
                told.append(error)
    assert _open_files(path) == open_before, f"{failing.failed} left files open"
    for error in told:
        assert failing.failed is not None
        assert isinstance(error, OSError)
        assert error.errno == failing.failed[1], f"{error!r}, where {failing.failed} failed"
    async with await Store.open(path, maps=path / "maps") as store:
        for key, length in promised.items():
            core = await store.core(key)
            assert core.length == length, f"{core.length} of {length} blocks"
            assert await core.audit() == []
            for index in range(length):
                if core.has(index, index + 1):
                    assert await core.get(index) == BLOCKS[index]
        with suppress(Closed, HyperfsError):
            await _work(store, {})
    return f"{failing.failed} of {failing.calls} calls; promised {promised}; told {told}"


def _open_files(path: Path) -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            target = os.readlink(link)
            if target.startswith(str(path)):
                found.append(target)
    return sorted(found)


def run(seed: int) -> str:
    """Make one run, and return what was done in it."""
    logging.getLogger("hyperfs").propagate = False
    path = Path(tempfile.mkdtemp(prefix="store-disk-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        return trio.run(_run, seed, path / "store")
    finally:
        shutil.rmtree(path)
