"""Everything that hyperfs raises on purpose, as one small tree.

The rule: a message says what was wrong with which key, path, version, file or peer, and, where there is something to
do about it, what. Errors that stand for a POSIX failure carry their ``errno``; mapping them is `errno_of`'s alone.
"""

import errno


def short(key: bytes) -> str:
    """Return the first 8 hex digits of a key, as logs and messages show it."""
    return key.hex()[:8]


class HyperfsError(Exception):
    """The root of all of hyperfs's own errors. ``errno`` is what a file system call answers for it."""

    errno: int = errno.EIO


class EncodingError(HyperfsError, ValueError):
    """Bytes that do not follow the format they claim to be in."""


class InvalidKey(HyperfsError, ValueError):
    """A text or a byte string that is not a key."""

    errno = errno.EINVAL


class UnknownVersion(HyperfsError, ValueError):
    """A version or a tag that the drive does not have."""

    errno = errno.ENOENT


class NotADrive(HyperfsError):
    """A core that is there, but is not the metadata of a Hyperdrive."""


class BlockNotAvailable(HyperfsError):
    """A block that is not on this disk and that no peer has brought in time."""


class TimedOut(BlockNotAvailable):
    """A block that did not come within the time that whoever asked for it gave."""

    errno = errno.ETIMEDOUT


class BlockTooFar(BlockNotAvailable):
    """A block that verifies, and lies where no file here reaches: it is its owner who says so, and not the peer."""

    errno = errno.EFBIG


class NotWritable(HyperfsError):
    """A change to a core, or a drive, whose secret key is not here or whose version is fixed."""

    errno = errno.EROFS


class WriterBehind(HyperfsError):
    """An append to a core of ours of which peers have more than is here, as after a backup was restored.

    EAGAIN, not EROFS: it passes by itself, once what is missing has been fetched, and the same write then succeeds.
    """

    errno = errno.EAGAIN


class WriterForked(NotWritable):
    """An append to a core whose key has signed two histories. EROFS as `NotWritable`: it lasts until a user decides."""


class ConflictingLength(HyperfsError):
    """A commit that expected another length of the core than it has: somebody else appended first."""

    errno = errno.EAGAIN


class DamagedTrie(HyperfsError):
    """A block of a trie that no honest writer makes: it is not a node, or links nodes that do not belong together."""


class InvalidProof(HyperfsError):
    """A block or tree node that does not verify against the core's key.

    ``position`` is which one it was of those that `Core.store` was given.
    """

    position = 0


class Fork(InvalidProof):
    """A correctly signed tree that contradicts the one already trusted: the secret key was used in two places."""


class InvalidRun(HyperfsError):
    """A file's record that names bytes which its blocks do not hold."""


class DamagedStore(HyperfsError):
    """Files of a store that cannot be what hyperfs, or the reference, wrote."""


class LaterFormat(HyperfsError):
    """Files of a format that a later version of hyperfs wrote, and this one must not touch."""


class StoreLocked(HyperfsError):
    """A store, or a core in it, that another process has open."""

    errno = errno.EBUSY


class Closed(HyperfsError):
    """A core, a store or a file of one that was closed, before this was asked of it or while it waited."""

    errno = errno.EBADF


class PeerMisbehaved(HyperfsError):
    """A peer broke the protocol; the connection ends and the message is the reason that is logged."""


class PathError(HyperfsError):
    """A path of a drive that cannot be used as asked. ``errno`` says how."""

    def __init__(self, code: int, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.errno = code
        self.path = path


class DaemonError(HyperfsError):
    """The daemon is not reachable, does not answer, or is of another version."""


class NoDaemon(DaemonError):
    """No daemon runs for a store, and none was to be started."""


class OtherVersion(DaemonError):
    """The daemon that runs speaks another protocol than this program."""


class MountFailed(HyperfsError):
    """A drive that cannot be mounted: no FUSE here, or a mount point that cannot be used as it is."""


class StillStaged(HyperfsError):
    """A mount that ended before all that was written to it was in the drive: it is kept, for the next mount of it."""


class UsageError(HyperfsError):
    """Arguments that make no sense together; commands exit with status 2."""

    errno = errno.EINVAL


def errno_of(error: BaseException) -> int:
    """Return the errno that a file system call answers for ``error``: the one table for all of hyperfs."""
    if isinstance(error, HyperfsError):
        return error.errno
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return errno.EIO
