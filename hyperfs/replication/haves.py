"""What one peer is told of the blocks that are here, once it has asked.

Only ranges in which something changed wait to be told; what is here of them is looked up when the peer has read what it
was sent before. So it never hears of what is not so any more, and one that reads slowly, or a change of very many
ranges, costs a bounded amount.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyperfs import rle
from hyperfs.protocol.channel import Channel
from hyperfs.replication.ranges import Ranges

if TYPE_CHECKING:
    from hyperfs.core.core import Core

PAGE_BLOCKS: Final = 8192
MAX_RANGES: Final = 1024
"""Ranges that wait; past that they are told about page by page, and past that again as one."""
MAX_PAGES_TOLD: Final = 64
"""Pages told about with one message; fewer than a Want has, so that it is not taken for the answer to one."""
BYTES_AT_ONCE: Final = 64 << 10
"""About what is told before the peer has to have read it."""
_MESSAGE_BYTES: Final = 16


class Haves:
    """What ``core`` has, as the peer of ``channel`` hears of it."""

    def __init__(self, channel: Channel, core: Core) -> None:
        self._channel = channel
        self._core = core
        self._changed = Ranges()
        self.wanted = False
        """Whether the peer has ever asked."""
        self.uploading = True
        """Whether it gets anything; if not, nothing is here as far as it is told."""

    def __bool__(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._changed) and self._channel.is_open

    @property
    def length(self) -> int:
        """How many blocks the peer may hear of: what others see must survive a crash here, or the core would fork."""
        if not self.uploading:
            return 0
        return self._core.durable_length if self._core.writable else self._core.length

    def changed(self, start: int, stop: int) -> None:
        """Note that blocks of [start, stop) have come or gone."""
        if not self.wanted:
            return
        changed = self._changed
        changed.add(start, stop)
        if len(changed) <= MAX_RANGES:
            return
        self._changed = Ranges(
            range(blocks.start // PAGE_BLOCKS * PAGE_BLOCKS, -(-blocks.stop // PAGE_BLOCKS) * PAGE_BLOCKS)
            for blocks in changed
        )
        if len(self._changed) > MAX_RANGES // 2:
            spans = list(self._changed)
            self._changed = Ranges([range(spans[0].start, spans[-1].stop)])

    def send(self) -> None:
        """Tell of what has changed, at most about `BYTES_AT_ONCE` of it."""
        room = BYTES_AT_ONCE
        while room > 0:
            blocks = self._changed.first_from(0)
            if blocks is None:
                return
            told, size = self._tell(blocks)
            self._changed.remove(told.start, told.stop)
            room -= size

    def _tell(self, blocks: range) -> tuple[range, int]:
        """Tell of ``blocks``, or of the first of them; return what the peer knows about now, and the bytes it took."""
        start, stop = blocks.start, blocks.stop
        known = min(stop, self.length)
        if known == stop and self._core.has(start, stop):
            self._channel.send_have(start, stop - start)
            return blocks, _MESSAGE_BYTES
        if start >= known or self._core.count(start, known) == 0:
            self._channel.send_unhave(start, stop - start)
            return blocks, _MESSAGE_BYTES
        first = start // PAGE_BLOCKS
        last = min(-(-stop // PAGE_BLOCKS), first + MAX_PAGES_TOLD)
        start, stop = first * PAGE_BLOCKS, last * PAGE_BLOCKS
        bitfield = rle.encode(self.bits(start, stop))
        self._channel.send_have(start, stop - start, bitfield=bitfield)
        return range(start, stop), _MESSAGE_BYTES + len(bitfield)

    def bits(self, start: int, stop: int) -> bytes:
        """Return which blocks of [start, stop) are here, high bit first, without the zeros behind the last one.

        ``start`` is a multiple of 8.
        """
        stop = min(stop, self.length)
        if stop <= start:
            return b""
        found = bytearray(self._core.raw_bits(start, -(-stop // 8) * 8))
        found[-1] &= 0xFF << (-stop % 8) & 0xFF
        return bytes(found)
