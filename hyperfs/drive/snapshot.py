"""One version of a drive, with the drives mounted in it: stat, list, read.

The rules: a snapshot never changes. The hidden node of a mount decides where a path leads; a mounted drive without a
version is read as it stood when this snapshot first went into it, also from a checkout. What is not a directory has
nothing below it: where a path holds both a file and children, the file is what is there. Symbolic links are never
followed.
"""

import errno
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

import trio

from hyperfs.core.reader import CoreReader, Priority, Run
from hyperfs.drive import names
from hyperfs.drive.descent import LISTED_AT_ONCE, children, expect, newest_at, newest_now, own_node, own_now
from hyperfs.drive.dirents import Dirent, Gathered, LeftOut, dirent_of, why_left_out
from hyperfs.drive.entry import Entry
from hyperfs.drive.hidden import MOUNTS_PREFIX, read_mounts, read_tag, read_tags
from hyperfs.drive.nursery import open_work
from hyperfs.drive.stat import DEFAULT_DIRECTORY_MODE, MountTarget, Stat, stat_or_none
from hyperfs.drive.volume import MountTable, Volume
from hyperfs.errors import BlockNotAvailable, HyperfsError, PathError, UnknownVersion, short
from hyperfs.trie import Node, Trie

log = logging.getLogger(__name__)

PIECE_BYTES = 4 * 1024 * 1024
_PIECES_AHEAD = 4
_LOOKED_UP_AT_ONCE = 8
_MAX_KNOWN_TEXT = 16 * 1024 * 1024
_KNOWN_DIRECTORY = 128
"""What a known directory takes besides its path, in characters."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file's bytes: where they are, and how to read them."""

    core: CoreReader
    run: Run

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.run.size

    def read_now(self, position: int, size: int) -> bytes | None:
        """Return what `read` would, or None when that would take waiting, or raise."""
        return self.core.read_now(self.run, position, size)

    async def read(self, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        """Return ``size`` bytes from ``position``, fewer at the end. Raises `BlockNotAvailable`."""
        size = min(size, self.run.size - position)
        if size <= 0:
            return b""
        return await self.core.read(self.run, position, size, priority=priority)

    async def copy_to(self, write: Callable[[bytes], Awaitable[None]], *, start: int = 0) -> None:
        """Await ``write`` with the bytes from ``start`` to the end, in order, while what follows is being fetched."""
        async with open_work() as nursery:
            for position in range(start, self.run.size, PIECE_BYTES):
                if position + PIECE_BYTES < self.run.size:
                    nursery.start_soon(self._ahead, position + PIECE_BYTES)
                await write(await self.read(position, PIECE_BYTES))

    async def _ahead(self, position: int) -> None:
        with suppress(BlockNotAvailable):  # whoever reads it will hear of it
            await self.core.ahead(self.run, position, _PIECES_AHEAD * PIECE_BYTES)


class Snapshot:
    """A drive as it is at one version. Made by `Drive.snapshot`.

    Paths are normal (see `names`): no slash in front or behind, the root is the empty string.
    """

    def __init__(self, volume: Volume, version: int, chain: tuple[tuple[bytes, int | None], ...]) -> None:
        self.volume = volume
        self.version = version
        self.trie = Trie(volume.metadata, version, volume.pool.nodes)
        self._chain = chain
        self._mounts: MountTable | None = None
        self._inner: dict[str, Snapshot] = {}
        self._known_text = 0
        self._directories: dict[str, int] = {}
        """Paths that lead through directories only, each with the block of a node from which all in it is reached."""

    def __repr__(self) -> str:
        return f"Snapshot({short(self.key)}+{self.version})"

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return self.volume.key

    @property
    def is_pinned(self) -> bool:
        """Whether this version was asked for by number, so that no other follows it."""
        return self._chain[-1][1] is not None

    @property
    def opened_mounts(self) -> dict[str, "Snapshot"]:
        """The mounted drives that were gone into so far, by the path they are mounted at."""
        return dict(self._inner)

    def is_current(self) -> bool:
        """Tell whether no newer version of this drive, or of one mounted in it and gone into, is known."""
        if not self.is_pinned and self.volume.metadata.length != self.version:
            return False
        return all(inner.is_current() for inner in self._inner.values())

    async def stat(self, path: str) -> Entry:
        """Return the entry at ``path``; of a symbolic link, the link's own.

        Raises `PathError`: ENOENT, ENOTDIR below what is no directory, ELOOP inside a drive that is mounted in itself.
        """
        if names.is_too_long(path):
            raise PathError(errno.ENAMETOOLONG, path[:80] + "…", f"it is longer than {names.MAX_PATH_BYTES} bytes")
        if not all(map(names.is_presentable, path.split("/") if path else ())):
            raise PathError(errno.ENOENT, path, "no drive may hold such a name")
        if path and self._mounts is None:
            expect(self.trie, path)
        snapshot, inner_path = await self.locate(path)
        return await snapshot._stat_own(inner_path, path)

    def stat_now(self, path: str) -> Entry | None:
        """Return what `stat` would, when that takes no waiting and nothing unusual is in the way; None otherwise.

        For the one who asks a thousand times a second: None says nothing about ``path``.
        """
        return self.look_now(path)[1]

    def look_now(self, path: str) -> tuple[bool, Entry | None]:
        """Return whether it is known without waiting what is at ``path``, and what: None for nothing."""
        table = self._mounts
        directory, _, name = path.rpartition("/")
        above_seq = self._directories.get(directory) if directory else self.trie.head_seq
        if (
            table is None
            or table.leads_elsewhere(path)
            or above_seq is None
            or not names.is_presentable(name)
            or names.is_too_long(path)
        ):
            return False, None
        try:
            dirent = self._dirent_now(directory, name, above_seq)
        except HyperfsError:
            return False, None
        if dirent is None:
            return True, None
        if dirent.mode is None or dirent.may_be_core:
            return False, None
        return True, self._entry(dirent, path, path, table, None)

    def _dirent_now(self, directory: str, name: str, above_seq: int) -> Dirent | None:
        """Return what has a name in a directory, None for nothing. Raises `MissingNodes`, or as reading a trie does."""
        listed = self.volume.pool.directories.get(self.key, directory, above_seq)
        if listed is not None:
            return listed.get(name)
        path = names.join(directory, name)
        newest = newest_now(self.trie, path, above_seq)
        return None if newest is None else dirent_of(name, newest, own_now(self.trie, newest, _part_count(path)))

    async def list(self, path: str = "", *, raw: bool = False) -> AsyncGenerator[Entry, None]:
        """Yield the entries of a directory, each name once, in the trie's order.

        Names that cannot be presented, and nodes that hold no Stat, are left out and logged once; ``raw`` shows them.
        Raises `PathError` as `stat`, and ENOTDIR.
        """
        async with aclosing(self.list_batches(path, raw=raw)) as batches:
            async for entries in batches:
                for entry in entries:
                    yield entry

    async def list_batches(self, path: str = "", *, raw: bool = False) -> AsyncGenerator[Sequence[Entry], None]:
        """Yield what `list` does, as many entries at a time as are here: the faster way to read many.

        Others have their turn between two batches of a long directory.
        """
        directory = await self.stat(path)
        if not directory.is_directory:
            raise PathError(errno.ENOTDIR, path, "it is not a directory")
        snapshot, inner_path = await self.locate(path, enter=True)
        async with aclosing(snapshot._list_own(inner_path, path, raw=raw)) as batches:
            async for entries in batches:
                yield entries

    async def walk(self, path: str = "", *, into_mounts: bool = True) -> AsyncGenerator[Entry, None]:
        """Yield everything below ``path``, mounted drives included, a directory before what is in it.

        A drive that is mounted inside itself is shown, and not gone into; without ``into_mounts``, none is.
        """
        waiting = [path]
        while waiting:
            directory = waiting.pop()
            try:
                async with aclosing(self.list(directory)) as entries:
                    async for entry in entries:
                        yield entry
                        if entry.is_directory and (into_mounts or entry.mount is None):
                            waiting.append(entry.path)
            except PathError as error:
                if error.errno != errno.ELOOP or directory == path:
                    raise

    async def open(self, entry: Entry) -> OpenFile:
        """Return what reads ``entry``, a regular file of this snapshot. Raises `PathError` (EISDIR, EINVAL)."""
        stat = entry.stat
        if stat.is_directory:
            raise PathError(errno.EISDIR, entry.path, "it is a directory")
        if not stat.is_file:
            raise PathError(errno.EINVAL, entry.path, "it is not a regular file")
        if stat.mount is not None and stat.mount.is_core:
            core = await self.volume.pool.open_core(stat.mount.key)
            if core.length == 0:
                await core.update()
            return OpenFile(core, Run(range(core.length), 0, core.byte_length))
        core = await entry.volume.volume.content()
        return OpenFile(core, stat.run)

    def open_now(self, entry: Entry, stat: Stat) -> OpenFile | None:
        """Return what `open` would for ``entry``, of which ``stat`` is the Stat; None when it would wait or raise."""
        core = entry.volume.volume.content_now
        if core is None or not stat.has_content:
            return None
        return OpenFile(core, stat.run)

    async def read(self, entry: Entry, position: int, size: int) -> bytes:
        """Return ``size`` bytes of a file from ``position``, fewer at its end. Raises as `open` and `OpenFile.read`."""
        return await (await self.open(entry)).read(position, size)

    async def readlink(self, path: str) -> str:
        """Return a symbolic link's target. Raises `PathError` (EINVAL) for anything else."""
        stat = (await self.stat(path)).stat
        if not stat.is_link or stat.linkname is None:
            raise PathError(errno.EINVAL, path, "it is not a symbolic link")
        return stat.linkname

    async def tags(self) -> dict[str, int]:
        """Return the drive's tags, each with the version it names, by name in order."""
        found, left_out = await read_tags(self.trie)
        self._log_left_out("tags", left_out)
        return found

    async def tagged_version(self, name: str) -> int:
        """Return the version that tag ``name`` names. Raises `UnknownVersion`."""
        version = await read_tag(self.trie, name)
        if version is None:
            raise UnknownVersion(f"drive {short(self.key)} has no tag {name!r}")
        return version

    async def mounts(self) -> MountTable:
        """Return the drives mounted in this version."""
        if self._mounts is None:
            newest = await newest_at(self.trie, MOUNTS_PREFIX, hidden=True)
            seq = newest.seq if newest else 0
            table = self.volume.mount_tables.get(seq)
            if table is None:
                table, left_out = await read_mounts(self.trie) if newest else (MountTable({}), LeftOut())
                self._log_left_out("mounted drives", left_out)
                self.volume.keep_mount_table(seq, table)
            self._mounts = table
        return self._mounts

    @property
    def mounts_now(self) -> MountTable | None:
        """What `mounts` returns, None before its first call."""
        return self._mounts

    def _log_left_out(self, what: str, left_out: LeftOut) -> None:
        """Log once what an author has put into the drive that cannot be shown: he may put there as much as he likes."""
        if left_out.count and self.volume.pool.first_time((self.key, what)):
            log.warning("drive %s: %d %s left out, e.g. %s", short(self.key), left_out.count, what, left_out.example)

    async def locate(self, path: str, *, enter: bool = False) -> tuple["Snapshot", str]:
        """Return the snapshot of the drive that holds ``path``, and the path in it.

        With ``enter``, a path at which a drive is mounted leads to that drive's root.
        """
        snapshot, rest, above = self, path, ""
        while True:
            table = await snapshot.mounts()
            mount = rest if enter and rest in table.targets else table.closest(rest)
            if mount is None:
                return snapshot, rest
            above = names.join(above, mount)
            await snapshot._refuse_below_files(names.join(mount, "."), above)
            snapshot = await snapshot._go_into(mount, table.targets[mount], above)
            rest = rest[len(mount) + 1 :]

    async def _go_into(self, mount: str, target: MountTarget, path: str) -> "Snapshot":
        inner = self._inner.get(mount)
        if inner is None:
            identity = (target.key, target.version)
            if identity in self._chain:
                raise PathError(errno.ELOOP, path, f"drive {short(target.key)} is mounted inside itself")
            volume = await self.volume.pool.open(target.key)
            version = await known_version(volume, target.version)
            inner = self._inner.setdefault(mount, Snapshot(volume, version, (*self._chain, identity)))
        return inner

    async def _stat_own(self, inner_path: str, path: str) -> Entry:
        table = await self.mounts()
        newest = await newest_at(self.trie, inner_path)
        if inner_path:
            await self._refuse_below_files(inner_path, path, exists=newest is not None)
        if newest is None:
            if inner_path and inner_path not in table.targets and not table.names_below(inner_path):
                raise PathError(errno.ENOENT, path, "no such file or directory")
            return Entry(
                path, inner_path, 0, self, None, True, table.targets.get(inner_path), mode=DEFAULT_DIRECTORY_MODE
            )
        node = await own_node(self.trie, newest, _part_count(inner_path)) if inner_path else None
        dirent = dirent_of(names.split(inner_path)[1], newest, node)
        core_size = await self._core_size(dirent, inner_path, table) if dirent.may_be_core else None
        entry = self._entry(dirent, inner_path, path, table, core_size)
        if entry.mode is None and not entry.is_directory:
            raise PathError(errno.ENOENT, path, "what the drive has there is no file, folder or link, and is left out")
        return entry

    async def _refuse_below_files(self, inner_path: str, path: str, *, exists: bool = False) -> None:
        """Raise ENOTDIR when something above ``inner_path``, of which it may be known that it ``exists``, is a file.

        Others have their turn in between: an author may nest directories by the thousand.
        """
        table = await self.mounts()
        unknown: Sequence[str] = names.ancestors(inner_path)
        for position in range(len(unknown), 0, -1):
            if unknown[position - 1] in self._directories:
                unknown = unknown[position:]
                break
        if not exists and len(unknown) > 1:
            unknown = await self._existing_of(unknown)
        checked: dict[str, int] = {}
        for above in reversed(unknown):
            checked[above] = self.trie.head_seq
            if above in table.targets:
                continue
            newest = await newest_at(self.trie, above)
            if newest is not None:
                checked[above] = newest.seq
            node = newest and await own_node(self.trie, newest, _part_count(above))
            if node and not _is_directory(node):
                raise PathError(errno.ENOTDIR, path, f"{above!r} is not a directory")
            if not len(checked) % _LOOKED_UP_AT_ONCE:
                await trio.lowlevel.checkpoint()
        text = sum(_KNOWN_DIRECTORY + len(above) for above in checked)
        if self._known_text + text > _MAX_KNOWN_TEXT:
            self._directories.clear()
            self._known_text = 0
        self._known_text += text
        self._directories.update(checked)

    async def _existing_of(self, paths: Sequence[str]) -> Sequence[str]:
        """Return the first ones of ``paths``, each the directory of the next, at or below which there is any node."""
        low, high = 0, len(paths)
        while low < high:
            middle = (low + high + 1) // 2
            if await newest_at(self.trie, paths[middle - 1]) is None:
                high = middle - 1
            else:
                low = middle
        return paths[:low]

    async def _list_own(self, inner_path: str, path: str, *, raw: bool) -> AsyncGenerator[Sequence[Entry], None]:
        table = await self.mounts()
        unlisted = set(table.names_below(inner_path))
        left_out = LeftOut()
        entries: list[Entry] = []
        async with aclosing(self._dirents(inner_path)) as batches:
            async for dirents in batches:
                for dirent in dirents:
                    unlisted.discard(dirent.name)
                    reason = why_left_out(dirent, inner_path)
                    if reason is not None and not raw:
                        left_out.add(dirent.name, reason)
                        continue
                    child = names.join(inner_path, dirent.name)
                    shown = child if path == inner_path else names.join(path, dirent.name)
                    core_size = await self._core_size(dirent, child, table) if dirent.may_be_core else None
                    entries.append(self._entry(dirent, child, shown, table, core_size))
                yield entries
                entries = []
        for name in sorted(filter(names.is_presentable, unlisted)):
            child = names.join(inner_path, name)
            mount = table.targets.get(child)
            entries.append(
                Entry(names.join(path, name), child, 0, self, None, True, mount, mode=DEFAULT_DIRECTORY_MODE)
            )
        yield entries
        self._log_left_out(f"names in directory {names.brief(inner_path)}", left_out)

    async def _dirents(self, inner_path: str) -> AsyncGenerator[Sequence[Dirent], None]:
        newest = await newest_at(self.trie, inner_path)
        if newest is None:
            return
        cache = self.volume.pool.directories
        dirents = cache.get(self.key, inner_path, newest.seq)
        if dirents is not None:
            kept = list(dirents.values())
            for start in range(0, len(kept), LISTED_AT_ONCE):
                if start:
                    await trio.lowlevel.checkpoint()
                yield kept[start : start + LISTED_AT_ONCE]
            return
        gathered = Gathered()
        async with aclosing(children(self.trie, inner_path, newest.seq)) as batches:
            async for found in batches:
                batch = [dirent_of(*child) for child in found]
                gathered.add(batch)
                yield batch
        cache.put(self.key, inner_path, newest.seq, gathered)

    def _entry(self, dirent: Dirent, inner_path: str, path: str, table: MountTable, core_size: int | None) -> Entry:
        mount = table.targets.get(inner_path)
        return Entry(path, inner_path, dirent.seq, self, dirent.value, dirent.implied, mount, core_size, dirent.mode)

    async def _core_size(self, dirent: Dirent, inner_path: str, table: MountTable) -> int | None:
        """Return how long the bare core of a node's Stat is now, or None: it is none, or nothing of it is known.

        Of more cores than may be open nothing is: a folder with very many is listed all the same.
        """
        stat = stat_or_none(dirent.value)
        target = None if stat is None else stat.mount
        if target is None or not target.is_core or inner_path in table.targets:
            return None
        try:
            return (await self.volume.pool.open_core(target.key)).byte_length or None
        except PathError:
            return None


async def known_version(volume: Volume, version: int | None) -> int:
    """Return ``version``, or the newest when None, once the drive is known to have it.

    Raises `UnknownVersion` when no peer has brought a version that high.
    """
    metadata = volume.metadata
    if version is None:
        return metadata.length
    if version > metadata.length:
        await metadata.update()
    if version > metadata.length:
        raise UnknownVersion(
            f"drive {short(volume.key)} has no version {version}: the newest known is {metadata.length}"
        )
    if version < 1:
        raise UnknownVersion(f"drive {short(volume.key)} has no version {version}: versions are counted from 1")
    return version


def _part_count(path: str) -> int:
    return path.count("/") + 1


def _is_directory(node: Node) -> bool:
    stat = stat_or_none(node.value)
    return stat is not None and stat.is_directory
