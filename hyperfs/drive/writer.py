"""Changing a drive of ours: files, directories, links, attributes, tags, mounted drives.

The rule: what belongs together is one `Batch`, seen by others as a whole or not at all.
"""

import errno
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from hyperfs.drive import names
from hyperfs.drive.batch import DEFAULT_OWNER, Batch, Clock, Owner, milliseconds_now
from hyperfs.drive.committer import Committer
from hyperfs.drive.drive import Drive
from hyperfs.drive.stat import DEFAULT_DIRECTORY_MODE, DEFAULT_FILE_MODE, Stat
from hyperfs.errors import NotWritable, PathError, short


class DriveWriter:
    """Writes to one drive. Each method of its own is a batch of one; see `Batch` for what they do and raise.

    Below a drive that is mounted in this one they write to that, where there is somebody who does: each is a version of
    the drive that its path is in. Raises EROFS then where the drive is mounted at a version, EXDEV for a rename from
    one drive to another, and `NotWritable` for somebody else's. A `batch` is of this drive alone.

    Cancelled, a batch is made as a whole or not at all. What was appended of files that it does not come to name stays
    in the content core, for nobody to see.
    """

    def __init__(
        self,
        drive: Drive,
        committer: Committer,
        *,
        clock: Clock = milliseconds_now,
        inner: Callable[[Drive], Awaitable["DriveWriter"]] | None = None,
    ) -> None:
        """``inner`` returns who writes a drive that is mounted in this one; None: nobody does."""
        if not drive.live:
            raise NotWritable(f"drive {short(drive.key)} is open at version {drive.version}, which cannot change")
        self.drive = drive
        self.committer = committer
        self.clock = clock
        self._inner = inner
        self._lock = trio.Lock()

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch]:
        """Collect changes and commit them when the block ends without an error. One batch at a time goes on.

        Raises `ConflictingLength` at the end when another writer committed meanwhile; nothing is changed then.
        Cancelled within the block, nothing is changed either; cancelled at the end, all of it or nothing is.
        """
        async with self._lock:
            batch = Batch(self.drive.snapshot(), self.committer, self.clock)
            yield batch
            await self._commit(batch)

    async def _holder(self, path: str) -> tuple["DriveWriter", str]:
        """Return who writes the drive that holds ``path``, and the path in that."""
        if self._inner is None:
            return self, path
        holder, inner_path = await self.drive.snapshot().locate(names.checked(path))
        if holder.key == self.drive.key:
            return self, path
        if holder.is_pinned:
            raise PathError(errno.EROFS, path, f"a version of drive {short(holder.key)} is mounted there")
        return await self._inner(Drive(holder.volume, None)), inner_path

    async def _commit(self, batch: Batch) -> None:
        if batch.operations:
            version = await self.committer.commit(batch.operations, expected_version=batch.snapshot.version)
            if version > batch.snapshot.version:
                await self.drive.metadata.wait_longer(version - 1)

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
        """See `Batch.put_file`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            return await batch.put_file(path, content, mode=mode, owner=owner, mtime=mtime, attributes=attributes)

    async def make_directory(self, path: str, *, mode: int = DEFAULT_DIRECTORY_MODE) -> None:
        """See `Batch.make_directory`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.make_directory(path, mode=mode)

    async def symlink(self, path: str, target: str) -> None:
        """See `Batch.symlink`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.symlink(path, target)

    async def delete(self, path: str) -> None:
        """See `Batch.delete`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.delete(path)

    async def delete_tree(self, path: str) -> None:
        """See `Batch.delete_tree`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.delete_tree(path)

    async def rename(self, old: str, new: str) -> None:
        """See `Batch.rename`."""
        writer, old_path = await self._holder(old)
        other, new_path = await self._holder(new)
        if other.drive.key != writer.drive.key:
            raise PathError(errno.EXDEV, old, f"it is in another drive than {new!r}")
        async with writer.batch() as batch:
            await batch.rename(old_path, new_path)

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
        """See `Batch.set_stat`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            return await batch.set_stat(path, mode=mode, uid=uid, gid=gid, mtime=mtime, ctime=ctime)

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        """See `Batch.set_attribute`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.set_attribute(path, name, value)

    async def tag(self, name: str, version: int | None = None, *, force: bool = False) -> int:
        """See `Batch.tag`."""
        async with self.batch() as batch:
            return await batch.tag(name, version, force=force)

    async def delete_tag(self, name: str) -> int:
        """See `Batch.delete_tag`."""
        async with self.batch() as batch:
            return await batch.delete_tag(name)

    async def mount(self, path: str, key: bytes, *, version: int | None = None) -> None:
        """See `Batch.mount`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.mount(path, key, version=version)

    async def mount_core(self, path: str, key: bytes, *, size: int = 0, blocks: int = 0) -> None:
        """See `Batch.mount_core`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.mount_core(path, key, size=size, blocks=blocks)

    async def unmount(self, path: str) -> None:
        """See `Batch.unmount`."""
        writer, path = await self._holder(path)
        async with writer.batch() as batch:
            await batch.unmount(path)
