"""The newest head of a core of ours, noted without waiting for the disk: what a process that was killed had appended.

The rule: a record counts only in the boot that wrote it, for then the kernel has every byte that was written before it;
and all that it adds is hashed again, and has to be what its signature says. So a power cut, or a record that is stale,
torn or alone on the disk, leaves what the core's own files say. Nobody else has seen what is beyond these.
"""

import hashlib
import itertools
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperfs.core.format import Hashes
from hyperfs.core.growth import Growth, grow
from hyperfs.core.proofs import MAX_BLOCK_BYTES
from hyperfs.core.sleep import HEADER_BYTES, NODE_BYTES
from hyperfs.errors import short
from hyperfs.storage import Directory, RandomAccessFile
from hyperfs.tree_node import TreeNode

if TYPE_CHECKING:
    from hyperfs.core.files import CoreFiles

log = logging.getLogger(__name__)

_FIELDS = struct.Struct("<16s32sQ64s")
_CHECK_BYTES = 16
_NO_KEY = bytes(32)
_LOAD_BYTES = 4 * 1024 * 1024
_SCAN_LEAVES = 1 << 13


@dataclass(frozen=True, slots=True)
class RecordedHead:
    """The last head that was appended. ``after`` is the key of the core whose blocks are named in this one, if any."""

    length: int
    signature: bytes
    after: bytes | None


class HeadRecord:
    """The record of one core: the file ``name``, which is made at the first `write`. ``boot`` is `boot_id` now."""

    def __init__(self, directory: Directory, name: str, *, boot: bytes) -> None:
        self.after: bytes | None = None
        """Goes into each record."""
        self._directory = directory
        self._name = name
        self._boot = boot
        self._file: RandomAccessFile | None = None

    def read(self) -> RecordedHead | None:
        """Return what was recorded in this boot of the machine, if anything."""
        try:
            file = self._directory.open(self._name)
        except FileNotFoundError:
            return None
        try:
            content = file.read(0, _FIELDS.size + _CHECK_BYTES)
        finally:
            file.close()
        fields, check = content[: _FIELDS.size], content[_FIELDS.size :]
        if not fields.startswith(self._boot) or check != _check(fields):
            return None
        _, after, length, signature = _FIELDS.unpack(fields)
        return RecordedHead(length, signature, None if after == _NO_KEY else after)

    def write(self, length: int, signature: bytes) -> None:
        """Record a head of which everything was written. Does not wait for the disk. Raises OSError."""
        if self._file is None:
            self._file = self._directory.open(self._name, create=True)
        fields = _FIELDS.pack(self._boot, self.after or _NO_KEY, length, signature)
        self._file.write(0, fields + _check(fields))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def growth_of(files: "CoreFiles", length: int, roots: Sequence[TreeNode], head: RecordedHead) -> Growth | None:
    """Return what ``head`` adds to a core of ``length`` blocks, if all of it is in the files; nothing is changed.

    ``roots`` are the core's at ``length``. Only the sizes of blocks are taken from the tree file: the nodes are made
    anew from the data, and believed because of the signature. Waits for the disk.
    """
    sizes = _sizes(files, length, head.length)
    start = sum(root.size for root in roots)
    if len(sizes) == head.length - length and start + sum(sizes) <= files.data.file.size():
        growth = grow(files.format, roots, length, _hashes(files, start, sizes), sizes)
        if files.format.verify(growth.roots, head.length, head.signature, files.key):
            return growth
    log.warning("core %s: not all of the %d blocks appended last is there", short(files.key), head.length)
    return None


def _sizes(files: "CoreFiles", length: int, end: int) -> list[int]:
    """Return the sizes that the tree file has for blocks [length, end), up to the first that it lacks."""
    sizes: list[int] = []
    for first in range(length, end, _SCAN_LEAVES):
        count = min(_SCAN_LEAVES, end - first)
        data = files.tree.file.read(HEADER_BYTES + 2 * NODE_BYTES * first, 2 * NODE_BYTES * count)
        for at in range(0, 2 * NODE_BYTES * count, 2 * NODE_BYTES):
            entry = data[at : at + NODE_BYTES]
            size = int.from_bytes(entry[32:], "big")
            if not any(entry) or size > MAX_BLOCK_BYTES:
                return sizes
            sizes.append(size)
    return sizes


def _hashes(files: "CoreFiles", start: int, sizes: Sequence[int]) -> Hashes:
    """Return the leaf hashes of the blocks of these sizes that lie in the data file from ``start`` on."""
    hashes: Hashes = []
    ends = list(itertools.accumulate(sizes, initial=start))
    first = 0
    while first < len(sizes):
        stop = first + 1
        while stop < len(sizes) and ends[stop + 1] - ends[first] <= _LOAD_BYTES:
            stop += 1
        data = files.data.file.read(ends[first], ends[stop] - ends[first])
        base = ends[first]
        hashes += files.format.leaf_hashes([data[ends[i] - base : ends[i + 1] - base] for i in range(first, stop)])
        first = stop
    return hashes


def _check(fields: bytes) -> bytes:
    return hashlib.blake2b(fields, digest_size=_CHECK_BYTES).digest()
