"""What a drive says about one path: `Stat` and its encoding, and the record of a mounted drive.

The rule: encoding what was decoded gives the same bytes, whichever implementation wrote them. See docs/formats.md,
"The drive".
"""

import stat as st
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from google.protobuf.message import DecodeError

from hyperfs.core.reader import Run
from hyperfs.crypto import KEY_BYTES
from hyperfs.drive import messages_pb2 as messages
from hyperfs.errors import EncodingError

DEFAULT_FILE_MODE = st.S_IFREG | 0o644
DEFAULT_DIRECTORY_MODE = st.S_IFDIR | 0o755
DEFAULT_LINK_MODE = st.S_IFLNK | 0o777
MOUNT_FLAG = 1
_MAX_NUMBER = (1 << 63) - 1
_KEPT_STATS = 256
_MAX_KEPT_BYTES = 2048
MAX_STAT_BYTES = 1 << 20
"""No file system has an entry with as much: ten of the largest extended attributes."""


@dataclass(frozen=True, slots=True)
class MountTarget:
    """The drive (or bare core) that is mounted at a path; ``version`` None is live."""

    key: bytes
    version: int | None = None
    hash: bytes | None = None
    is_core: bool = False


@dataclass(slots=True)
class Stat:
    """The entry of one path. Sizes in bytes, times in milliseconds since 1970.

    Never changed, and not frozen only because that makes making one six times as slow, and a listing makes many.

    A file's content is ``blocks`` blocks of the content core from block ``offset``; their bytes begin at byte
    ``byte_offset`` of that core and number ``size``. ``attributes`` are the extended attributes in the order of their
    making; a removed one stays, with None. ``linkname`` may hold surrogate escapes for what is not UTF-8.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    blocks: int = 0
    offset: int = 0
    byte_offset: int = 0
    mtime: int = 0
    ctime: int = 0
    linkname: str | None = None
    mount: MountTarget | None = None
    attributes: Mapping[str, bytes | None] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        """Whether entries can be below it. A mounted drive's node is one, whatever its mode says."""
        return st.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return st.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return st.S_ISLNK(self.mode)

    @property
    def has_content(self) -> bool:
        """Whether its bytes are in the drive's content core: it is a regular file, and no other core."""
        return self.is_file and self.mount is None

    @property
    def run(self) -> Run:
        """Where the bytes of a file are in the content core."""
        return Run(range(self.offset, self.offset + self.blocks), self.byte_offset, self.size)

    @property
    def present_attributes(self) -> dict[str, bytes]:
        """The extended attributes less the removed ones."""
        return {name: value for name, value in self.attributes.items() if value is not None}


def encode_stat(stat: Stat) -> bytes:
    """Return the bytes of a `Stat`, every field that the reference always writes written, zeros too."""
    message = messages.Stat(
        mode=stat.mode,
        uid=stat.uid,
        gid=stat.gid,
        size=stat.size,
        blocks=stat.blocks,
        offset=stat.offset,
        byteOffset=stat.byte_offset,
        mtime=stat.mtime,
        ctime=stat.ctime,
    )
    if stat.linkname is not None:
        message.linkname = stat.linkname.encode(errors="surrogateescape")
    if stat.mount is not None:
        mount = message.mount
        mount.key = stat.mount.key
        if stat.mount.version is not None:
            mount.version = stat.mount.version
        if stat.mount.hash is not None:
            mount.hash = stat.mount.hash
        mount.hypercore = stat.mount.is_core
    for name, value in stat.attributes.items():
        entry = message.metadata.add(key=name.encode(errors="surrogateescape"))
        if value is not None:
            entry.value = value
    return message.SerializeToString()


def decode_stat(value: bytes | None) -> Stat:
    """Return the `Stat` in a trie node's value; raise `EncodingError` when it is none or claims the impossible.

    The last ones are kept: who looks at a file mostly looks again, to open it, and a listing looks at each one twice.
    """
    if value is None:
        raise EncodingError("the node of a path holds no Stat")
    if len(value) <= _MAX_KEPT_BYTES:
        return _decode_kept(value)
    if len(value) > MAX_STAT_BYTES:
        raise EncodingError(f"a Stat of {len(value)} bytes, where {MAX_STAT_BYTES} are allowed")
    return _decode(value)


def stat_or_none(value: bytes | None) -> Stat | None:
    """Return the `Stat` in a trie node's value, or None when it holds none that can be."""
    try:
        return decode_stat(value)
    except EncodingError:
        return None


@lru_cache(_KEPT_STATS)
def _decode_kept(value: bytes) -> Stat:
    return _decode(value)


def _decode(value: bytes) -> Stat:
    try:
        message = messages.Stat.FromString(value)
    except DecodeError as error:
        raise EncodingError(f"the node of a path holds no Stat: {error}") from error
    if not message.HasField("mode"):
        raise EncodingError("the node of a path holds no Stat: it has no mode")
    size, blocks, offset, byte_offset = message.size, message.blocks, message.offset, message.byteOffset
    if size + byte_offset > _MAX_NUMBER or blocks + offset > _MAX_NUMBER:
        raise EncodingError(f"a Stat claims {size} bytes in {blocks} blocks from block {offset}, byte {byte_offset}")
    return Stat(
        message.mode,
        message.uid,
        message.gid,
        size,
        blocks,
        offset,
        byte_offset,
        message.mtime,
        message.ctime,
        message.linkname.decode(errors="surrogateescape") if message.HasField("linkname") else None,
        _mount_target(message.mount) if message.HasField("mount") else None,
        {
            entry.key.decode(errors="surrogateescape"): entry.value if entry.HasField("value") else None
            for entry in message.metadata
        }
        if message.metadata
        else {},
    )


def encode_mount_record(path: str, target: MountTarget) -> bytes:
    """Return the value of the hidden node that mounts ``target`` at ``path``."""
    message = messages.MountRecord(key=target.key, localPath=path.encode())
    if target.version is not None:
        message.version = target.version
    if target.hash is not None:
        message.hash = target.hash
    return message.SerializeToString()


def decode_mount_record(value: bytes | None) -> MountTarget:
    """Return the drive that a hidden node ``mounts/PATH`` names; a version of 0 or none is live."""
    try:
        message = messages.MountRecord.FromString(value or b"")
    except DecodeError as error:
        raise EncodingError(f"a hidden node of a mount holds no record: {error}") from error
    if len(message.key) != KEY_BYTES:
        raise EncodingError(f"a mount names a key of {len(message.key)} bytes")
    return MountTarget(message.key, message.version or None, message.hash if message.HasField("hash") else None)


def _mount_target(message: messages.Mount) -> MountTarget:
    if len(message.key) != KEY_BYTES:
        raise EncodingError(f"a mount names a key of {len(message.key)} bytes")
    return MountTarget(
        message.key,
        message.version if message.HasField("version") else None,
        message.hash if message.HasField("hash") else None,
        message.hypercore,
    )
