"""Changing a drive of ours: files, directories, links, attributes, tags, mounted drives.

The rule: what belongs together is one `Batch`, seen by others as a whole or not at all.
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from hyperfs.drive.batch import DEFAULT_OWNER, Batch, Clock, Owner, milliseconds_now
from hyperfs.drive.committer import Committer
from hyperfs.drive.drive import Drive
from hyperfs.drive.stat import DEFAULT_DIRECTORY_MODE, DEFAULT_FILE_MODE, Stat
from hyperfs.errors import NotWritable, short


class DriveWriter:
    """Writes to one drive. Each method of its own is a batch of one; see `Batch` for what they do and raise.

    Cancelled, a batch is made as a whole or not at all. What was appended of files that it does not come to name stays
    in the content core, for nobody to see.
    """

    def __init__(self, drive: Drive, committer: Committer, *, clock: Clock = milliseconds_now) -> None:
        if not drive.live:
            raise NotWritable(f"drive {short(drive.key)} is open at version {drive.version}, which cannot change")
        self.drive = drive
        self.committer = committer
        self.clock = clock
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
        async with self.batch() as batch:
            return await batch.put_file(path, content, mode=mode, owner=owner, mtime=mtime, attributes=attributes)

    async def make_directory(self, path: str, *, mode: int = DEFAULT_DIRECTORY_MODE) -> None:
        """See `Batch.make_directory`."""
        async with self.batch() as batch:
            await batch.make_directory(path, mode=mode)

    async def symlink(self, path: str, target: str) -> None:
        """See `Batch.symlink`."""
        async with self.batch() as batch:
            await batch.symlink(path, target)

    async def delete(self, path: str) -> None:
        """See `Batch.delete`."""
        async with self.batch() as batch:
            await batch.delete(path)

    async def delete_tree(self, path: str) -> None:
        """See `Batch.delete_tree`."""
        async with self.batch() as batch:
            await batch.delete_tree(path)

    async def rename(self, old: str, new: str) -> None:
        """See `Batch.rename`."""
        async with self.batch() as batch:
            await batch.rename(old, new)

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
        async with self.batch() as batch:
            return await batch.set_stat(path, mode=mode, uid=uid, gid=gid, mtime=mtime, ctime=ctime)

    async def set_attribute(self, path: str, name: str, value: bytes | None) -> None:
        """See `Batch.set_attribute`."""
        async with self.batch() as batch:
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
        async with self.batch() as batch:
            await batch.mount(path, key, version=version)

    async def mount_core(self, path: str, key: bytes, *, size: int = 0, blocks: int = 0) -> None:
        """See `Batch.mount_core`."""
        async with self.batch() as batch:
            await batch.mount_core(path, key, size=size, blocks=blocks)

    async def unmount(self, path: str) -> None:
        """See `Batch.unmount`."""
        async with self.batch() as batch:
            await batch.unmount(path)
