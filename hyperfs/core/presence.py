"""What of a core is here, and everybody who is told: the bits in memory, the shared map, the listeners.

The rule: a block is noted after it was written, first in memory, then in the map, then to the listeners; it goes in the
order map, memory, listeners, so that another process stops reading it before anything else happens to it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hyperfs.core.bitfield import Bitfield
from hyperfs.core.listener import CoreListener
from hyperfs.core.shared_map import SharedMapWriter

if TYPE_CHECKING:
    from hyperfs.core.core import Core


class Presence:
    """Owns the shared map of one core, and who listens to it; changes its bitfield."""

    def __init__(self, bitfield: Bitfield, shared_map: SharedMapWriter | None) -> None:
        self._bitfield = bitfield
        self._map = shared_map
        self._listeners: list[CoreListener] = []

    def add_listener(self, listener: CoreListener) -> None:
        """Have ``listener`` told from now on."""
        self._listeners.append(listener)

    def remove_listener(self, listener: CoreListener) -> None:
        """Have ``listener`` told no more."""
        self._listeners.remove(listener)

    def make_map(self, path: Path, key: bytes) -> None:
        """Begin to tell other processes. Raises OSError."""
        self._map = SharedMapWriter(path, key)

    def reserve(self, ranges: Sequence[range]) -> None:
        """Make room for ``ranges`` in the map: `add` must not fail, once what it notes counts. Raises OSError."""
        if self._map is not None:
            for blocks in ranges:
                self._map.reserve(blocks.start, blocks.stop)

    def add(self, ranges: Sequence[range], note: Callable[[Bitfield], None]) -> None:
        """Note that ``ranges`` are here, for which room was reserved, by ``note`` and in the map."""
        note(self._bitfield)
        if self._map is not None:
            for blocks in ranges:
                self._map.set_blocks(blocks.start, blocks.stop)

    def remove(self, core: "Core", ranges: Sequence[range]) -> None:
        """Note that ``ranges`` are about to go, and tell everybody."""
        for blocks in ranges:
            if self._map is not None:
                self._map.clear_blocks(blocks.start, blocks.stop)
            self._bitfield.clear_blocks(blocks.start, blocks.stop)
        for listener in tuple(self._listeners):
            for blocks in ranges:
                listener.cleared(core, blocks.start, blocks.stop)

    def tell_added(self, core: "Core", old_length: int, ranges: Sequence[range], origin: object) -> None:
        """Tell the listeners of a new head, if there is one, and of blocks that are here now."""
        for listener in tuple(self._listeners):
            if core.length > old_length:
                listener.extended(core, old_length, core.length)
            for blocks in ranges:
                listener.stored(core, blocks.start, blocks.stop, origin)

    def tell_durable(self, core: "Core", length: int) -> None:
        """Tell the listeners up to where a crash takes nothing back."""
        for listener in tuple(self._listeners):
            listener.durable(core, length)

    def missing(self, start: int, end: int) -> Iterator[range]:
        """Yield the ranges of blocks in [start, end) that are not here, ascending."""
        while True:
            first = self._bitfield.first_missing(start, end)
            if first >= end:
                return
            start = self._bitfield.first_present(first, end)
            yield range(first, start)

    def present(self, start: int, end: int) -> Iterator[range]:
        """Yield the ranges of blocks in [start, end) that are here, ascending."""
        while True:
            first = self._bitfield.first_present(start, end)
            if first >= end:
                return
            start = self._bitfield.first_missing(first, end)
            yield range(first, start)

    def close(self) -> None:
        """Let go of the map; its file stays for readers and for the next owner."""
        if self._map is not None:
            self._map.close()
