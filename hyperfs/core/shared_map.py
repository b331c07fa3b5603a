"""The map by which a core's owner tells other processes which blocks are here.

The rule: a bit is set after its block was written, and the generation is raised before any bit is cleared. What is
mapped was allocated before and never shrinks, so reading it cannot fail; it grows, and who reads past what he mapped
maps it again. Only so much is mapped: the bits of blocks far up, of which a hostile core has one at whatever place it
likes, lie in holes, and are read and written as any file is. See docs/architecture.md, "Who may touch what".
"""

import contextlib
import mmap
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from hyperfs.core import bits
from hyperfs.errors import DamagedStore

HEADER_BYTES = 4096
_MAGIC = b"hyperfs map 2\n\x00\x00"
_FIXED = struct.Struct("<16s16s32s")
_COUNTER = struct.Struct("<Q")
_EPOCH_AT = 64
_GENERATION_AT = 72
_FIRST_BYTES = 8192
_MAPPED_BYTES = 1 << 18
"""Of bits: 2 million blocks, 128 GiB of usual files."""
_MAPPED_BLOCKS = 8 * _MAPPED_BYTES
_MAX_FAR_BYTES = 1 << 16
"""Read at once of what is not mapped."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> bytes:
    """Return what tells this boot of the machine from others, 16 bytes."""
    return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))


class SharedMapWriter:
    """The owner's end: creates the map, or takes over the one of the owner before, so that its readers go on."""

    def __init__(self, path: Path, key: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._close_descriptor)
            fixed = _FIXED.pack(_MAGIC.ljust(16, b"\x00"), boot_id(), key)
            size = os.fstat(self._descriptor).st_size
            kept = size >= HEADER_BYTES and os.pread(self._descriptor, len(fixed), 0) == fixed
            if size > HEADER_BYTES + _MAPPED_BYTES:
                size = HEADER_BYTES + _MAPPED_BYTES
                os.ftruncate(self._descriptor, size)
            size = max(size, HEADER_BYTES + _FIRST_BYTES)
            os.posix_fallocate(self._descriptor, 0, size)
            self._map = mmap.mmap(self._descriptor, size)
            on_failure.pop_all()
        if not kept:
            self._map[: len(fixed)] = fixed
        self._raise(_EPOCH_AT)
        self._raise(_GENERATION_AT)
        self._map[HEADER_BYTES:] = bytes(size - HEADER_BYTES)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self.close()
            warnings.warn(f"the map {self._path} was not closed", ResourceWarning, stacklevel=1, source=self)

    def reserve(self, start: int, end: int) -> None:
        """Make room for the bits of [start, end), so that `set_blocks` of these cannot fail. Raises OSError."""
        # What is past the mapped part makes the file longer than that, so all of it has to be there before.
        needed = HEADER_BYTES + (min(end, _MAPPED_BLOCKS) + 7) // 8
        if needed > len(self._map):
            self._grow(needed)
        if end > _MAPPED_BLOCKS:
            first = max(start, _MAPPED_BLOCKS) // 8
            os.posix_fallocate(self._descriptor, HEADER_BYTES + first, (end + 7) // 8 - first)

    def set_blocks(self, start: int, end: int) -> None:
        """Tell that blocks [start, end) are here, for which there is room."""
        near = min(end, _MAPPED_BLOCKS)
        if start < near:
            bits.set_range(self._map, 8 * HEADER_BYTES + start, 8 * HEADER_BYTES + near)
        self._change_far(start, end, bits.set_range)

    def set_raw(self, start: int, data: bytes) -> None:
        """Tell of the blocks from ``start``, a multiple of 8, by their bits; makes room for them. Raises OSError."""
        data = data.rstrip(b"\x00")
        if not data:
            return
        self.reserve(start, start + 8 * len(data))
        near = data[: max(0, _MAPPED_BLOCKS - start) // 8]
        at = HEADER_BYTES + start // 8
        self._map[at : at + len(near)] = near
        if len(near) < len(data):
            os.pwrite(self._descriptor, data[len(near) :], at + len(near))

    def clear_blocks(self, start: int, end: int) -> None:
        """Tell that blocks [start, end) are about to go."""
        self._raise(_GENERATION_AT)
        near = min(end, 8 * (len(self._map) - HEADER_BYTES))
        if start < near:
            bits.clear_range(self._map, 8 * HEADER_BYTES + start, 8 * HEADER_BYTES + near)
        self._change_far(start, end, bits.clear_range)

    def close(self) -> None:
        """Unmap; the file stays for readers and for the next owner."""
        if self._descriptor >= 0:
            self._map.close()
            self._close_descriptor()

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _change_far(self, start: int, end: int, change: Callable[[bytearray, int, int], None]) -> None:
        start = max(start, _MAPPED_BLOCKS)
        while start < end:
            first = start // 8
            stop = min(end, 8 * (first + _MAX_FAR_BYTES))
            size = (stop + 7) // 8 - first
            part = bytearray(os.pread(self._descriptor, size, HEADER_BYTES + first).ljust(size, b"\x00"))
            change(part, start - 8 * first, stop - 8 * first)
            os.pwrite(self._descriptor, part, HEADER_BYTES + first)
            start = stop

    def _raise(self, at: int) -> None:
        (value,) = _COUNTER.unpack_from(self._map, at)
        _COUNTER.pack_into(self._map, at, (value + 1) & (2**64 - 1))

    def _grow(self, needed: int) -> None:
        size = len(self._map)
        while size < needed:
            size = min(2 * size, HEADER_BYTES + _MAPPED_BYTES)
        os.posix_fallocate(self._descriptor, 0, size)
        grown = mmap.mmap(self._descriptor, size)
        self._map.close()
        self._map = grown


class SharedMapReader:
    """The other end, read-only: `BlockBits` as the owner tells them. Without a map (yet), nothing is here."""

    def __init__(self, path: Path, key: bytes) -> None:
        self.on_mapped: Callable[[], None] | None = None
        """Called whenever a map was found."""
        self._path = path
        self._key = key
        self._descriptor = -1
        self._map: mmap.mmap | None = None
        self._bytes = 0
        self.reopen()

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self.close()
            warnings.warn(f"the map {self._path} was not closed", ResourceWarning, stacklevel=1, source=self)

    def reopen(self) -> None:
        """Map the file at the path again: needed when there was none yet, or another one took its place."""
        self.close()
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        self._descriptor = descriptor
        self._remap()
        if self._map is None:
            return
        magic, boot, key = _FIXED.unpack_from(self._map, 0)
        if magic != _MAGIC.ljust(16, b"\x00") or boot != boot_id():
            self.close()
        elif key != self._key:
            self.close()
            raise DamagedStore(f"{self._path} is the map of core {key.hex()[:8]}, not of {self._key.hex()[:8]}")
        elif self.on_mapped is not None:
            self.on_mapped()

    @property
    def mapped(self) -> bool:
        """Whether there is a map of this boot."""
        return self._map is not None

    @property
    def epoch(self) -> int:
        """How many owners the map had; 0 without one."""
        return 0 if self._map is None else int(_COUNTER.unpack_from(self._map, _EPOCH_AT)[0])

    @property
    def generation(self) -> int:
        """Changes before any block goes away."""
        return 0 if self._map is None else int(_COUNTER.unpack_from(self._map, _GENERATION_AT)[0])

    def get(self, index: int) -> bool:
        """Tell whether block ``index`` is here."""
        if index >= _MAPPED_BLOCKS:
            return self.has(index, index + 1)
        at = HEADER_BYTES + (index >> 3)
        if at >= self._bytes and not self._reach(at + 1):
            return False
        assert self._map is not None
        return self._map[at] & (128 >> (index & 7)) != 0

    def has(self, start: int, end: int) -> bool:
        """Tell whether all blocks of [start, end) are here."""
        near = min(end, _MAPPED_BLOCKS)
        if start < near:
            if not self._reach(HEADER_BYTES + (near + 7) // 8):
                return False
            assert self._map is not None
            if not bits.all_set(self._map, 8 * HEADER_BYTES + start, 8 * HEADER_BYTES + near):
                return False
        return all(bits.all_set(part, low, high) for part, low, high in self._far(start, end, holes=True))

    def count(self, start: int, end: int) -> int:
        """Return how many blocks of [start, end) are here."""
        near = min(end, _MAPPED_BLOCKS)
        self._reach(HEADER_BYTES + (near + 7) // 8)
        if self._map is None:
            return 0
        near = min(near, 8 * (self._bytes - HEADER_BYTES))
        found = bits.count_set(self._map, 8 * HEADER_BYTES + start, 8 * HEADER_BYTES + near)
        return found + sum(bits.count_set(part, low, high) for part, low, high in self._far(start, end, holes=False))

    def raw(self, start: int, end: int) -> bytes:
        """Return the bits of [start, end), both multiples of 8; zeros past the end of the map."""
        near = min(end, _MAPPED_BLOCKS)
        self._reach(HEADER_BYTES + near // 8)
        size = (end - start) // 8
        if self._map is None:
            return bytes(size)
        found = self._map[HEADER_BYTES + start // 8 : HEADER_BYTES + near // 8] if start < near else b""
        if end > _MAPPED_BLOCKS:
            first = max(start, _MAPPED_BLOCKS) // 8
            found = found.ljust(first - start // 8, b"\x00")
            found += os.pread(self._descriptor, end // 8 - first, HEADER_BYTES + first)
        return found.ljust(size, b"\x00")

    def _far(self, start: int, end: int, *, holes: bool) -> Iterator[tuple[bytes, int, int]]:
        """Yield (bytes, first bit, end bit) of what is not mapped of [start, end), with or without what is a hole."""
        start = max(start, _MAPPED_BLOCKS)
        while start < end:
            if self._map is None and not self._reach(HEADER_BYTES):
                yield b"\x00", 0, 1
                return
            if not holes:
                try:
                    at = os.lseek(self._descriptor, HEADER_BYTES + start // 8, os.SEEK_DATA)
                except OSError:  # ENXIO: there is only a hole up to the end
                    return
                start = max(start, 8 * (at - HEADER_BYTES))
                if start >= end:
                    return
            first = start // 8
            stop = min(end, 8 * (first + _MAX_FAR_BYTES))
            size = (stop + 7) // 8 - first
            part = os.pread(self._descriptor, size, HEADER_BYTES + first).ljust(size, b"\x00")
            yield part, start - 8 * first, stop - 8 * first
            start = stop

    def close(self) -> None:
        """Unmap; nothing is here from now on."""
        if self._map is not None:
            self._map.close()
            self._map = None
        self._bytes = 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _reach(self, size: int) -> bool:
        if size > self._bytes:
            if self._descriptor < 0:
                self.reopen()
            else:
                self._remap()
        return size <= self._bytes

    def _remap(self) -> None:
        size = min(os.fstat(self._descriptor).st_size, HEADER_BYTES + _MAPPED_BYTES)
        if size <= max(self._bytes, HEADER_BYTES):
            return
        # The owner allocates before the size is seen, so all of it is there.
        mapped = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()
        self._map = mapped
        self._bytes = size
