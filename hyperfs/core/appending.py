"""Writing what is appended to a core: blocks to the data file, the nodes that they add to the tree file.

The rule: what is written lies past everything that counts, and counts only once the core takes it over.
"""

from collections.abc import Sequence

import trio

from hyperfs.core.files import CoreFiles
from hyperfs.core.format import Hashes
from hyperfs.core.growth import Growth, grow
from hyperfs.storage import RandomAccessFile
from hyperfs.tree_node import TreeNode

_THREAD_BYTES = 256 * 1024
_LARGE_BLOCK_BYTES = 16 * 1024
_WRITER_HASHES = 3 / 8
_MANY_BLOCKS = 256


async def write_growth(
    files: CoreFiles,
    byte_length: int,
    roots: Sequence[TreeNode],
    start: int,
    blocks: Sequence[bytes],
    sizes: Sequence[int],
) -> Growth:
    """Write ``blocks``, of these ``sizes``, behind a core of ``start`` blocks; return the nodes that they add.

    Small batches are written without yielding to other tasks. Raises OSError.
    """
    if sum(sizes) >= _THREAD_BYTES:
        growth = await _grow_in_threads(files, byte_length, roots, start, blocks, sizes)
    else:
        growth = grow(files.format, roots, start, files.format.leaf_hashes(blocks), sizes)
        _write_blocks(files.data.file, byte_length, blocks)
    growth.write(files.tree)
    return growth


def punch(file: RandomAccessFile, places: Sequence[tuple[int, int]]) -> None:
    """Free the bytes [start, end) of each place. Waits for the disk."""
    for start, end in places:
        file.punch_hole(start, end - start)


async def _grow_in_threads(
    files: CoreFiles,
    byte_length: int,
    roots: Sequence[TreeNode],
    start: int,
    blocks: Sequence[bytes],
    sizes: Sequence[int],
) -> Growth:
    """Hash and write blocks side by side."""
    # Large blocks are hashed without the interpreter's lock: who writes can take over some of that.
    share = int(len(blocks) * _WRITER_HASHES) if sum(sizes) // len(blocks) >= _LARGE_BLOCK_BYTES else 0
    leaf_hashes = files.format.leaf_hashes
    first: Hashes = []
    failures: list[OSError] = []

    def write_and_hash() -> None:
        _write_blocks(files.data.file, byte_length, blocks)
        first.extend(leaf_hashes(blocks[:share]))

    async def write() -> None:
        try:
            await trio.to_thread.run_sync(write_and_hash)
        except OSError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        rest = await trio.to_thread.run_sync(leaf_hashes, blocks[share:])
    if failures:
        raise failures[0]
    if len(blocks) < _MANY_BLOCKS:
        return grow(files.format, roots, start, first + rest, sizes)
    return await trio.to_thread.run_sync(grow, files.format, roots, start, first + rest, sizes)


def _write_blocks(file: RandomAccessFile, byte_length: int, blocks: Sequence[bytes]) -> None:
    if len(blocks) == 1:
        file.write(byte_length, blocks[0])
    elif sum(map(len, blocks)) < _THREAD_BYTES:
        file.write(byte_length, b"".join(blocks))
    else:
        file.write_all(byte_length, blocks)
