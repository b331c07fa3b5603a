"""What a commit of a drive is made of, for who stages changes, or passes them on, and knows nothing of tries.

The rule: an operation made here can be told apart later: whether the commit that it was part of stands is answered by
looking at the drive alone.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from hyperfs.drive import names
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import MOUNT_FLAG, Stat, encode_stat
from hyperfs.errors import EncodingError, PathError
from hyperfs.trie import Delete, DeleteTree, Operation, Put, encode_batch

__all__ = [
    "Operation",
    "copies_below",
    "decode_operation",
    "deletion",
    "encode_operation",
    "entry",
    "operation_of",
    "stands",
    "value_of",
    "version_made",
]


def entry(path: str, stat: Stat) -> Operation:
    """Return what puts ``stat`` at ``path``."""
    flags = MOUNT_FLAG if stat.mount is not None and not stat.mount.is_core else 0
    return Put(path, encode_stat(stat), flags=flags)


def deletion(path: str) -> Operation:
    """Return what deletes ``path`` and everything below it, with one node."""
    return DeleteTree(path)


async def copies_below(snapshot: Snapshot, path: str, target: str) -> AsyncGenerator[tuple[str, Operation], None]:
    """Yield, for each entry below ``path``, its path, and what puts it at the same place below ``target``."""
    async for node in snapshot.trie.iterate(path):
        below = names.normalise(node.key)
        if below != path:
            yield below, Put(target + below[len(path) :], node.value, flags=node.flags)


def encode_operation(operation: Operation) -> list[Any]:
    """Return an operation as plain values, which `decode_operation` takes in another process."""
    match operation:
        case Put(path, value, flags, hidden):
            return ["put", path, value, flags, hidden]
        case Delete(path, hidden):
            return ["delete", path, hidden]
        case DeleteTree(path, hidden):
            return ["delete-tree", path, hidden]


def decode_operation(fields: Any) -> Operation:
    """Return the operation of which `encode_operation` made ``fields``. Raises `EncodingError` for anything else."""
    match fields:
        case ["put", str(path), bytes() | None as value, int(flags), bool(hidden)]:
            return Put(path, value, flags, hidden)
        case ["delete", str(path), bool(hidden)]:
            return Delete(path, hidden)
        case ["delete-tree", str(path), bool(hidden)]:
            return DeleteTree(path, hidden)
    raise EncodingError("a commit holds something that is no operation of a drive")


def value_of(operation: Operation) -> bytes | None:
    """Return what an operation puts; None for a deletion."""
    return operation.value if isinstance(operation, Put) else None


def operation_of(path: str, value: bytes | None) -> Operation:
    """Return the operation on ``path`` of which `value_of` said this."""
    return DeleteTree(path) if value is None else Put(path, value)


async def stands(snapshot: Snapshot, version: int, operation: Operation) -> bool:
    """Tell whether a commit that was to follow ``version``, ``operation`` being one of it, was made."""
    if snapshot.version <= version:
        return False
    if isinstance(operation, Put):
        node = await snapshot.trie.get(operation.path)
        return node is not None and node.value == operation.value and node.seq >= version
    try:
        await snapshot.stat(operation.path)
    except PathError:
        return True
    return False


async def version_made(snapshot: Snapshot, version: int, operations: Sequence[Operation]) -> int | None:
    """Return the version that a commit of ``operations`` which expected ``version`` made; None when it was not made.

    A commit's blocks follow from the version that it was made for, so they are made again and compared with those that
    ``snapshot``'s drive has there. Raises `UnknownVersion` when that version is past ``snapshot``'s drive.
    """
    blocks = await encode_batch(snapshot.trie.checkout(version), operations)
    end = version + len(blocks)
    metadata = snapshot.volume.metadata
    if metadata.length < end:
        return None
    for seq, block in enumerate(blocks, version):
        there = metadata.get_local(seq)
        if (await metadata.get(seq) if there is None else there) != block:
            return None
    return end
