"""Commits: what is staged goes into the drive, as one version.

The rules: a commit is of one instant. Bytes are appended before the nodes that name them, each file as one run; a file
that only grew at the end of the content core gets its new bytes appended, one that shrank gets none. Bytes are read
once, in pieces, and what was read is what is hashed. A commit that nobody answered is looked for before it is sent
again. Until it stands on the disk, the journals that it makes needless stay.
"""

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import trio

from hyperfs.core.reader import Run
from hyperfs.core.reserve import is_full
from hyperfs.drive.changes import changes
from hyperfs.drive.commits import Operation, stands, value_of
from hyperfs.drive.committer import CHUNK_BYTES, Committer, ContentLease
from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import Stat
from hyperfs.errors import ConflictingLength, DaemonError, PathError
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.staging.extents import Frozen
from hyperfs.mount.staging.nodes import Node, stat_of
from hyperfs.mount.staging.planning import Plan, PlannedNode, freeze, gather
from hyperfs.mount.staging.records import CommitSent
from hyperfs.mount.staging.workspace import Workspace

logger = logging.getLogger(__name__)

APPEND_BYTES = 4 * 1024 * 1024
APPEND_BLOCKS = 1024
_ATTEMPTS = 8

Committed = Callable[[int, Stat], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a commit did: the drive's ``version`` after it, and how many bytes it appended to the content."""

    version: int
    appended_bytes: int
    rewritten: tuple[tuple[int, int], ...] = ()
    """The number and size of each file that was appended as a whole."""


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

    async def commit(self, held: frozenset[int] = frozenset()) -> Outcome:
        """Commit what is staged, less the inodes ``held``.

        Raises what appending does: OSError, `DaemonError`, `BlockNotAvailable`; all stays staged then.
        """
        async with self._lock:
            for _ in range(_ATTEMPTS):
                try:
                    return await self._try(held)
                except ConflictingLength as error:
                    logger.info("%s; committing to the newer version", error)
                    await self._drive.metadata.wait_longer(self.workspace.tree.snapshot.version)
                    await self._rebase(self._drive.snapshot())
            raise ConflictingLength("others commit to this drive all the time")

    async def wait_idle(self) -> None:
        """Return when no commit is being made."""
        async with self._lock:
            pass

    async def rebase(self, snapshot: Snapshot) -> Snapshot:
        """Lie over a newer version, which somebody else committed; return the one before.

        What is staged stays as it is. Nothing is done, and ``snapshot`` itself returned, when it is no newer.
        """
        async with self._lock:
            older = self.workspace.tree.snapshot
            if snapshot.version < older.version:
                return snapshot
            await self._rebase(snapshot)
            return older

    async def _try(self, held: frozenset[int]) -> Outcome:
        workspace = self.workspace
        async with workspace.exclusively():
            workspace.records.add_contents()
            plan = await gather(workspace.tree, 0, held)
            plan.journal = await self._begin_journal()
            freeze(plan)
            workspace.segments.begin_anew()
            workspace.records.add_held(held)
        runs: dict[int, Run] = {}
        appended = 0
        try:
            if plan.is_empty:
                return await self._finish(plan, runs, workspace.tree.snapshot, Outcome(plan.version, 0))
            rewritten: list[tuple[int, int]] = []
            if any(put.frozen is not None for put in plan.puts):
                async with self._committer.content() as lease:
                    appender = _Appender(lease)
                    runs = await appender.append_all(plan)
                appended, rewritten = appender.appended_bytes, appender.rewritten
            operations = plan.operations()
            version = await self._send(plan, operations)
            snapshot = await self._snapshot_at(version)
            return await self._finish(plan, runs, snapshot, Outcome(version, appended, tuple(rewritten)))
        except BaseException:  # cancelled or failed, all stays staged
            self._abandon(plan)
            raise

    async def _begin_journal(self) -> int:
        """Begin the journal of what comes after the commit, on a full disk in the space that is kept back for that."""
        try:
            return self.workspace.journal.begin()
        except OSError as error:
            if not is_full(error) or not await self._committer.make_way():
                raise
            return self.workspace.journal.begin()

    async def _send(self, plan: Plan, operations: list[Operation]) -> int:
        """Commit, and return the version; when nobody answered, look whether it stands."""
        workspace = self.workspace
        workspace.records.add(probe_of(plan, operations[-1]))
        await workspace.sync()
        try:
            return await self._committer.commit(operations, expected_version=plan.version)
        except (ConflictingLength, DaemonError):
            with trio.move_on_after(30):
                await self._drive.metadata.wait_longer(plan.version)
            if await stands(self._drive.snapshot(), plan.version, operations[-1]):
                return self._drive.version
            raise

    async def _snapshot_at(self, version: int) -> Snapshot:
        if version > 1:
            await self._drive.metadata.wait_longer(version - 1)
        current = self._drive.snapshot()
        if current.version == version:
            return current
        return Snapshot(self._drive.volume, version, ((self._drive.key, None),))

    async def _finish(self, plan: Plan, runs: dict[int, Run], snapshot: Snapshot, outcome: Outcome) -> Outcome:
        workspace = self.workspace
        content = await self._drive.content() if runs else None
        async with workspace.exclusively():
            workspace.is_settling = True
            tree = workspace.tree
            tree.snapshot = snapshot
            for node in plan.displaced:
                tree.rebase(node, None)
            for put in plan.puts:
                node = put.node
                tree.rebase(node, put.place)
                node.stat = put.stat
                node.implied = False
                run = runs.get(node.number)
                if run is not None and put.content is not None and content is not None:
                    put.content.settle(OpenFile(content, run))
                    if self._committed is not None:
                        self._committed(node.number, put.stat)
                if node.generation == put.generation:
                    tree.dirty.pop(node.number, None)
            tree.dirty.pop(ROOT, None)
            tree.sweep()
            workspace.recount()
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

    def _abandon(self, plan: Plan) -> None:
        """Make one layer again of what was frozen: nothing of it was committed."""
        for put in plan.puts:
            content = put.content
            if put.frozen is None or content is None or content.frozen is not put.frozen:
                continue
            content.thaw()
            node = put.node
            if node.parent is None and node.number not in self.workspace.tree.opened:
                content.drop()
            else:
                self.workspace.records.wrote(node)
        self.workspace.recount()

    async def _rebase(self, snapshot: Snapshot) -> None:
        workspace = self.workspace
        async with workspace.exclusively():
            tree = workspace.tree
            older = tree.snapshot
            if snapshot.version == older.version:
                tree.snapshot = snapshot
                return
            changed = {change.path async for change in changes(snapshot, older)}
            affected = [
                (node, path)
                for node in tree.nodes.values()
                if (path := tree.base_path(node.number)) is not None and path in changed and node.number != ROOT
            ]
            tree.snapshot = snapshot
            for node, path in affected:
                await self._rebase_node(node, path)

    async def _rebase_node(self, node: Node, path: str) -> None:
        workspace = self.workspace
        tree = workspace.tree
        try:
            entry = await tree.snapshot.stat(path)
        except PathError:
            is_staged = node.number in tree.dirty or node.children or tree.displaced.get(node.number) is node
            place = node.place
            tree.rebase(node, None)
            if is_staged:
                if place is not None:
                    tree.mark(node)
            elif place is not None:
                tree.take_out(node)
            return
        if tree.is_foreign(entry):
            return
        stat = stat_of(entry)
        if node.number not in tree.dirty:
            node.adopt(stat)
        elif node.content is None or not node.content.is_dirty:
            node.stat = stat
        if node.content is not None and not node.content.is_dirty and node.is_file:
            below = await tree.open_run(stat)
            node.content.below = below
            node.content.limit = node.content.size = below.size


class _Appender:
    """Appends the frozen contents of one plan under one lease."""

    def __init__(self, lease: ContentLease) -> None:
        self._lease = lease
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._block = 0
        self._byte = 0
        self.appended_bytes = 0
        self.rewritten: list[tuple[int, int]] = []

    async def append_all(self, plan: Plan) -> dict[int, Run]:
        """Append what has to be; set every Stat; return where each content is now."""
        start = await self._lease.append([])
        self._block, self._byte = start.blocks.stop, start.byte_offset
        runs = {}
        waiting = [put for put in plan.puts if put.frozen is not None]
        # What grows at the end of the core has to be first: behind another file it would be at the end no more.
        waiting.sort(key=lambda put: not self._is_at_end(put))
        for put in waiting:
            run = await self._append(put)
            runs[put.node.number] = run
            put.stat = replace(
                put.stat,
                size=run.size,
                blocks=len(run.blocks),
                offset=run.blocks.start,
                byte_offset=run.byte_offset,
            )
        await self._send()
        return runs

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
        if isinstance(below, OpenFile) and not frozen.extents and frozen.size <= frozen.limit:
            blocks = below.run.blocks if frozen.size else range(below.run.blocks.start, below.run.blocks.start)
            return Run(blocks, below.run.byte_offset, frozen.size)
        if self._is_at_end(put):
            assert isinstance(below, OpenFile)
            first, byte_offset, position = below.run.blocks.start, below.run.byte_offset, below.run.size
        else:
            first, byte_offset, position = self._block, self._byte, 0
            if frozen.size:
                self.rewritten.append((put.node.number, frozen.size))
        async for block in _pieces(frozen, position):
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
            self.appended_bytes += self._pending_bytes
            self._pending, self._pending_bytes = [], 0


async def _pieces(frozen: Frozen, position: int) -> AsyncIterator[bytes]:
    while position < frozen.size:
        piece = await frozen.read(position, CHUNK_BYTES)
        yield piece
        position += len(piece)


def probe_of(plan: Plan, operation: Operation) -> CommitSent:
    """Return the record by which the next process finds out whether a commit stands."""
    return CommitSent(plan.journal, plan.version, operation.path, value_of(operation))
