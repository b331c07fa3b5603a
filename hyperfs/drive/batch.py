"""Changes of a drive of ours that become visible together.

The rules: the bytes of files are appended before the batch is committed, their nodes with it. Nothing is written below
a mounted drive: that drive has a writer of its own.
"""

import errno
import stat as st
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace

from hyperfs import varint
from hyperfs.drive import names
from hyperfs.drive.committer import CHUNK_BYTES, Committer, ContentLease
from hyperfs.drive.hidden import MOUNTS_PREFIX, TAGS_PREFIX
from hyperfs.drive.overlay import Overlay
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import (
    DEFAULT_DIRECTORY_MODE,
    DEFAULT_FILE_MODE,
    DEFAULT_LINK_MODE,
    MOUNT_FLAG,
    MountTarget,
    Stat,
    decode_stat,
    encode_mount_record,
    encode_stat,
)
from hyperfs.errors import EncodingError, PathError, UnknownVersion, short
from hyperfs.trie import Delete, DeleteTree, Operation, Put

_BLOCKS_IN_AN_APPEND = 16

Clock = Callable[[], int]


def milliseconds_now() -> int:
    """Return the time in milliseconds since 1970, as a `Stat` keeps it."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a new entry is."""

    uid: int = 0
    gid: int = 0


DEFAULT_OWNER = Owner()


class Batch:
    """Changes of one drive that become visible together. Each sees those before it. Made by `DriveWriter.batch`.

    Paths are normalised as the reference's drive does it. Everything raises `PathError`: EINVAL and ENAMETOOLONG for a
    path that no drive should hold, ENOTDIR below something that is no directory, EXDEV inside a mounted drive.
    """

    def __init__(self, snapshot: Snapshot, committer: Committer, clock: Clock) -> None:
        self.snapshot = snapshot
        self.operations: list[Operation] = []
        self._committer = committer
        self._clock = clock
        self._changed = Overlay(snapshot)
        self._mounts: dict[str, MountTarget | None] = {}
        self._tags: dict[str, int | None] = {}
        self._spelling: dict[str, str] = {}

    async def put_file(
        self,
        path: str,
        content: bytes | AsyncIterable[bytes] = b"",
        *,
        mode: int = DEFAULT_FILE_MODE,
        owner: Owner = DEFAULT_OWNER,
        mtime: int | None = None,
        attributes: Mapping[str, bytes | None] | None = None,
    ) -> Stat:
        """Write a whole file, over an older one or a link if there is one; return its Stat. EISDIR on a directory.

        ``mtime`` is in milliseconds, now when None. Missing directories above are implied.
        """
        path = await self._writable_path(path)
        present = await self.find(path)
        if present is not None and present.is_directory:
            raise PathError(errno.EISDIR, path, "it is a directory")
        async with self._committer.content() as lease:
            blocks, byte_offset, size = await append_content(lease, content)
        now = self._clock()
        stat = Stat(
            st.S_IFREG | st.S_IMODE(mode),
            owner.uid,
            owner.gid,
            size,
            len(blocks),
            blocks.start,
            byte_offset,
            now if mtime is None else mtime,
            now,
            attributes=attributes or {},
        )
        self._put(path, stat)
        return stat

    async def make_directory(
        self,
        path: str,
        *,
        mode: int = DEFAULT_DIRECTORY_MODE,
        owner: Owner = DEFAULT_OWNER,
        mtime: int | None = None,
    ) -> None:
        """Make a directory. EEXIST when something is there, except a directory that was only implied."""
        path = await self._writable_path(path)
        if path in self._changed or await self._has_node(path):
            present = await self.find(path)
            if present is not None:
                raise PathError(errno.EEXIST, path, "it exists")
        now = self._clock()
        mode = st.S_IFDIR | st.S_IMODE(mode)
        self._put(path, Stat(mode, owner.uid, owner.gid, mtime=now if mtime is None else mtime, ctime=now))

    async def symlink(self, path: str, target: str, *, owner: Owner = DEFAULT_OWNER, mtime: int | None = None) -> None:
        """Make a symbolic link to ``target``, kept as it is. EEXIST when something is there."""
        path = await self._writable_path(path)
        if await self.find(path) is not None:
            raise PathError(errno.EEXIST, path, "it exists")
        now = self._clock()
        mtime = now if mtime is None else mtime
        self._put(path, Stat(DEFAULT_LINK_MODE, owner.uid, owner.gid, mtime=mtime, ctime=now, linkname=target))

    def put_stat(self, path: str, stat: Stat) -> None:
        """Write ``stat`` at a normal path, whatever is there: for who has looked already."""
        self._put(path, stat)

    async def delete(self, path: str) -> None:
        """Delete a file, a link or an empty directory. ENOENT, ENOTEMPTY, EBUSY for a mounted drive."""
        path = await self._writable_path(path)
        present = await self._existing(path)
        if await self._target(path) is not None:
            raise PathError(errno.EBUSY, path, "a drive is mounted there; unmount it")
        if present.is_directory and await self._changed.has_any_below(path):
            raise PathError(errno.ENOTEMPTY, path, "the directory is not empty")
        if path not in self._changed:
            node = await self.snapshot.trie.get(path)
            self._spelling[path] = node.key if node else path
        self._delete(path)

    async def delete_tree(self, path: str) -> None:
        """Delete a path and everything below it; drives mounted there are unmounted. ENOENT."""
        path = await self._writable_path(path)
        await self._existing(path)
        self._delete_all(path, await self._nodes_from(path))
        for mounted in await self._mounted_from(path):
            self._unmount(mounted)

    async def rename(self, old: str, new: str) -> None:
        """Give a path, and everything below it, another name, as rename(2) does.

        A file or an empty directory at ``new`` of the same kind is replaced. ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, and
        EINVAL when ``new`` is inside ``old``.
        """
        old, new = await self._writable_path(old), await self._writable_path(new)
        present = await self._existing(old)
        if old == new:
            return
        if new.startswith(f"{old}/"):
            raise PathError(errno.EINVAL, old, f"it cannot go inside itself, to {new!r}")
        await self._make_way(new, is_directory=present.is_directory)
        now = self._clock()
        moved = await self._nodes_from(old)
        if old in moved:
            moved[old] = replace(moved[old], ctime=now)
        mounted = await self._mounted_from(old)
        for below, stat in moved.items():
            if below not in mounted:
                self._put(new + below[len(old) :], stat)
        for below, drive in mounted.items():
            self._mount(new + below[len(old) :], drive, moved.get(below))
        self._delete_all(old, moved)
        for below in mounted:
            self._unmount(below)

    async def set_stat(
        self,
        path: str,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        mtime: int | None = None,
        ctime: int | None = None,
    ) -> Stat:
        """Change what is given, of ``mode`` only the permission bits; return the new Stat. ENOENT.

        An implied directory gets a node of its own. ``ctime`` is now when None.
        """
        path = await self._writable_path(path)
        stat = await self._existing(path)
        changed = replace(
            stat,
            mode=stat.mode if mode is None else st.S_IFMT(stat.mode) | st.S_IMODE(mode),
            uid=stat.uid if uid is None else uid,
            gid=stat.gid if gid is None else gid,
            mtime=stat.mtime if mtime is None else mtime,
            ctime=self._clock() if ctime is None else ctime,
        )
        self._put(path, changed)
        return changed

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        """Set an extended attribute, or remove it with None. ENOENT; ENODATA when there is none to remove."""
        path = await self._writable_path(path)
        stat = await self._existing(path)
        if value is None and stat.attributes.get(name) is None:
            raise PathError(errno.ENODATA, path, f"it has no attribute {name!r}")
        self._put(path, replace(stat, attributes={**stat.attributes, name: value}, ctime=self._clock()))

    async def tag(self, name: str, version: int | None = None, *, force: bool = False) -> int:
        """Name a version, the one before this batch when None; return it. Raises `UnknownVersion`.

        EEXIST when the tag names another version: with ``force`` it is taken from that one.
        """
        if not names.is_tag(name):
            raise PathError(errno.EINVAL, repr(name), "a tag is a name without slashes that is not a number")
        version = self.snapshot.version if version is None else version
        if not 1 <= version <= self.snapshot.version:
            raise UnknownVersion(f"drive {short(self.snapshot.key)} has no version {version} to tag")
        tagged = await self._tagged(name)
        if tagged is not None and tagged != version and not force:
            raise PathError(errno.EEXIST, repr(name), f"that tag names version {tagged}, and stays there unless forced")
        if tagged != version:
            self._tags[name] = version
            self.operations.append(Put(f"{TAGS_PREFIX}/{name}", varint.encode(version), hidden=True))
        return version

    async def delete_tag(self, name: str) -> int:
        """Forget a tag; return the version that it named. Raises `UnknownVersion`."""
        tagged = await self._tagged(name)
        if tagged is None:
            raise UnknownVersion(f"drive {short(self.snapshot.key)} has no tag {name!r}")
        self._tags[name] = None
        self.operations.append(Delete(f"{TAGS_PREFIX}/{name}", hidden=True))
        return tagged

    async def _tagged(self, name: str) -> int | None:
        """Return the version that a tag names as this batch leaves it; 0: none, None: there is no such tag."""
        if name in self._tags:
            return self._tags[name]
        try:
            return await self.snapshot.tagged_version(name)
        except UnknownVersion:
            return None
        except EncodingError:
            return 0

    async def mount(self, path: str, key: bytes, *, version: int | None = None) -> None:
        """Mount another drive at ``path``, live or at ``version``. EEXIST when something is there."""
        path = await self._writable_path(path)
        if await self.find(path) is not None:
            raise PathError(errno.EEXIST, path, "it exists")
        self._mount(path, MountTarget(key, version), None)

    async def mount_core(self, path: str, key: bytes, *, size: int = 0, blocks: int = 0) -> None:
        """Mount a bare core as one file; ``size`` and ``blocks`` are its lengths as far as known. EEXIST."""
        path = await self._writable_path(path)
        if await self.find(path) is not None:
            raise PathError(errno.EEXIST, path, "it exists")
        now = self._clock()
        target = MountTarget(key, is_core=True)
        self._put(path, Stat(DEFAULT_FILE_MODE, size=size, blocks=blocks, mtime=now, ctime=now, mount=target))

    async def unmount(self, path: str) -> None:
        """Take away a mounted drive or core. EINVAL when nothing is mounted there."""
        path = await self._writable_path(path)
        if await self._target(path) is not None:
            self._unmount(path)
            return
        present = await self._existing(path)
        if present.mount is None or not present.mount.is_core:
            raise PathError(errno.EINVAL, path, "nothing is mounted there")
        await self.delete(path)

    async def find(self, path: str) -> Stat | None:
        """Return what is at a normal path as this batch leaves it, or None."""
        if path in self._changed:
            stat = self._changed[path]
            if stat is not None:
                return stat
            return Stat(DEFAULT_DIRECTORY_MODE) if await self._changed.has_any_below(path) else None
        try:
            entry = await self.snapshot.stat(path)
        except PathError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
        else:
            if not entry.implied or await self._changed.has_any_below(path):
                return entry.stat
            return None
        return Stat(DEFAULT_DIRECTORY_MODE) if self._changed.has_new_below(path) else None

    async def _existing(self, path: str) -> Stat:
        present = await self.find(path)
        if present is None:
            raise PathError(errno.ENOENT, path, "no such file or directory")
        return present

    async def _writable_path(self, path: str) -> str:
        """Return ``path`` normalised, once it is known that something may be written there."""
        path = names.checked(path)
        for above in names.ancestors(path):
            if await self._target(above) is not None:
                raise PathError(errno.EXDEV, path, f"{above!r} is another drive, mounted there; write to that one")
        for above in reversed(names.ancestors(path)):
            present = await self.find(above)
            if present is None:
                continue
            if not present.is_directory:
                raise PathError(errno.ENOTDIR, path, f"{above!r} is not a directory")
            break
        return path

    async def _make_way(self, new: str, *, is_directory: bool) -> None:
        """Delete what a rename to ``new`` replaces, if rename(2) allows it."""
        there = await self.find(new)
        if there is None:
            return
        if there.is_directory and not is_directory:
            raise PathError(errno.EISDIR, new, "it is a directory")
        if is_directory and not there.is_directory:
            raise PathError(errno.ENOTDIR, new, "it is not a directory")
        await self.delete(new)

    async def _has_node(self, path: str) -> bool:
        return await self.snapshot.trie.get(path) is not None

    async def _target(self, path: str) -> MountTarget | None:
        if path in self._mounts:
            return self._mounts[path]
        return (await self.snapshot.mounts()).targets.get(path)

    async def _nodes_from(self, path: str) -> dict[str, Stat]:
        """Return the Stat of every node at and below ``path`` as this batch leaves it."""
        found: dict[str, Stat] = {}
        async for node in self.snapshot.trie.iterate(path):
            path_of_node = names.normalise(node.key)
            self._spelling[path_of_node] = node.key
            found[path_of_node] = decode_stat(node.value)
        for below, stat in self._changed.at_and_below(path):
            if stat is None:
                found.pop(below, None)
            else:
                found[below] = stat
        return found

    async def _mounted_from(self, path: str) -> dict[str, MountTarget]:
        targets: dict[str, MountTarget | None] = {**(await self.snapshot.mounts()).targets, **self._mounts}
        return {
            mounted: target
            for mounted, target in targets.items()
            if target is not None and (mounted == path or mounted.startswith(f"{path}/"))
        }

    def _put(self, path: str, stat: Stat) -> None:
        self._changed.set(path, stat)
        self._spelling[path] = path
        flags = MOUNT_FLAG if stat.mount is not None and not stat.mount.is_core else 0
        self.operations.append(Put(path, encode_stat(stat), flags=flags))

    def _delete(self, path: str) -> None:
        self._changed.set(path, None)
        self.operations.append(Delete(self._spelling.pop(path, path)))

    def _delete_all(self, path: str, nodes: Collection[str]) -> None:
        """Delete the nodes at and below ``path``, which are ``nodes``: many of them with one block."""
        if all(below == path for below in nodes):
            for below in nodes:
                self._delete(below)
            return
        for below in nodes:
            self._changed.set(below, None)
            self._spelling.pop(below, None)
        self.operations.append(DeleteTree(path))

    def _mount(self, path: str, target: MountTarget, stat: Stat | None) -> None:
        now = self._clock()
        record = encode_mount_record(path, target)
        self._mounts[path] = target
        self.operations.append(Put(f"{MOUNTS_PREFIX}/{path}", record, flags=MOUNT_FLAG, hidden=True))
        self._put(path, stat or Stat(DEFAULT_DIRECTORY_MODE, mtime=now, ctime=now, mount=target))

    def _unmount(self, path: str) -> None:
        self._mounts[path] = None
        self.operations.append(Delete(f"{MOUNTS_PREFIX}/{path}", hidden=True))
        self._delete(path)


async def append_content(lease: ContentLease, content: bytes | AsyncIterable[bytes]) -> tuple[range, int, int]:
    """Append a file's bytes in blocks of `CHUNK_BYTES`; return its blocks, byte offset and size.

    Cancelled, some of the blocks stand in the content core, and nothing names them.
    """
    first = await lease.append([])
    end, size = first.blocks.stop, 0
    pending: list[bytes] = []
    async for block in _blocks(content):
        pending.append(block)
        if len(pending) == _BLOCKS_IN_AN_APPEND:
            run = await lease.append(pending)
            end, size = run.blocks.stop, size + run.size
            pending = []
    if pending:
        run = await lease.append(pending)
        end, size = run.blocks.stop, size + run.size
    return range(first.blocks.start, end), first.byte_offset, size


async def _blocks(content: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        for position in range(0, len(content), CHUNK_BYTES):
            yield content[position : position + CHUNK_BYTES]
        return
    rest = bytearray()
    async for chunk in content:
        rest += chunk
        while len(rest) >= CHUNK_BYTES:
            yield bytes(rest[:CHUNK_BYTES])
            del rest[:CHUNK_BYTES]
    if rest:
        yield bytes(rest)
