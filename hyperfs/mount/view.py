"""What a mount shows: the seam between what the kernel asks and where files come from.

The rules: a view knows nothing of FUSE, of time limits, or of what the kernel keeps; it answers about inodes by their
numbers, which it gives out itself. A method whose name ends in ``_now`` does what its namesake does, or returns None
when that takes waiting; only then is the namesake awaited. What a view does not implement changes something, and is
refused as on a read-only file system.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hyperfs.errors import PathError
from hyperfs.mount.files import Handle, Readable
from hyperfs.mount.inodes import Inode
from hyperfs.mount.siblings import Step
from hyperfs.mount.staging.nodes import Attributes, Renaming

NOTHING = Attributes(0, 0, 0, 0, 0, 0, 0)


class Answer(NamedTuple):
    """An inode as it is told of. ``seconds``: for how long that may be believed unless a change is told of.

    Number 0 says that there is nothing of a name.
    """

    number: int
    attributes: Attributes
    seconds: float


@dataclass(frozen=True, slots=True)
class Space:
    """What statfs(2) tells, in blocks of ``block_bytes``."""

    block_bytes: int
    fragment_bytes: int
    blocks: int
    free: int
    available: int
    files: int
    files_free: int
    files_available: int


class Inodes(Protocol):
    """The numbers that the kernel knows, as far as others than their view deal with them: see `InodeTable`."""

    def __getitem__(self, number: int) -> Inode: ...
    def remember(self, parent: int, name: bytes, kind: int) -> int:
        """Count one more lookup of ``name`` in ``parent``, and return its number."""
        ...

    def forget(self, number: int, lookups: int) -> None:
        """Take back ``lookups`` lookups."""
        ...

    def set_content(self, number: int, content: int) -> None:
        """Note which content the kernel's pages of an inode are of from now on."""
        ...


class View(ABC):
    """A tree of inodes. All methods raise `PathError` and `BlockNotAvailable`, those that change also OSError."""

    inodes: Inodes
    """Which numbers the kernel knows, and of what."""

    @property
    @abstractmethod
    def generation(self) -> object:
        """Something that is not equal any more once anything may differ from what was answered before."""

    def generation_of(self, number: int) -> object:
        """Return `generation` as far as what is in directory ``number``, or that itself, is concerned."""
        return self.generation

    # Looking

    def lookup_now(self, parent: int, name: bytes) -> Answer | None:
        """Do what `lookup` does, or return None."""
        return None

    @abstractmethod
    async def lookup(self, parent: int, name: bytes) -> Answer:
        """Find a name in a directory. What is found counts as looked up once more."""

    def attributes_now(self, number: int) -> Answer | None:
        """Do what `attributes` does, or return None."""
        return None

    @abstractmethod
    async def attributes(self, number: int) -> Answer:
        """Tell of an inode. ESTALE for one that is gone."""

    @abstractmethod
    async def link_target(self, number: int) -> str:
        """Return where a symbolic link leads. EINVAL for anything else."""

    @abstractmethod
    async def user_attributes(self, number: int) -> Mapping[str, bytes]:
        """Return an inode's extended attributes by their name in a file system."""

    @abstractmethod
    async def list(self, number: int, on_entries: Callable[[], None]) -> list[bytes]:
        """Return a row (see `directories`) of each entry of a directory, as all were at one instant.

        ``on_entries`` is called whenever more are known: a long listing may take long to come from afar.
        """

    @abstractmethod
    def row_now(self, number: int, row: bytes) -> bytes | None:
        """Return the row of an entry that was listed in an earlier generation as it has to be now; None: it went."""

    @abstractmethod
    async def space(self) -> Space:
        """Tell how much room there is."""

    # Open files

    def open_now(self, number: int, *, writing: bool) -> Handle | None:
        """Do what `open` does without emptying the file, or return None."""
        return None

    @abstractmethod
    async def open(self, number: int, *, writing: bool, truncating: bool, keeps_set_id: bool) -> Handle:
        """Return a handle on a file, for `released` to take back. Cancelled, nothing was opened or emptied.

        With ``truncating`` the file is emptied first; without ``keeps_set_id`` that clears its set-id bits.
        """

    @abstractmethod
    def source_now(self, handle: Handle) -> Readable | None:
        """Do what `source` does, or return None."""

    async def source(self, handle: Handle) -> Readable:
        """Return what the bytes of a handle are read from now."""
        source = self.source_now(handle)
        assert source is not None
        return source

    async def flushed(self, handle: Handle) -> None:
        """Note that a descriptor was closed: what was written to it has to outlive this process from now on.

        Raises OSError (ENOSYS) where nothing can have been written to it; it is not called again then.
        """
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    @abstractmethod
    async def fetch_siblings(self, handle: Handle, step: Step) -> None:
        """Have small files fetched that come after a handle's, as many as ``step`` says, without waiting for them.

        Nothing of it matters to anybody who does not read them; what raises is logged.
        """

    @abstractmethod
    async def released(self, handle: Handle) -> None:
        """Take back `open`."""

    @abstractmethod
    def blocks_in_use(self, key: bytes, handles: Iterable[Handle]) -> Iterable[range]:
        """Yield the blocks of core ``key`` that ``handles``, and what is not committed, lie in."""

    # Changing

    def make_now(
        self, parent: int, name: str, mode: int, uid: int, gid: int, linkname: str | None = None
    ) -> Answer | None:
        """Do what `make` does, or return None."""
        return None

    async def make(self, parent: int, name: str, mode: int, uid: int, gid: int, linkname: str | None = None) -> Answer:
        """Make a file, directory, link, FIFO or socket. It counts as looked up. Cancelled, nothing was made."""
        raise _read_only()

    def open_made(self, number: int) -> Handle:
        """Open the file that was just made."""
        raise _read_only()

    def unlink_now(self, parent: int, name: str) -> bool | None:
        """Do what `unlink` does and return True, or return None."""
        return None

    async def unlink(self, parent: int, name: str) -> None:
        """Remove anything but a directory. Cancelled, nothing was removed."""
        raise _read_only()

    def remove_directory_now(self, parent: int, name: str) -> bool | None:
        """Do what `remove_directory` does and return True, or return None."""
        return None

    async def remove_directory(self, parent: int, name: str, on_entries: Callable[[], None]) -> None:
        """Remove an empty directory; ``on_entries`` as of `list`. Cancelled, nothing was removed."""
        raise _read_only()

    def rename_now(self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming) -> bool | None:
        """Do what `rename` does and return True, or return None."""
        return None

    async def rename(self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming) -> None:
        """Do renameat2(2). Cancelled, nothing was renamed."""
        raise _read_only()

    def set_attributes_now(
        self, number: int, mode: int | None, uid: int | None, gid: int | None, mtime: int | None, size: int | None
    ) -> Answer | None:
        """Do what `set_attributes` does, or return None."""
        return None

    async def set_attributes(
        self, number: int, mode: int | None, uid: int | None, gid: int | None, mtime: int | None, size: int | None
    ) -> Answer:
        """Change what is given: of ``mode`` the permission bits, ``mtime`` in ns. Cancelled, nothing was changed."""
        raise _read_only()

    async def set_user_attribute(self, number: int, name: str, value: bytes | None) -> None:
        """Set an extended attribute, or with None remove it (ENODATA). Cancelled, nothing was changed."""
        raise _read_only()

    async def write(self, handle: Handle, position: int, data: bytes) -> None:
        """Write to an open file. Failed or cancelled, it is as it was, or any part of ``data`` may be in it."""
        raise _read_only()

    @abstractmethod
    async def sync(self, number: int | None) -> None:
        """Make a file, or with None everything, durable. It is not committed by that.

        Raises OSError, and then it may not be. Cancelled, it may or may not.
        """


def absent(seconds: float) -> Answer:
    """Return the answer that there is nothing of a name."""
    return Answer(0, NOTHING, seconds)


def _read_only() -> PathError:
    return PathError(errno.EROFS, "", "it is not to be changed")
