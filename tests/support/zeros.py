"""Drives with gigabytes of content that take no disk and hardly any time to make: all blocks are alike, and zeros.

The rule: what is made is an ordinary store. Only the way is short: each block is hashed once, and zeros are not
written, since the hole that a file has where nothing was written reads as zeros.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hyperfs
from hyperfs.core.core import Core
from hyperfs.core.format import Hashes, Hypercore9
from hyperfs.drive.stat import Stat
from hyperfs.storage import DiskDirectory
from hyperfs.storage.disk import DiskFile

_BLOCKS_AT_ONCE = 1024


class _AlikeHashes(Hypercore9):
    def __init__(self) -> None:
        self._known: dict[int, tuple[bytes, bytes]] = {}

    def leaf_hash(self, block: bytes) -> bytes:
        known = self._known.get(id(block))
        if known is None:
            known = self._known[id(block)] = (block, super().leaf_hash(block))
        return known[1]

    def leaf_hashes(self, blocks: Sequence[bytes]) -> Hashes:
        return [self.leaf_hash(block) for block in blocks]


class _ZerosLeftOut(DiskFile):
    def __init__(self, file: DiskFile, zeros: bytes) -> None:
        super().__init__(file._path, os.dup(file._descriptor.number))
        file.close()
        self._zeros = zeros

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if data is self._zeros:
            os.ftruncate(self._descriptor.number, max(self.size(), offset + len(data)))
        else:
            super().write(offset, data)

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        for part in parts:
            self.write(offset, part)
            offset += len(part)


class _Directory(DiskDirectory):
    def __init__(self, path: Path, zeros: bytes) -> None:
        super().__init__(path)
        self._zeros = zeros

    def open(self, name: str, *, create: bool = False, permissions: int = 0o644) -> DiskFile:
        file = super().open(name, create=create, permissions=permissions)
        return _ZerosLeftOut(file, self._zeros) if name == "data" else file


@dataclass(frozen=True, slots=True)
class File:
    """A file to be: ``blocks`` blocks of zeros, or one of ``content``."""

    path: str
    blocks: int = 0
    content: bytes | None = None


async def make_zeros(store_path: Path, files: Sequence[File], *, block_bytes: int) -> str:
    """Make a drive of ``files`` in a store that nobody has open; return its key."""
    async with hyperfs.open_store(store_path) as store:
        key = (await store.create_drive()).key
        pair = store.store.key_pair(key.hex().encode() + b"-content")
        directory = store.store.core_directory(pair.public)
    zeros = bytes(block_bytes)
    stats: dict[str, Stat] = {}
    blocks: list[bytes] = []
    byte_offset = 0
    for file in files:
        own = [zeros] * file.blocks if file.content is None else [file.content]
        size = sum(map(len, own))
        stats[file.path] = Stat(0o100644, 0, 0, size, len(own), len(blocks), byte_offset, mtime=1_600_000_000_000)
        blocks += own
        byte_offset += size
    core = await Core.open(_Directory(directory, zeros), key_pair=pair, keep_secret=False, format=_AlikeHashes())
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        await core.append(blocks[start : start + _BLOCKS_AT_ONCE])
    await core.close()
    async with hyperfs.open_store(store_path) as store:
        writer = await store.writer(await store.drive(key))
        async with writer.batch() as batch:
            for path, stat in stats.items():
                batch.put_stat(path, stat)
    return key.hex()
