"""Which pages of a file the kernel keeps in memory."""

import ctypes
import mmap
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)


def resident_pages(path: Path) -> int:
    """Return how many pages of a file are in the page cache, without touching any (mincore(2))."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        pages = -(-size // mmap.PAGESIZE)
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        assert address != ctypes.c_void_p(-1).value
        try:
            vector = (ctypes.c_ubyte * pages)()
            assert _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), vector) == 0
            return sum(page & 1 for page in vector)
        finally:
            _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
