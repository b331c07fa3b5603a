"""Memory that a client and the daemon share, through which content comes to a lease without a copy.

The rule: a slot is the client's until it tells what it put there, and the daemon's until it answers. The daemon makes
the memory and seals its size, so no access can fail. It does not defend itself against a client that writes to a slot
out of turn: that is a process of the same user, which may append to this drive, and all it gets is a block of its own
that does not match its hash.
"""

import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Final, Self

from hyperfs.core.proofs import MAX_BLOCK_BYTES
from hyperfs.errors import EncodingError

SLOTS: Final = 4
"""One that is being filled, and three under way."""
SLOT_BYTES: Final = MAX_BLOCK_BYTES
"""Room for any block. Memory is taken only for what is used of it."""


class Slots:
    """Owns a mapping of `SLOTS` slots. Made by `create` in the daemon, and by `opened` from what the daemon sent."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        self._view = memoryview(mapping)

    @classmethod
    def create(cls) -> tuple[Self, int]:
        """Return new slots, and a descriptor that the caller owns, to be sent to whoever shall fill them."""
        with ExitStack() as on_failure:
            descriptor = os.memfd_create("hyperfs-content", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            on_failure.callback(os.close, descriptor)
            os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            mapping = mmap.mmap(descriptor, SLOTS * SLOT_BYTES)
            on_failure.pop_all()
        return cls(mapping), descriptor

    @classmethod
    def opened(cls, descriptor: int) -> Self:
        """Return the slots that ``descriptor`` is of, and close it."""
        try:
            return cls(mmap.mmap(descriptor, SLOTS * SLOT_BYTES))
        finally:
            os.close(descriptor)

    def slot(self, number: int) -> memoryview:
        """Return all of one slot."""
        return self._view[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]

    def blocks(self, number: int, sizes: Sequence[int]) -> list[memoryview]:
        """Return the blocks of these sizes that were put into a slot, without copying them.

        Raises `EncodingError` when there cannot be such.
        """
        if not all(type(value) is int and value >= 0 for value in (number, *sizes)):
            raise EncodingError("the place of the content sent is no number")
        if number >= SLOTS or sum(sizes) > SLOT_BYTES:
            raise EncodingError("the content sent is not where it is said to be")
        found = []
        at = number * SLOT_BYTES
        for size in sizes:
            found.append(self._view[at : at + size])
            at += size
        return found

    def close(self) -> None:
        """Unmap, as soon as nobody looks at a block any more."""
        with suppress(BufferError):
            self._view.release()
            self._mapping.close()
