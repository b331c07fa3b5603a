"""When what is staged is committed.

The rules: soon after the last file that was being written is closed (`QUIET_SECONDS` without a change), and in any case
``interval_seconds`` after the first change. Since the format keeps a file as one run, a file that was appended whole
and is changed again comes next no sooner than after 1, 2, 4, … intervals, at most `LONGEST_SECONDS`; so a database that
is written all day costs a few times its size, not its size every five seconds. What stands beside such a file under its
name and a dash (``notes.db-wal``) waits with it, so that no version has one without the other. An open write-ahead log
that is larger than its database would be most of each commit, and is gone when the database is closed: both wait for
that, at most `LONGEST_SECONDS`. A file that rests for as long as it would have had to wait begins anew. Files of less
than `SMALL_BYTES` never wait.
"""

import logging
from dataclasses import dataclass

import trio

from hyperfs.errors import HyperfsError, WriterForked
from hyperfs.mount.options import DEFAULT_FLUSH_SECONDS
from hyperfs.mount.staging.committing import SMALL_BYTES, CommitMaker, Outcome
from hyperfs.mount.staging.nodes import Node

logger = logging.getLogger(__name__)

QUIET_SECONDS = 1.0
LONGEST_SECONDS = 300.0
LOG_SUFFIX = "-wal"
_LOG_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0


@dataclass(slots=True)
class _Rest:
    """How long a file has to wait from one commit to the next."""

    seconds: float
    until: float
    while_open: bool = False
    """Whether it ends when the file is closed."""


class Flusher:
    """Commits in the background: run `run` in a task that outlives the mount's operations."""

    def __init__(self, maker: CommitMaker, *, interval_seconds: float = DEFAULT_FLUSH_SECONDS) -> None:
        self._maker = maker
        self._workspace = maker.workspace
        self._interval_seconds = interval_seconds
        self._first_change: float | None = None
        self._last_change = 0.0
        self._wake = trio.Event()
        self._rests: dict[int, _Rest] = {}
        self._workspace.changed = self._changed

    async def run(self) -> None:
        """Commit what is staged when it is due, for ever. What fails is tried again, and stays staged till then.

        Cancelled, as `CommitMaker.commit`.
        """
        if not self._workspace.is_clean:
            self._changed()
        while True:
            await self._wait_until_due()
            await self._commit()

    async def flush(self) -> Outcome:
        """Commit everything that is staged now. Raises what `CommitMaker.commit` does."""
        self._first_change = None
        return await self._maker.commit()

    def _changed(self) -> None:
        self._last_change = trio.current_time()
        if self._first_change is None:
            self._first_change = self._last_change
            self._wake.set()

    async def _wait_until_due(self) -> None:
        while True:
            while self._first_change is None:
                self._wake = trio.Event()
                await self._wake.wait()
            now = trio.current_time()
            due = self._due()
            if now >= due:
                return
            await trio.sleep_until(min(due, now + _LOG_SECONDS))
            try:
                self._workspace.records.add_contents()
                await self._workspace.records.written()
            except OSError as error:
                logger.warning("what was written is not in the journal yet: %s", error)

    def _due(self) -> float:
        """Return when the next commit is due, as far as can be told now."""
        assert self._first_change is not None
        held = self._held()
        tree = self._workspace.tree
        if held and all(staged.keys() <= held for staged in (tree.dirty, tree.displaced)):
            return min(rest.until for number in held if (rest := self._rests.get(number)) is not None)
        latest = self._first_change + self._interval_seconds
        if self._is_being_written():
            return latest
        return min(latest, self._last_change + min(QUIET_SECONDS, self._interval_seconds))

    def _is_being_written(self) -> bool:
        tree = self._workspace.tree
        return not tree.opened.keys().isdisjoint(tree.dirty.keys())  # which goes through the smaller one

    async def _commit(self) -> None:
        self._first_change = None
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                outcome = await self._maker.commit(self._held)
                break
            except (HyperfsError, OSError) as error:
                self._workspace.refusal = error if isinstance(error, WriterForked) else None
                logger.warning("what was written cannot be committed yet, and stays staged: %s", error)
                await trio.sleep(pause)
                pause = min(2 * pause, _LAST_RETRY_SECONDS)
        self._workspace.refusal = None
        if outcome.appended_bytes:
            logger.debug("version %d, %d bytes appended", outcome.version, outcome.appended_bytes)
        self._rest(outcome)
        if not self._workspace.is_clean and self._first_change is None:
            self._first_change = trio.current_time()

    def _rest(self, outcome: Outcome) -> None:
        now = trio.current_time()
        for number in [number for number, rest in self._rests.items() if now > rest.until + rest.seconds]:
            del self._rests[number]
        for number, _ in outcome.rewritten:
            before = self._rests.get(number)
            seconds = self._interval_seconds if before is None else min(2 * before.seconds, LONGEST_SECONDS)
            self._rests[number] = _Rest(seconds, now + seconds)

    def _rest_for_logs(self, now: float) -> None:
        tree = self._workspace.tree
        for number in tree.opened:
            node = tree.dirty.get(number)
            if node is None or node.parent is None or number in self._rests or not node.name.endswith(LOG_SUFFIX):
                continue
            database = tree.child_now(node.parent, node.name.removesuffix(LOG_SUFFIX))
            if database is None or database.is_absent or node.size <= max(SMALL_BYTES, database.attributes.size):
                continue
            self._rests[number] = _Rest(LONGEST_SECONDS, now + LONGEST_SECONDS, while_open=True)

    def _held(self) -> frozenset[int]:
        """Return the inodes that are not to be committed yet."""
        now = trio.current_time()
        tree = self._workspace.tree
        dirty = tree.dirty
        self._rest_for_logs(now)
        held: set[int] = set()
        stems: set[tuple[int | None, str]] = set()
        for number, rest in self._rests.items():
            node = dirty.get(number)
            if node is None or now >= rest.until:
                continue
            if number in tree.opened and _is_companion(node) if rest.while_open else _may_wait(node):
                held.add(number)
                stems.add((node.parent, f"{node.name.removesuffix(LOG_SUFFIX) if rest.while_open else node.name}-"))
        above = {parent for parent, _ in stems}
        for staged in (dirty, tree.displaced) if held else ():
            for number, node in staged.items():
                place = node.base if number in tree.displaced else node.place
                if place is None or place[0] not in above or not _is_companion(node):
                    continue
                if any(place[0] == parent and f"{place[1]}-".startswith(stem) for parent, stem in stems):
                    held.add(number)
        return frozenset(held)


def _may_wait(node: Node) -> bool:
    """Only what stands where the drive has it, and differs in its content, may be left out of a commit."""
    return node.base is not None and node.base == node.place and node.content is not None and node.content.is_dirty


def _is_companion(node: Node) -> bool:
    """What stands beside a file that waits may wait with it: also when it is new, or was deleted."""
    return _may_wait(node) or (node.is_file and (node.base is None or node.place is None))
