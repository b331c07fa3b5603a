"""What of a core is written and not yet on the disk, and how it gets there.

The rule: data and tree first, then signatures, then the bitfield, and before all of it the core whose blocks are named
here. What fails half-way is owed still: the next flush reads it back, and writes it again before it syncs, because the
kernel takes for clean what it could not write.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

import trio

from hyperfs.core.files import CoreFiles
from hyperfs.core.head_record import HeadRecord
from hyperfs.core.nonblocking import run_with_reads
from hyperfs.core.reserve import Reserve
from hyperfs.core.rewriting import write_again
from hyperfs.errors import DamagedStore, short

log = logging.getLogger(__name__)

_MAX_PENDING_SIGNATURES = 4096


class Durability:
    """Owns the signatures that are in no file yet, and the lock under which the disk is waited for.

    ``on_durable`` is called with the length that a crash cannot take back any more, whenever that grows; ``on_lost``
    with blocks that were here, and that the disk has lost. ``record`` tells of what is not durable.
    """

    def __init__(
        self,
        files: CoreFiles,
        *,
        on_durable: Callable[[int], None],
        on_lost: Callable[[list[int]], None],
        record: HeadRecord | None,
    ) -> None:
        self.length = files.durable_length
        """How many blocks a crash cannot take back."""
        self.after: Durability | None = None
        """What becomes durable before each flush of this."""
        self.reserve: Reserve | None = None
        self.on_dirty: Callable[[], None] | None = None
        """Called whenever there is something to `flush`."""
        self.lock = trio.Lock()
        self._files = files
        self._signatures: dict[int, bytes] = {}
        if files.recovered is not None:
            self._signatures[files.recovered.length - 1] = files.recovered.signature
        self._on_durable = on_durable
        self._on_lost = on_lost
        self._record = record
        self._refusal: DamagedStore | None = None
        self._written_length = files.length

    @property
    def dirty(self) -> bool:
        """Whether there is anything to flush."""
        return self._files.bitfield.dirty or bool(self._signatures)

    @property
    def refused(self) -> bool:
        """Whether something was lost for good, so that nothing more becomes durable: see `check`."""
        return self._refusal is not None

    @property
    def overdue(self) -> bool:
        """Whether so much waits for a flush that its writer should."""
        return len(self._signatures) >= _MAX_PENDING_SIGNATURES

    def wrote(self, length: int, signatures: Mapping[int, bytes]) -> None:
        """Note that the core has ``length`` blocks now, by these signatures, and that its files have all but those."""
        self._written_length = length
        self._signatures.update(signatures)
        if self.on_dirty is not None and self.dirty:
            self.on_dirty()

    def became_writable(self) -> None:
        """Note that all that is there was there before any of it was our own."""
        self.length = self._written_length

    async def signature(self, index: int) -> bytes | None:
        """Return the signature of the core as it was with block ``index`` as its last, if there is one."""
        pending = self._signatures.get(index)
        return pending or await run_with_reads(self._files.signatures.signature, index)

    def first_signature(self, index: int) -> tuple[int, bytes] | None:
        """Return the first at or after block ``index`` of those that are in no file yet, with where it is."""
        return min(((at, signature) for at, signature in self._signatures.items() if at >= index), default=None)

    async def sync(self) -> None:
        """Return once everything written before is on disk. Raises OSError, `DamagedStore`."""
        async with self.lock:
            with trio.CancelScope(shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Make everything durable, in order. Called with the lock, and shielded from cancellation."""
        self.check()
        if not self.dirty:
            return
        length = self._written_length
        signatures = dict(self._signatures)
        pages = self._files.bitfield.take_dirty(self._files.page_bytes)
        with ExitStack() as on_failure:
            on_failure.callback(self._files.bitfield.mark_dirty, [number for number, _ in pages])
            # Only what is taken above is made durable: what is appended during this wait may name newer blocks.
            if self.after is not None:
                await self.after.sync()
            write = partial(self._write, signatures, pages)
            await (write() if self.reserve is None else self.reserve.spend_on(write))
            on_failure.pop_all()
        for index, signature in signatures.items():
            if self._signatures.get(index) == signature:
                del self._signatures[index]
        if self._record is not None and not self.dirty:
            self._record.clear()
        if length > self.length:
            self.length = length
            self._on_durable(length)

    def check(self) -> None:
        """Raise `DamagedStore` when something of this core was lost for good: nothing more is to be built upon it."""
        if self._refusal is not None:
            raise self._refusal

    async def _write(self, signatures: Mapping[int, bytes], pages: list[tuple[int, bytes]]) -> None:
        numbers = [number for number, _ in pages]
        if self._files.unsure:
            await self._write_again(numbers)
        try:
            await trio.to_thread.run_sync(self._files.flush, signatures, pages)
        except OSError:
            # At once, so that nobody reads what the kernel has put in the place of what it lost.
            if self._files.unsure:
                await self._write_again(numbers)
            raise

    async def _write_again(self, pages: list[int]) -> None:
        files = self._files
        log.warning("core %s: what could not be synced is written again", short(files.key))
        try:
            lost = await trio.to_thread.run_sync(write_again, files, pages)
        except DamagedStore as error:
            self._refusal = error
            raise
        if lost:
            told = DamagedStore(f"{files.data.name}: the disk lost blocks {lost}, which it had taken and not synced")
            if files.secret_key is not None:
                self._refusal = told
            self._on_lost(lost)
            raise told
        files.unsure = False
