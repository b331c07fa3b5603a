"""A core: an append-only list of blocks with its Merkle tree, signatures and bitfield, as its owner has it.

The rule: nothing is written before it is verified, bits are set after the bytes they stand for, and on disk the order
is data and tree, then signatures, then the bitfield. What was appended is announced, and proven to peers, only once it
is durable: a crash never takes back what somebody else has seen.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import trio

from hyperfs import flat_tree
from hyperfs.core.appending import punch, write_growth
from hyperfs.core.audit import check_around, check_tree, find_bad
from hyperfs.core.durability import Durability
from hyperfs.core.files import CoreFiles
from hyperfs.core.fork_guard import ForkGuard, ForkSeen, load_fork_guard
from hyperfs.core.format import HYPERCORE_9, CoreFormat
from hyperfs.core.growth import Growth
from hyperfs.core.head_record import HeadRecord
from hyperfs.core.intake import Intake
from hyperfs.core.listener import CoreListener
from hyperfs.core.local import LocalReader
from hyperfs.core.nonblocking import WouldWait, run_with_reads
from hyperfs.core.opening import keep_secret_key, open_files
from hyperfs.core.own_nodes import OwnNodes
from hyperfs.core.presence import Presence
from hyperfs.core.proofs import (
    MAX_BLOCK_BYTES,
    MAX_LENGTH,
    OwnNodeWrong,
    Proof,
    ProofChecker,
    Received,
    request_digest,
    tree_covers,
)
from hyperfs.core.proving import Prover
from hyperfs.core.reader import Source
from hyperfs.core.reserve import Reserve
from hyperfs.core.shared_map import SharedMapWriter
from hyperfs.crypto import KeyPair
from hyperfs.errors import (
    BlockTooFar,
    Closed,
    ConflictingLength,
    Fork,
    InvalidKey,
    InvalidProof,
    NotWritable,
    short,
)
from hyperfs.storage import Directory
from hyperfs.tree_node import TreeNode

log = logging.getLogger(__name__)

_THREAD_BYTES = 256 * 1024
_AUDITED_AT_ONCE = 256


class Core(LocalReader):
    """The owner's core: implements `CoreReader` over files it alone writes. Made by `Core.open`.

    ``fork_guard`` keeps a writable core from signing another history than somebody has.
    """

    def __init__(
        self,
        files: CoreFiles,
        *,
        key: bytes,
        source: Source | None,
        presence: Presence,
        shared_map_path: Path | None,
        record: HeadRecord | None,
    ) -> None:
        super().__init__(
            key=key,
            discovery_key=files.format.discovery_key(key),
            writable=files.secret_key is not None,
            length=files.length,
            byte_length=sum(root.size for root in files.roots),
            tree=files.tree,
            data=files.data,
            bits=files.bitfield,
            source=source,
        )
        self.format = files.format
        self._files = files
        self._bitfield = files.bitfield
        self._presence = presence
        self._shared_map_path = shared_map_path
        self._record = record
        self._checker = ProofChecker(files.format, key)
        self._roots: tuple[TreeNode, ...] | None = files.roots
        self._nodes = OwnNodes(files.tree, files.bitfield, files.roots)
        self._durability = Durability(
            files, on_durable=partial(presence.tell_durable, self), on_lost=self._forget, record=record
        )
        self._prover = Prover(files, self._nodes, self._durability)
        self.fork_guard = ForkGuard(self, None)
        self.synced_first: Core | None = None
        """What `sync_after` was called with."""
        self._write_lock = trio.Lock()

    @classmethod
    async def open(
        cls,
        directory: Directory,
        *,
        key: bytes | None = None,
        key_pair: KeyPair | None = None,
        source: Source | None = None,
        format: CoreFormat = HYPERCORE_9,
        shared_map_path: Path | None = None,
        fork_guard_path: Path | None = None,
        record: HeadRecord | None = None,
        keep_secret: bool = True,
        overwrite: bool = False,
    ) -> Self:
        """Open a core, or create it when ``directory`` has none.

        A new core needs a ``key`` (a reader's) or a ``key_pair`` (the writer's). ``keep_secret`` off leaves the secret
        key out of the files, for those whose key pair is derived from something else. ``fork_guard_path`` is where a
        writer notes what it learns from peers; with a ``record`` what `append` returned for survives the death of this
        process, which owns it from now on. With ``overwrite`` the core that was there is gone. Raises `StoreLocked`,
        `DamagedStore`, `InvalidKey`.
        """
        with ExitStack() as on_failure:
            maps: list[SharedMapWriter] = []

            def announce_recovery(found_key: bytes) -> None:
                if shared_map_path is not None and (directory.kept or shared_map_path.exists()):
                    maps.append(SharedMapWriter(shared_map_path, found_key))
                    on_failure.callback(maps[0].close)
                    if not directory.kept:
                        # It told of what is not on disk any more: there is a new one once there are files again.
                        maps.pop().close()
                        shared_map_path.unlink()

            open_in_thread = partial(
                open_files,
                directory,
                format,
                key=key,
                key_pair=key_pair,
                keep_secret=keep_secret,
                before_recovery=announce_recovery,
                record=record,
                overwrite=overwrite,
            )
            files = await trio.to_thread.run_sync(open_in_thread)
            on_failure.callback(files.close)
            for shared_map in maps:
                for start, page in files.bitfield.block_pages():
                    shared_map.set_raw(start, page)
            core = cls(
                files,
                key=files.key,
                source=source,
                presence=Presence(files.bitfield, maps[0] if maps else None),
                shared_map_path=None if maps else shared_map_path,
                record=record,
            )
            if overwrite and fork_guard_path is not None:
                await trio.to_thread.run_sync(partial(fork_guard_path.unlink, missing_ok=True))
            core.fork_guard = await load_fork_guard(core, fork_guard_path)
            on_failure.pop_all()
        return core

    @property
    def dirty(self) -> bool:
        """Whether there is anything to `sync` that can be."""
        return self._durability.dirty and not self._durability.refused

    @property
    def durable_length(self) -> int:
        """How many blocks a crash cannot take back."""
        return self._durability.length

    def have_flushed(self, on_dirty: Callable[[], None], reserve: Reserve | None = None) -> None:
        """Have ``on_dirty`` called whenever there is something to `sync`, also now; a ``reserve`` gives way to that."""
        self._durability.on_dirty = on_dirty
        self._durability.reserve = reserve
        if self.dirty:
            on_dirty()

    def sync_after(self, other: "Core") -> None:
        """Have each `sync` of this core make ``other`` durable first, since blocks here name blocks there.

        So whatever a crash leaves of this core, all of ``other`` that was there when it was appended is there, too.
        """
        self.synced_first = other
        self._durability.after = other._durability
        if self._record is not None:
            self._record.after = other.key

    @property
    def syncs_after(self) -> bytes | None:
        """The key of the core to `sync_after`, as whoever appended last had it before he was killed; else None."""
        return None if self._files.recovered is None else self._files.recovered.after

    @property
    def secret_key(self) -> bytes | None:
        """The 64-byte secret key, None in a reader's core. Not to be logged or sent to anybody."""
        return self._files.secret_key

    async def adopt(self, secret_key: bytes) -> None:
        """Make a reader's core writable: keep its secret key, on disk before this returns. Raises `InvalidKey`.

        Cancelled, the core is what it was, or writable from its next opening on.
        """
        if secret_key[len(self.key) :] != self.key:
            raise InvalidKey(f"that is not the secret key of core {short(self.key)}")
        if not self.writable:
            await self.sync()
            if not self._files.directory.kept:
                await trio.to_thread.run_sync(self._keep)
            await trio.to_thread.run_sync(keep_secret_key, self._files.directory, secret_key)
            self._files.secret_key = secret_key
            self._durability.became_writable()
            self.writable = True

    def add_listener(self, listener: CoreListener) -> None:
        """Have ``listener`` told from now on."""
        self._presence.add_listener(listener)

    def remove_listener(self, listener: CoreListener) -> None:
        """Have ``listener`` told no more."""
        self._presence.remove_listener(listener)

    def raw_bits(self, start: int, end: int) -> bytes:
        """Return the block bits [start, end), both multiples of 8, high bit first."""
        return self._bitfield.raw(start, end)

    def missing(self, start: int, end: int) -> Iterator[range]:
        """Yield the ranges of blocks in [start, end) that are not here, ascending."""
        return self._presence.missing(start, end)

    def present(self, start: int, end: int) -> Iterator[range]:
        """Yield the ranges of blocks in [start, end) that are here, ascending."""
        return self._presence.present(start, end)

    def digest(self, index: int) -> int:
        """Return the `nodes` field for a request of block ``index``: what of its proof is here already."""
        return request_digest(index, self.length, self._bitfield.has_node)[0]

    def has_node(self, tree_index: int) -> bool:
        """Tell whether a tree node is here, so that a peer need not send it."""
        return self._bitfield.has_node(tree_index)

    async def proof(self, index: int, *, digest: int = 0, hash_only: bool = False) -> Proof:
        """Return the proof of block ``index`` for an asker that has ``digest``. Raises `BlockNotAvailable`.

        Waits until what it proves is durable.
        """
        if self.writable and self.durable_length <= index < self.length:
            await self.sync()
        only_durable = self.writable and self.durable_length < self.length
        return await self._prover.proof(index, digest=digest, hash_only=hash_only, only_durable=only_durable)

    async def signature(self, index: int) -> tuple[int, bytes] | None:
        """Return the first signature that covers block ``index``: (the last block it covers, its 64 bytes).

        None when there is none here, as of a core whose key is the hash of its tree.
        """
        return await self._prover.signature(index, self.length)

    async def roots(self, length: int) -> list[TreeNode]:
        """Return the roots of the tree of the first ``length`` blocks. Raises `BlockNotAvailable`."""
        return await self._prover.roots(length)

    async def append(self, blocks: Sequence[bytes], *, expected_length: int | None = None) -> int:
        """Append ``blocks`` under one signature and return the index of the first.

        Raises `NotWritable`, `WriterBehind`, `WriterForked`, `ConflictingLength` when the length is not
        ``expected_length``, ValueError for a block over 8 MiB, `Closed`, OSError when the disk is full, `DamagedStore`
        when it lost what was appended before; then nothing is appended. Nor is it when this is cancelled.
        """
        secret_key = self._files.secret_key
        if secret_key is None:
            raise NotWritable(f"core {short(self.key)} cannot be appended to: its secret key is not in this store")
        sizes = list(map(len, blocks))
        if max(sizes, default=0) > MAX_BLOCK_BYTES:
            raise ValueError(f"a block of {max(sizes)} bytes, where {MAX_BLOCK_BYTES} are allowed")
        if self._durability.overdue:
            await self.sync()
        await self._take_write_lock()
        try:
            self.fork_guard.check()
            self._durability.check()
            start = self.length
            if expected_length is not None and expected_length != start:
                raise ConflictingLength(
                    f"core {short(self.key)} has {start} blocks, not the expected {expected_length}: somebody else "
                    "appended first"
                )
            if not blocks:
                return start
            roots = self._roots
            if roots is None:
                roots = await run_with_reads(self._nodes.all_of, flat_tree.full_roots(start))
            total = sum(sizes)
            growth = await write_growth(self._files, self.byte_length, roots, start, blocks, sizes)
            self._presence.reserve([range(start, growth.end)])
            signature = self.format.sign(growth.roots, growth.end, secret_key)
            if self._record is not None:
                self._record.write(growth.end, signature)
            self._take_over(growth, signature, total)
        finally:
            self._write_lock.release()
        return start

    async def _take(self, intake: Intake, item: Received) -> None:
        """Verify one item; put right what is damaged here and the item proves. Raises as `store`."""
        while True:
            try:
                try:
                    return intake.take(item)
                except WouldWait:
                    return await run_with_reads(intake.take, item)
            except OwnNodeWrong as wrong:
                log.error("%s: node %d was damaged, and is put right", self._files.tree.name, wrong.right.tree_index)
                self._nodes.replace(wrong.right)
            except InvalidProof as error:
                await trio.to_thread.run_sync(check_around, self._files, self.length, item.index)
                raise error

    async def store(self, items: Sequence[Received], *, origin: object) -> None:
        """Verify and write what peers sent, in order.

        Raises `InvalidProof` or `Fork` at the first item that does not verify; those before it are kept, and it and
        those after it leave no trace. `BlockTooFar` when all else is kept. OSError when the disk is full,
        `DamagedStore` when what is here cannot be relied on, `Closed`: then nothing is kept, nor is anything when this
        is cancelled. A writable core takes only what lies below its length, which only `reconcile` extends.
        """
        await self._take_write_lock()
        try:
            max_length = self.length if self.writable else MAX_LENGTH
            intake = Intake(self._checker, self._nodes.get, self._nodes.get_or_wrong, max_length=max_length)
            failure: InvalidProof | None = None
            for position, item in enumerate(items):
                try:
                    if self.writable and item.index >= self.length:
                        await run_with_reads(self._checker.check, item, self._nodes.get)
                        raise InvalidProof(f"block {item.index} of core {short(self.key)} is past its {self.length}")
                    await self._take(intake, item)
                except InvalidProof as error:
                    failure = error
                    failure.position = position
                    break
            intake.drop_known(self._bitfield)
            if intake:
                if self._durability.reserve is not None:
                    await self._durability.reserve.require()
                if not self._files.directory.kept:
                    await trio.to_thread.run_sync(self._keep)
            if intake.byte_count >= _THREAD_BYTES:
                await trio.to_thread.run_sync(intake.write, self._files)
            else:
                intake.write(self._files)
            self._presence.reserve(intake.ranges())
            self._take_in(intake, origin)
        finally:
            self._write_lock.release()
        if failure is not None:
            raise failure
        if intake.too_far:
            raise BlockTooFar(
                f"core {short(self.key)}: no file here reaches as far as blocks {intake.too_far} lie, as its owner says"
            )

    async def reconcile(self, item: Received, *, origin: object, name: str) -> int:
        """Compare the whole signed tree behind ``item``, a proof made for digest 0, with ours. For a writable core.

        A longer tree that holds all of ours becomes the head, and what it adds is awaited. One that may not hold all of
        ours, as far as ``item`` tells, is only noted. Returns how many blocks are of one history with ours, 0 in
        the latter case. Raises `InvalidProof`; and `Fork` when the tree contradicts ours, after noting that, with
        ``name`` as who had it. In both cases nothing of it is kept. Cancelled, it has either changed nothing or noted
        what it learned.
        """
        await self._take_write_lock()
        try:
            nodes, head = self._checker.check(item, lambda tree_index: None)
            assert head is not None  # without a node to trust nothing else ends the check
            bad = await run_with_reads(self._nodes.contradicted_by, nodes)
            if bad is not None:
                await self.fork_guard.note_fork(ForkSeen(head.length, bad, head.signature.hex(), name))
                raise Fork(
                    f"core {short(self.key)} is forked: its key signed {head.length} blocks whose node {bad} is not "
                    "the one signed here"
                )
            if head.length <= self.length:
                return head.length
            if not tree_covers(item.index, head.length, self.length):
                await self.fork_guard.note_signed(head.length)
                return 0
            log.warning(
                "core %s: %s has %d blocks of ours, and %d are here: fetching the others before anything is written",
                short(self.key),
                name,
                head.length,
                self.length,
            )
            intake = Intake(self._checker, self._nodes.get, self._nodes.get_or_wrong)
            intake.take_head(nodes, head)
            intake.drop_known(self._bitfield)
            intake.write(self._files)
            self.fork_guard.await_blocks(range(self.length, head.length))
            self._take_in(intake, origin)
            return head.length
        finally:
            self._write_lock.release()
            self.fork_guard.notify()

    async def clear(self, start: int, end: int) -> None:
        """Forget blocks [start, end) and free their disk space; their tree nodes stay. See `clear_all`."""
        await self.clear_all([range(start, end)])

    async def clear_all(self, cleared: Sequence[range]) -> None:
        """Forget the blocks of these ranges, as `clear` does, with one sync for all of them.

        Raises OSError: then they are forgotten here, and may be here again after a crash, or take space. Cancelled, all
        of them are cleared, or none.
        """
        await self._take_write_lock()
        try:
            async with self._durability.lock:
                ranges = [blocks for wanted in cleared for blocks in self.present(wanted.start, wanted.stop)]
                places = [await run_with_reads(self._place, blocks) for blocks in ranges]
                if not ranges:
                    return
                with trio.CancelScope(shield=True):
                    self._presence.remove(self, ranges)
                    # The bits go from the disk before the bytes do, or a crash would leave zeros that count as blocks.
                    await self._durability.flush()
                    await trio.to_thread.run_sync(punch, self._files.data.file, places)
        finally:
            self._write_lock.release()

    async def sync(self) -> None:
        """Return once everything written before is on disk; then `CoreListener.durable` is called.

        What `sync_after` was called with is on disk before. Raises OSError: the next one writes again what the disk may
        have lost. `DamagedStore` when it has lost some of it; of a core of ours nothing becomes durable any more then.
        Cancelled, it is done or not begun.
        """
        await self._durability.sync()

    async def audit(self) -> list[int]:
        """Read everything here again; clear, and return, the blocks that do not match the tree.

        Raises `DamagedStore` when the tree does not match itself, which only fetching the core again puts right.
        Cancelled, it has cleared those that it had found.
        """
        await self.sync()
        await trio.to_thread.run_sync(check_tree, self._files, self.length)
        bad: list[int] = []
        for blocks in self.present(0, self.length):
            for first in range(blocks.start, blocks.stop, _AUDITED_AT_ONCE):
                part = range(first, min(first + _AUDITED_AT_ONCE, blocks.stop))
                found = await find_bad(self._files, self._nodes, self._offsets, part)
                self._forget(found)
                bad += found
        await self.sync()
        return bad

    def _forget(self, indices: Iterable[int]) -> None:
        """Note that blocks are not what they should be. Where their bytes lie may not be known: none are punched."""
        self._presence.remove(self, [range(index, index + 1) for index in indices])

    def allocated(self) -> int:
        """Return how many bytes of storage the core's blocks take."""
        return self._files.data.file.allocated()

    async def close(self) -> None:
        """Sync and close; a second time does nothing. Cancelled, it still does.

        Who waits for blocks or a head gets `Closed`, and so does who asks for anything later. Raises OSError when what
        was written could not be made durable, twice running, `DamagedStore`; the core is closed then as well.
        """
        if self._closed:
            return
        self._end_waits()
        self.fork_guard.close()
        with trio.CancelScope(shield=True):
            async with self._write_lock:
                try:
                    await self._sync_at_last()
                finally:
                    self.close_without_sync()

    async def _sync_at_last(self) -> None:
        """Sync; and again, because whoever opens the files next finds them in order, and cannot tell what is not."""
        try:
            await self.sync()
        except OSError as error:
            log.warning("core %s could not be made durable, and is tried once more: %s", short(self.key), error)
            await self.sync()

    def close_without_sync(self) -> None:
        """Close the files as they are, as the end of this process would."""
        self._end_waits()
        self.fork_guard.close()
        self._files.close()
        if self._record is not None:
            self._record.close()
        self._presence.close()

    async def _take_write_lock(self) -> None:
        """Raises `Closed`."""
        try:
            self._write_lock.acquire_nowait()  # without a turn of the scheduler when nobody else has it
        except trio.WouldBlock:
            await self._write_lock.acquire()
        if self._closed:
            self._write_lock.release()
            raise Closed(f"core {short(self.key)} is closed")

    def _trusts(self, tree_index: int) -> bool:
        return self._bitfield.has_node(tree_index)

    def _place(self, blocks: range) -> tuple[int, int]:
        """Return the bytes [start, end) of a run of blocks that are here."""
        first, _ = self._offsets.of(blocks.start)
        return first, sum(self._offsets.of(blocks.stop - 1))

    def _keep(self) -> None:
        """Have the files of a core of which there was nothing until now on disk, and tell other processes of it."""
        self._files.directory.keep()
        if self._shared_map_path is not None:
            self._presence.make_map(self._shared_map_path, self.key)

    def _take_over(self, growth: Growth, signature: bytes, byte_count: int) -> None:
        added = [range(growth.start, growth.end)]
        self._presence.add(added, growth.note_in)
        self._roots = growth.roots
        for root in growth.roots:
            self._nodes.remember(root)
        self._extend(growth.end, self.byte_length + byte_count)
        self._durability.wrote(growth.end, {growth.end - 1: signature})
        self._presence.tell_added(self, growth.start, added, None)

    def _take_in(self, intake: Intake, origin: object) -> None:
        added = intake.ranges()
        self._presence.add(added, intake.note_in)
        for node in intake.nodes.values():
            self._nodes.remember(node)
        for block in intake.blocks:
            self._offsets.learn(block.index, block.start, len(block.value))
        old_length = self.length
        if intake.head is not None and intake.head.length > old_length:
            self._roots = None
            self._extend(intake.head.length, intake.head.byte_length)
        self._durability.wrote(self.length, intake.signatures)
        self._presence.tell_added(self, old_length, added, origin)
        if self.fork_guard.awaited:
            self.fork_guard.notify()
