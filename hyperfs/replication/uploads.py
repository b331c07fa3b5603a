"""What one peer asked of one core of ours, and the answers.

The one rule: a question waits as a question, a few bytes, and becomes an answer only when the peer has taken what it
was sent before. So a peer that reads slowly, or never, costs what its questions cost, and those are counted.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from hyperfs import rle
from hyperfs.core.nonblocking import run_with_reads
from hyperfs.errors import BlockNotAvailable, DamagedStore, PeerMisbehaved, short
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.events import CancelReceived, RequestReceived, WantReceived
from hyperfs.replication.digests import Remembered

if TYPE_CHECKING:
    from hyperfs.core.core import Core

logger = logging.getLogger(__name__)

MAX_QUESTIONS: Final = 16384
"""Requests and Wants of one peer that may wait; an honest peer has a few thousand at most."""
ANSWER_COST_BYTES: Final = 1024
"""What an answer counts for at least, so that many small ones do not hold up the process for long."""
_PAGE_BITS: Final = 8192


class Uploads:
    """The queue of one peer's Requests and Wants on one channel, answered in the order in which they came."""

    def __init__(self, channel: Channel, core: Core) -> None:
        self._channel = channel
        self._core = core
        self._questions: OrderedDict[tuple[int | None, ...], RequestReceived | WantReceived] = OrderedDict()
        self._remembered = Remembered()
        self._last_seek = 0
        self._greeted = False
        self.enabled = True
        """Whether the peer gets anything; if not it is told that nothing is here."""
        self.blocks = 0
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._questions)

    def add(self, question: RequestReceived | WantReceived) -> None:
        """Queue a question, unless it waits already. Raises PeerMisbehaved when too many wait."""
        if len(self._questions) >= MAX_QUESTIONS:
            raise PeerMisbehaved(f"asked {MAX_QUESTIONS} things without waiting for answers, and one more")
        if isinstance(question, WantReceived):
            self._questions[question.start, question.length] = question
        else:
            self._questions[question.index, question.byte_offset, question.hash_only] = question

    def cancel(self, cancel: CancelReceived) -> None:
        """Take back the requests that ``cancel`` names, if they were not answered yet."""
        self._questions.pop((cancel.index, cancel.byte_offset, cancel.hash_only), None)

    def clear(self) -> None:
        """Forget everything: the channel is closed."""
        self._questions.clear()

    async def answer(self, budget_bytes: int) -> None:
        """Answer questions, at least one, until about ``budget_bytes`` were written to the channel."""
        while self._questions and budget_bytes > 0 and self._channel.is_open:
            question = self._questions.popitem(last=False)[1]
            if isinstance(question, WantReceived):
                written = self._answer_want(question)
            else:
                written = await self._answer_request(question)
            budget_bytes -= max(written, ANSWER_COST_BYTES)

    def _answer_want(self, want: WantReceived) -> int:
        core = self._core
        # what others see must survive a crash here, or the core would fork
        end = core.durable_length if core.writable else core.length
        if not self.enabled:
            end = 0
        length = want.length
        if length is None:
            length = max(0, -(-(end - want.start) // _PAGE_BITS) * _PAGE_BITS)
        if want.start % _PAGE_BITS or length % _PAGE_BITS or length == 0:
            return 1
        if not self._greeted and end and core.has(end - 1, end):
            self._channel.send_have(end - 1)
        self._greeted = True
        bits = rle.encode(self._bits(want.start, min(want.start + length, end)))
        self._channel.send_have(want.start, length, bitfield=bits)
        return 32 + len(bits)

    def _bits(self, start: int, end: int) -> bytes:
        """Return the block bits [start, end), zero padded to a whole byte; none when that is empty."""
        if end <= start:
            return b""
        bits = bytearray(self._core.raw_bits(start, -(-end // 8) * 8))
        bits[-1] &= 0xFF << (-end % 8) & 0xFF
        return bytes(bits)

    async def _answer_request(self, request: RequestReceived) -> int:
        try:
            return await self._answer_from_here(request)
        except DamagedStore as error:
            logger.error("block %d of %s cannot be given: %s", request.index, short(self._core.key), error)
            return self._refuse(request.index)

    async def _answer_from_here(self, request: RequestReceived) -> int:
        index, digest, hash_only = request.index, request.digest, request.hash_only
        if not self.enabled:
            return self._refuse(index)
        # who asks for a proof alone and says that he has nothing wants to compare all of it
        whole = request.hash_only and not digest and not request.byte_offset
        if request.byte_offset:
            byte_offset = request.byte_offset
            found = await run_with_reads(self._core.seek_local, byte_offset)
            if found is not None and found[0] < self._core.length:
                if request.byte_offset == self._last_seek:
                    return 1
                self._last_seek = request.byte_offset
                index, digest = found[0], 0
                # where a byte lies is told by the proof, too, when the block itself is not here
                hash_only = hash_only or not self._core.has(index, index + 1)
        core = self._core
        if hash_only:
            value = None
        elif core.has(index, index + 1):
            value = core.get_local(index)
            if value is None:
                try:
                    value = await core.get(index)
                except BlockNotAvailable as error:
                    logger.warning("block %d of %s cannot be read: %s", index, short(core.key), error)
                    return self._refuse(request.index)
        else:
            return self._refuse(request.index)
        try:
            if not whole:
                digest = self._remembered.merge(index, digest, core.length)
            proof = await core.proof(index, digest=digest, hash_only=hash_only)
        except BlockNotAvailable:
            return self._refuse(request.index)
        try:
            self._channel.send_data(index, value, proof.nodes, proof.signature)
        except ValueError as error:
            logger.warning("block %d of %s cannot be sent: %s", index, short(core.key), error)
            return self._refuse(request.index)
        if value is None:
            return 64 + 44 * len(proof.nodes)
        self.blocks += 1
        self.bytes += len(value)
        return 64 + len(value) + 44 * len(proof.nodes)

    def _refuse(self, index: int) -> int:
        self._channel.send_unhave(index)
        return 16
