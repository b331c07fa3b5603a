"""How much of a drive is here.

The rule: looking fetches nothing. What is not known without fetching is None.
"""

from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

from hyperfs.core.reader import CoreReader
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import stat_or_none
from hyperfs.errors import DamagedTrie
from hyperfs.trie import NodeCache

_LOOKED_AT = 256
"""How many nodes back files are looked for."""


@dataclass(frozen=True, slots=True)
class CoreUsage:
    """One core: blocks and bytes in all, and blocks of them here."""

    key: bytes
    blocks: int
    byte_length: int
    local_blocks: int

    @property
    def is_complete(self) -> bool:
        """Whether all of it is here."""
        return self.local_blocks == self.blocks


@dataclass(frozen=True, slots=True)
class FilesUsage:
    """The files of one version. ``local_size`` counts a file that is partly here by its share of blocks."""

    files: int
    local_files: int
    directories: int
    links: int
    size: int
    local_size: int


@dataclass(frozen=True, slots=True)
class Usage:
    """A drive at a version. ``files`` is None while metadata of that version is missing here."""

    key: bytes
    version: int
    metadata: CoreUsage
    content: CoreUsage
    files: FilesUsage | None


async def usage(snapshot: Snapshot, path: str = "") -> Usage:
    """Return how much of ``snapshot``'s drive is here, and of its files at and below ``path``, a normal path.

    Mounted drives are not counted.
    """
    metadata = snapshot.volume.metadata
    content = await snapshot.volume.content()
    files = await _files(snapshot, path, content) if metadata.has(0, snapshot.version) else None
    return Usage(snapshot.key, snapshot.version, _core(metadata, snapshot.version), _core(content), files)


@dataclass(slots=True)
class FolderSize:
    """All that is below a folder: how many files, their bytes, and how many of these are here, by shares of blocks."""

    files: int = 0
    size: int = 0
    here: int = 0


async def folder_sizes(snapshot: Snapshot, path: str = "") -> dict[str, FolderSize]:
    """Return the size of the folder ``path``, and of each below it, mounted drives included, by path.

    Raises `PathError`, `BlockNotAvailable`: what a folder holds must be known, its files need not be here.
    """
    found = {path: FolderSize()}
    async with aclosing(snapshot.walk(path)) as entries:
        async for entry in entries:
            if entry.is_directory:
                found.setdefault(entry.path, FolderSize())
                continue
            stat = stat_or_none(entry.value)
            if stat is None or not stat.has_content:
                continue
            here = 0
            if stat.blocks:
                file = await snapshot.open(entry)
                here = stat.size * file.core.count(stat.offset, stat.offset + stat.blocks) // stat.blocks
            folder = entry.path
            while folder != path:
                folder = folder.rpartition("/")[0]
                size = found.setdefault(folder, FolderSize())
                size.files += 1
                size.size += stat.size
                size.here += here
    return found


def shares_here(core: CoreReader, blocks: range, count: int) -> list[float]:
    """Return how much is here, from 0 to 1, of each of ``count`` equal parts of a run of blocks.

    There are no more parts than blocks.
    """
    count = min(count, len(blocks))
    bounds = [blocks.start + len(blocks) * part // count for part in range(count + 1)] if count else []
    return [core.count(start, end) / (end - start) for start, end in pairwise(bounds)]


def content_end(snapshot: Snapshot) -> int:
    """Return how many bytes of content a version has, as far as those of its newest nodes tell that are here."""
    metadata = snapshot.volume.metadata
    nodes = snapshot.volume.pool.nodes.table(snapshot.key)
    end = 0
    for seq in range(snapshot.version - 1, max(0, snapshot.version - 1 - _LOOKED_AT), -1):
        try:
            node = nodes.get(seq)
            if node is None:
                block = metadata.get_local(seq)
                if block is None:
                    continue
                node = nodes.decode(block, seq)
        except DamagedTrie:
            continue
        stat = stat_or_none(node.value)
        if stat is not None and stat.has_content:
            end = max(end, stat.byte_offset + stat.size)
    return end


async def last_change(metadata: CoreReader) -> int | None:
    """Return when the newest version was made, as far as nodes that are here say: milliseconds since 1970."""
    nodes = NodeCache().table(metadata.key)
    for seq in range(metadata.length - 1, max(0, metadata.length - 1 - _LOOKED_AT), -1):
        if metadata.has(seq, seq + 1):
            try:
                stat = stat_or_none(nodes.decode(await metadata.get(seq), seq).value)
            except DamagedTrie:
                continue
            if stat is not None:
                return stat.ctime
    return None


def _core(core: CoreReader, length: int | None = None) -> CoreUsage:
    length = core.length if length is None else length
    return CoreUsage(core.key, length, core.byte_length, core.count(0, length))


async def _files(snapshot: Snapshot, path: str, content: CoreReader) -> FilesUsage:
    files = local_files = directories = links = size = local_size = 0
    async for node in snapshot.trie.iterate(path):
        stat = stat_or_none(node.value)
        if stat is None:
            continue
        if stat.is_directory:
            directories += 1
        elif stat.is_link:
            links += 1
        elif stat.mount is None:
            files += 1
            size += stat.size
            here = content.count(stat.offset, stat.offset + stat.blocks)
            local_files += here == stat.blocks
            local_size += stat.size if here == stat.blocks else stat.size * here // stat.blocks
    return FilesUsage(files, local_files, directories, links, size, local_size)
