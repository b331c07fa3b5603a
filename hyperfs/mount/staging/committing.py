"""Commits: what is staged goes into the drive, as one version.

The rules: a commit is of one instant. Bytes are appended before the nodes that name them, each file as one run of
blocks that hold its bytes and no others, since the reference reads whole blocks; of a file that only grew at the end of
the content core the new bytes are appended. Bytes are read once, in pieces, and what was read is what is hashed. A
commit that nobody answered is looked for before it is sent again. Until it stands on the disk, the journals that it
makes needless stay.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import trio

from hyperfs.core.reader import Run
from hyperfs.core.reserve import is_full
from hyperfs.drive.batch import Batch, milliseconds_now
from hyperfs.drive.commits import Operation, value_of, version_made
from hyperfs.drive.committer import CHUNK_BYTES, Committer, ContentLease
from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import MountTarget
from hyperfs.errors import ConflictingLength, DaemonError, HyperfsError
from hyperfs.mount.staging.planning import Plan, PlannedNode
from hyperfs.mount.staging.rebasing import rebase, rebase_exclusively
from hyperfs.mount.staging.records import CommitSent
from hyperfs.mount.staging.settling import Committed, Settlement
from hyperfs.mount.staging.workspace import Workspace
from hyperfs.slices import Slices, emptied, in_slices

logger = logging.getLogger(__name__)

APPEND_BYTES = 4 * 1024 * 1024
APPEND_BLOCKS = 256
SMALL_BYTES = 64 * 1024
"""A file of less may be appended anew as often as it is changed."""
_ATTEMPTS = 8
_REACHABLE_SECONDS = 30.0
"""How long one waits for a daemon that went away while it should commit."""
_HEARD_SECONDS = 1.0
"""How long it may take until one hears of a version that stands."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a commit did: the drive's ``version`` after it, and how many bytes it appended to the content."""

    version: int
    appended_bytes: int
    rewritten: tuple[tuple[int, int], ...] = ()
    """The number and size of each file of at least `SMALL_BYTES` that was appended as a whole."""


@dataclass(slots=True)
class _Appended:
    """Where the contents of a plan are now, and what that took."""

    runs: dict[int, Run] = field(default_factory=dict)
    bytes: int = 0
    rewritten: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Sent:
    """A commit that the drive may hold; ``version`` is what it made, once that is known."""

    plan: Plan
    appended: _Appended
    operations: list[Operation]
    version: int | None = None


class CommitMaker:
    """Makes commits of a workspace, one at a time. ``committed`` is told of each file that has another run now."""

    def __init__(
        self, workspace: Workspace, drive: Drive, committer: Committer, committed: Committed | None = None
    ) -> None:
        self.workspace = workspace
        self._drive = drive
        self._committer = committer
        self._committed = committed
        self._lock = trio.Lock()
        self._untold: Snapshot | None = None
        self._sent: _Sent | None = None
        """What was sent, and may stand in the drive without the tree lying over it."""

    async def commit(self, held: Callable[[], frozenset[int]] = frozenset) -> Outcome:
        """Commit what is staged, less the inodes that ``held`` tells at the instant of the commit.

        Raises what appending does: OSError, `DaemonError`, `BlockNotAvailable`; all stays staged then. Cancelled, it
        stands or all stays staged; what was sent and not answered is looked for in the drive before the next commit.
        """
        async with self._lock:
            for _ in range(_ATTEMPTS):
                try:
                    if self._sent is not None:
                        await self._find_out(self._sent)
                    return await self._try(held)
                except ConflictingLength as error:
                    logger.info("%s; committing to the newer version", error)
                    await self._drive.metadata.wait_longer(self.workspace.tree.snapshot.version)
                    self._note_untold()
                    await rebase(self.workspace, self._drive.snapshot())
            raise ConflictingLength("others commit to this drive all the time")

    async def link(self, path: str, target: MountTarget | None) -> int:
        """Mount a drive at ``path``, or with None unmount what is mounted there; return the version that has it so.

        What is staged there, and on the way there, is committed before. Raises `PathError` as `Batch.mount` and
        `Batch.unmount`, and what `commit` does. Cancelled, it is done or not.
        """
        for _ in range(_ATTEMPTS):
            await self.commit()
            async with self._lock, self.workspace.exclusively():
                below = self.workspace.tree.snapshot
                if self._sent is not None or not self.workspace.tree.is_as_below(path):
                    continue
                try:
                    return await self._link(below, path, target)
                except ConflictingLength as error:
                    logger.info("%s; linking in the newer version", error)
            await self._drive.metadata.wait_longer(below.version)
            self._note_untold()
            await self.rebase(self._drive.snapshot())
        raise ConflictingLength("others commit to this drive all the time")

    async def _link(self, below: Snapshot, path: str, target: MountTarget | None) -> int:
        batch = Batch(below, self._committer, milliseconds_now)
        if target is None:
            await batch.unmount(path)
        else:
            await batch.mount(path, target.key, version=target.version)
        version = await self._committer.commit(batch.operations, expected_version=below.version)
        self._note_untold()
        with trio.move_on_after(_HEARD_SECONDS):  # who follows the drive lies over it then
            await rebase_exclusively(self.workspace, await self._snapshot_at(version))
        return version

    def take_untold(self) -> Snapshot | None:
        """Return the version since which the kernel was not told what others changed, once; None: it was told.

        The workspace lies over a newer version already.
        """
        untold, self._untold = self._untold, None
        return untold

    def _note_untold(self) -> None:
        self._untold = self._untold or self.workspace.tree.snapshot

    @property
    def is_busy(self) -> bool:
        """Whether a commit is being made, or one was sent of which it is not known whether it stands."""
        return self._lock.locked() or self._sent is not None

    async def wait_idle(self) -> None:
        """Return when no commit is being made."""
        async with self._lock:
            pass

    async def rebase(self, snapshot: Snapshot) -> Snapshot:
        """Lie over a newer version, which somebody else committed; return the one before.

        What is staged stays as it is. Nothing is done, and ``snapshot`` itself returned, when it is no newer.
        Raises what reading the drive does. Failed or cancelled, nothing was changed.
        """
        async with self._lock:
            if self._sent is not None:
                await self._find_out(self._sent)
            older = self.workspace.tree.snapshot
            if snapshot.version < older.version:
                return snapshot
            await rebase(self.workspace, snapshot)
            return older

    async def _try(self, held: Callable[[], frozenset[int]]) -> Outcome:
        plan = await self._begin(held)
        try:
            await plan.complete()
            if plan.is_empty:
                sent = _Sent(plan, _Appended(), [], plan.version)
            elif not any(put.frozen is not None for put in plan.puts.values()):
                sent = await self._send(plan, _Appended())
            else:
                async with self._committer.content() as lease:
                    sent = await self._append_and_send(plan, lease)
        except BaseException:  # cancelled or failed, all stays staged, unless it was sent and perhaps stands
            if self._sent is None:
                with trio.CancelScope(shield=True):
                    await plan.abandon(self.workspace.account)
            raise
        return await self._settle(sent)

    async def _append_and_send(self, plan: Plan, lease: ContentLease) -> "_Sent":
        """Append, and commit what was appended; give it back when that failed."""
        try:
            return await self._send(plan, await _Appender(lease).append_all(plan))
        except (HyperfsError, OSError):
            if self._sent is None:
                try:
                    await lease.give_back()
                except (HyperfsError, OSError) as error:
                    logger.warning("what was appended for a commit that failed takes space until a prune: %s", error)
            raise

    async def _begin(self, held: Callable[[], frozenset[int]]) -> Plan:
        """Take the plan, and begin the journal of what comes after it; on a full disk in space kept back for that."""
        records = self.workspace.records
        records.add_contents()
        await records.written()
        try:
            return self._instant(held())
        except OSError as error:
            if not is_full(error) or not await self._committer.make_way():
                raise
            await records.written()
            return self._instant(held())

    def _instant(self, held: frozenset[int]) -> Plan:
        workspace = self.workspace
        with workspace.journal.at_once():
            workspace.records.add_contents()
            journal = workspace.journal.begin()
        workspace.segments.begin_anew()
        workspace.records.add_held(held)
        return Plan(workspace.tree, journal, held)

    async def _send(self, plan: Plan, appended: "_Appended") -> "_Sent":
        """Commit what was appended; when nobody answered, look whether it stands."""
        workspace = self.workspace
        operations = await plan.operations()
        workspace.records.add(probe_of(plan, operations[-1]))
        await workspace.sync()
        sent = self._sent = _Sent(plan, appended, operations)
        try:
            sent.version = await self._committer.commit(operations, expected_version=plan.version)
        except DaemonError as error:  # nobody answered
            with trio.move_on_after(_REACHABLE_SECONDS) as scope:
                await self._committer.sync()
            if scope.cancelled_caught:
                raise
            logger.info("a commit was not answered (%s): looking for it", error)
            with trio.move_on_after(_HEARD_SECONDS):
                await self._drive.metadata.wait_longer(plan.version)
            await self._look_for(sent)
            if sent.version is None:
                raise
        except (HyperfsError, OSError):
            await self._look_for(sent)
            if sent.version is None:
                raise
        return sent

    async def _look_for(self, sent: "_Sent") -> None:
        """Find out whether a commit stands, and note its version; if it does not, it is no more `_sent`."""
        if sent.version is None:
            sent.version = await version_made(self._drive.snapshot(), sent.plan.version, sent.operations)
        if sent.version is None:
            self._sent = None

    async def _find_out(self, sent: "_Sent") -> None:
        """Bring to its end what an earlier try left open: it stands, or all of it is staged."""
        await self._look_for(sent)
        if sent.version is None:
            await sent.plan.abandon(self.workspace.account)
        else:
            await self._settle(sent)

    async def _settle(self, sent: "_Sent") -> Outcome:
        """Lay what is staged over the version that was made."""
        assert sent.version is not None
        workspace, plan = self.workspace, sent.plan
        snapshot = await self._snapshot_at(sent.version)
        await snapshot.mounts()  # so that names can be looked up in it without waiting
        content = await self._drive.content() if sent.appended.runs else None
        settlement = Settlement(workspace.tree, plan, sent.appended.runs, content, workspace.account, self._committed)
        async with workspace.exclusively():
            workspace.is_settling = True
            settlement.begin(snapshot)
            self._sent = None
        with trio.CancelScope(shield=True):
            await settlement.complete()
        await workspace.tree.sweep(workspace.exclusively)
        await emptied(sent.operations, sent.appended.runs)
        await plan.release()
        outcome = Outcome(sent.version, sent.appended.bytes, tuple(sent.appended.rewritten))
        return await self._make_durable(plan, outcome)

    async def _make_durable(self, plan: Plan, outcome: Outcome) -> Outcome:
        """Let go of what was staged for a commit, once that is on the disk."""
        workspace = self.workspace
        try:
            await self._committer.sync()
        except (DaemonError, OSError) as error:
            logger.warning(
                "version %d is not durable yet, so what was staged for it is kept: %s", outcome.version, error
            )
            return outcome
        workspace.journal.delete_through(plan.journal)
        workspace.is_settling = False
        await workspace.collect()
        return outcome

    async def _snapshot_at(self, version: int) -> Snapshot:
        below = self.workspace.tree.snapshot
        if below.version == version:
            return below
        await self._drive.metadata.wait_longer(version - 1)
        current = self._drive.snapshot()
        if current.version == version:
            return current
        return Snapshot(self._drive.volume, version, ((self._drive.key, None),))


class _Appender:
    """Appends the frozen contents of one plan under one lease."""

    def __init__(self, lease: ContentLease) -> None:
        self._lease = lease
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._block = 0
        self._byte = 0
        self._appended = _Appended()

    async def append_all(self, plan: Plan) -> _Appended:
        """Append what has to be; set every Stat."""
        start = await self._lease.append([])
        self._block, self._byte = start.blocks.stop, start.byte_offset
        waiting: list[PlannedNode] = []
        async for put in in_slices(plan.puts.values()):
            # What grows at the end of the core has to be first: behind another file it would be at the end no more.
            if put.frozen is not None:
                waiting.insert(0 if self._is_at_end(put) else len(waiting), put)
        slices = Slices()
        for put in waiting:
            await slices.next()
            run = await self._append(put)
            self._appended.runs[put.node.number] = run
            put.stat = replace(
                put.stat,
                size=run.size,
                blocks=len(run.blocks),
                offset=run.blocks.start,
                byte_offset=run.byte_offset,
            )
        await self._send()
        return self._appended

    def _is_at_end(self, put: PlannedNode) -> bool:
        frozen = put.frozen
        if frozen is None or not isinstance(frozen.below, OpenFile) or not frozen.only_adds():
            return False
        run = frozen.below.run
        return run.size > 0 and (run.blocks.stop, run.byte_offset + run.size) == (self._block, self._byte)

    async def _append(self, put: PlannedNode) -> Run:
        frozen = put.frozen
        assert frozen is not None
        below = frozen.below
        if self._is_at_end(put):
            assert isinstance(below, OpenFile)
            first, byte_offset, position = below.run.blocks.start, below.run.byte_offset, below.run.size
        else:
            first, byte_offset, position = self._block, self._byte, 0
            if frozen.size >= SMALL_BYTES:
                self._appended.rewritten.append((put.node.number, frozen.size))
        while position < frozen.size:
            block = await frozen.read(position, CHUNK_BYTES)
            position += len(block)
            self._pending.append(block)
            self._pending_bytes += len(block)
            self._block += 1
            self._byte += len(block)
            if self._pending_bytes >= APPEND_BYTES or len(self._pending) >= APPEND_BLOCKS:
                await self._send()
        return Run(range(first, self._block), byte_offset, frozen.size)

    async def _send(self) -> None:
        if self._pending:
            await self._lease.append(self._pending)
            self._appended.bytes += self._pending_bytes
            self._pending, self._pending_bytes = [], 0


def probe_of(plan: Plan, operation: Operation) -> CommitSent:
    """Return the record by which the next process finds out whether a commit stands."""
    return CommitSent(plan.journal, plan.version, operation.path, value_of(operation))
