"""What one peer asked of one core of ours, and the answers.

A question waits as a question, a few bytes, and becomes an answer only when the peer has taken what it was sent before.
So a peer that reads slowly, or never, costs what its questions cost, and those are counted.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hyperfs import rle
from hyperfs.core.nonblocking import run_with_reads
from hyperfs.errors import BlockNotAvailable, Closed, DamagedStore, PeerMisbehaved, short
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.events import CancelReceived, RequestReceived, WantReceived
from hyperfs.replication.digests import Remembered
from hyperfs.replication.haves import PAGE_BLOCKS, Haves
from hyperfs.replication.pace import Account
from hyperfs.replication.wants import WANT_BLOCKS

if TYPE_CHECKING:
    from hyperfs.core.core import Core

logger = logging.getLogger(__name__)

MAX_QUESTIONS: Final = 16384
"""Requests and Wants of one connection that may wait; an honest peer has a few thousand at most."""
_QUESTION_BYTES: Final = 512
ANSWER_COST_BYTES: Final = 1024
"""What an answer counts for at least, so that many small ones do not hold up the process for long."""


class QuestionBudget:
    """How many questions more may wait on one connection."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_QUESTIONS

    @property
    def size_bytes(self) -> int:
        """About what those take that wait."""
        return (MAX_QUESTIONS - self.left) * _QUESTION_BYTES


class Uploads:
    """The queue of one peer's Requests and Wants on one channel, answered in the order in which they came.

    ``haves`` is what the peer hears of ``core``.
    """

    def __init__(self, channel: Channel, core: Core, haves: Haves, budget: QuestionBudget) -> None:
        self._channel = channel
        self._core = core
        self._haves = haves
        self._budget = budget
        self._questions: OrderedDict[tuple[int | None, ...], RequestReceived | WantReceived] = OrderedDict()
        self._remembered = Remembered()
        self._last_seek = 0
        self._greeted = False
        self.on_upload: Callable[[int], None] | None = None
        """Called with the index of each block that goes out."""
        self.blocks = 0
        self.bytes = 0

    def __bool__(self) -> bool:
        """Whether there is something to answer; on a channel that is closed there is not."""
        return bool(self._questions) and self._channel.is_open

    def add(self, question: RequestReceived | WantReceived) -> None:
        """Queue a question, unless it waits already. Raises PeerMisbehaved when too many wait."""
        key: tuple[int | None, ...]
        if isinstance(question, WantReceived):
            self._haves.wanted = True
            key = (question.start, question.length)
        else:
            key = (question.index, question.byte_offset, question.hash_only)
        if key not in self._questions:
            if self._budget.left <= 0:
                raise PeerMisbehaved(f"asked {MAX_QUESTIONS} things without waiting for answers, and one more")
            self._budget.left -= 1
        self._questions[key] = question

    def cancel(self, cancel: CancelReceived) -> None:
        """Take back the requests that ``cancel`` names, if they were not answered yet."""
        if self._questions.pop((cancel.index, cancel.byte_offset, cancel.hash_only), None) is not None:
            self._budget.left += 1

    def clear(self) -> None:
        """Forget everything: the channel is closed."""
        self._budget.left += len(self._questions)
        self._questions.clear()

    async def answer(self, budget_bytes: int, account: Account) -> None:
        """Answer questions, at least one, until about ``budget_bytes`` were written to the channel.

        Cancelled, the question that was being worked on is answered no more; the others wait as before.
        """
        while self._questions and budget_bytes > 0 and self._channel.is_open:
            began_at = time.perf_counter()
            question = self._questions.popitem(last=False)[1]
            self._budget.left += 1
            if isinstance(question, WantReceived):
                written = self._answer_want(question)
            else:
                written = await self._answer_request(question)
            budget_bytes -= max(written, ANSWER_COST_BYTES)
            await account.worked(time.perf_counter() - began_at, useful=True)

    def _answer_want(self, want: WantReceived) -> int:
        end = self._haves.length
        start, length = want.start, want.length
        if length is None:
            length = max(0, -(-(end - start) // PAGE_BLOCKS) * PAGE_BLOCKS)
        if start % PAGE_BLOCKS or length % PAGE_BLOCKS or length == 0:
            return 1
        if not self._greeted and end and self._core.has(end - 1, end):
            self._channel.send_have(end - 1)
        self._greeted = True
        if length > WANT_BLOCKS and start + WANT_BLOCKS < end:
            # more than any peer is known to ask for: the rest is another answer
            rest = replace(want, start=start + WANT_BLOCKS, length=length - WANT_BLOCKS)
            self._questions[rest.start, rest.length] = rest
            self._questions.move_to_end((rest.start, rest.length), last=False)
            self._budget.left -= 1
            length = WANT_BLOCKS
        bits = rle.encode(self._haves.bits(start, start + length))
        self._channel.send_have(start, length, bitfield=bits)
        return 32 + len(bits)

    async def _answer_request(self, request: RequestReceived) -> int:
        try:
            return await self._answer_from_here(request)
        except DamagedStore as error:
            logger.error("block %d of %s cannot be given: %s", request.index, short(self._core.key), error)
        except Closed as error:
            logger.info("block %d is not given: %s", request.index, error)
        return self._refuse(request.index)

    async def _answer_from_here(self, request: RequestReceived) -> int:
        index, digest, hash_only = request.index, request.digest, request.hash_only
        if not self._haves.uploading:
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
        if self.on_upload is not None:
            self.on_upload(index)
        self.blocks += 1
        self.bytes += len(value)
        return 64 + len(value) + 44 * len(proof.nodes)

    def _refuse(self, index: int) -> int:
        self._channel.send_unhave(index)
        return 16
