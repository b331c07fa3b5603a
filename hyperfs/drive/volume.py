"""The drives that one `Drive` reaches: itself and whatever is mounted in it, each opened once.

The rule: a `Volume` is a pair of cores and what is true of them at every version; versions are the snapshots' matter.
"""

import errno
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

import trio

from hyperfs.core.reader import CoreReader
from hyperfs.crypto import KEY_BYTES
from hyperfs.drive.dirents import DirectoryCache
from hyperfs.drive.stat import MountTarget
from hyperfs.errors import BlockNotAvailable, EncodingError, NotADrive, PathError, short
from hyperfs.trie import Header, NodeCache
from hyperfs.trie.header import TRIE_TYPE
from hyperfs.trie.trie import read_header

MAX_DRIVES = 1024
"""How many drives, and cores that are files, may be reached from one drive: whoever writes it chooses how many are
mounted in it."""
_KEPT_MOUNT_TABLES = 4
_MAX_TOLD = 1024


class CoreProvider(Protocol):
    """Whoever opens cores for a drive: a store in this process, or the daemon's client."""

    async def open_core(self, key: bytes) -> CoreReader:
        """Return the core of ``key``, the same object each time; one without any block yet when nobody had it."""
        ...


class MountTable:
    """The drives mounted in one version of a drive, by path: what the hidden ``mounts/`` nodes say."""

    def __init__(self, targets: dict[str, MountTarget]) -> None:
        self.targets = targets
        self._above: dict[str, set[str]] = {}
        for path in targets:
            while path:
                parent, _, name = path.rpartition("/")
                self._above.setdefault(parent, set()).add(name)
                path = parent

    def closest(self, path: str) -> str | None:
        """Return the longest mounted path that is above ``path`` (not ``path`` itself), or None."""
        while path and self.targets:
            path = path.rpartition("/")[0]
            if path in self.targets:
                return path
        return None

    def leads_elsewhere(self, path: str) -> bool:
        """Tell whether a mounted drive is at ``path``, above it or below it."""
        return bool(self.targets) and (path in self.targets or path in self._above or self.closest(path) is not None)

    def names_below(self, path: str) -> set[str]:
        """Return the names in directory ``path`` that are mounted drives or lead to one."""
        return self._above.get(path, set())


class Volume:
    """One drive's cores. Made by `VolumePool.open`."""

    def __init__(self, metadata: CoreReader, header: Header, pool: "VolumePool") -> None:
        self.metadata = metadata
        self.header = header
        self.pool = pool
        self._content: CoreReader | None = None
        self._content_lock = trio.Lock()
        self.mount_tables: OrderedDict[int, MountTable] = OrderedDict()

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return self.metadata.key

    @property
    def content_key(self) -> bytes:
        """The key of the core that holds the files' bytes."""
        assert self.header.metadata is not None  # a volume is made of nothing else
        return self.header.metadata

    async def content(self) -> CoreReader:
        """Return the content core, opened at the first call."""
        if self._content is None:
            async with self._content_lock:
                if self._content is None:
                    self._content = await self.pool.cores.open_core(self.content_key)
        return self._content

    @property
    def content_now(self) -> CoreReader | None:
        """The content core, None before the first call of `content`."""
        return self._content

    def keep_mount_table(self, seq: int, table: MountTable) -> None:
        """Remember the table that stands while the newest mount's node is block ``seq``."""
        self.mount_tables[seq] = table
        while len(self.mount_tables) > _KEPT_MOUNT_TABLES:
            self.mount_tables.popitem(last=False)


class VolumePool:
    """Every drive that was reached from one, and the caches that they share. Both caches are bounded."""

    def __init__(self, cores: CoreProvider, cache: NodeCache | None = None) -> None:
        self.cores = cores
        self.nodes = cache or NodeCache()
        self.directories = DirectoryCache()
        self.opened = trio.Event()
        self._volumes: dict[bytes, Volume] = {}
        self._keys: set[bytes] = set()
        """What was to be opened, drives and single cores, whether it was there or not: a core is open for each."""
        self._told: set[tuple[bytes, str]] = set()
        self._lock = trio.Lock()

    def beside(self) -> "VolumePool":
        """Return a pool without drives that shares the caches of this one, and the bound on what may be open."""
        other = VolumePool(self.cores, self.nodes)
        other.directories, other._keys, other._told = self.directories, self._keys, self._told
        return other

    def __iter__(self) -> Iterator[Volume]:
        return iter(list(self._volumes.values()))

    def first_time(self, directory: tuple[bytes, str]) -> bool:
        """Tell whether a directory's oddities were not logged before; beyond a bound, they are logged again."""
        if directory in self._told:
            return False
        if len(self._told) == _MAX_TOLD:
            self._told.clear()
        self._told.add(directory)
        return True

    async def open(self, key: bytes) -> Volume:
        """Open the drive of ``key``.

        Raises `BlockNotAvailable` when nothing of it is here and no peer brings it, `NotADrive` when the core is
        something else, `PathError` (EMFILE) when there are too many.
        """
        volume = self._volumes.get(key)
        if volume is not None:
            return volume
        core = await self.open_core(key)
        if core.length == 0:
            core.prefetch([range(1)])  # the header, in the same round trip as the head
            await core.update()
        if core.length == 0:
            if core.writable:
                raise NotADrive(f"{short(key)} is an empty core: no drive was begun in it")
            raise BlockNotAvailable(f"nothing of drive {short(key)} is here, and no peer has brought it")
        header = await read_drive_header(core)
        async with self._lock:
            volume = self._volumes.setdefault(key, Volume(core, header, self))
        self.opened.set()
        self.opened = trio.Event()
        return volume

    async def open_core(self, key: bytes) -> CoreReader:
        """Open a core that a drive names. Raises `PathError` (EMFILE) when there are too many, and as its provider."""
        if key not in self._keys and len(self._keys) >= MAX_DRIVES:
            raise PathError(errno.EMFILE, short(key), f"{MAX_DRIVES} drives and cores are open that are mounted here")
        self._keys.add(key)
        return await self.cores.open_core(key)


async def read_drive_header(core: CoreReader) -> Header:
    """Return the header in block 0 of a drive's metadata. Raises `NotADrive` when the core is something else."""
    header = await read_header(core)
    if header.metadata is None or len(header.metadata) != KEY_BYTES:
        raise NotADrive(f"{core.key.hex()} is a trie, but not a drive: its header names no content")
    return header


def content_key_in(first_block: bytes) -> bytes | None:
    """Return the key of the content that block 0 of a drive's metadata names; None when it is no drive's."""
    try:
        header = Header.decode(first_block)
    except EncodingError:
        return None
    return header.metadata if header.type == TRIE_TYPE and len(header.metadata or b"") == KEY_BYTES else None
