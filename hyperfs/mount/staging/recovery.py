"""Doing again what a process had staged when it died.

The rules: records are done in order, as far as they were finished; a commit that stands is not made twice. What one
record says and the drive does not allow any more, somebody else having changed it, is left out with a line in the log.
"""

import logging

from hyperfs.drive.commits import operation_of, stands
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import HyperfsError
from hyperfs.mount.staging.records import CommitSent, Record, decode
from hyperfs.mount.staging.workspace import Workspace

logger = logging.getLogger(__name__)


async def recover(workspace: Workspace) -> int:
    """Stage what the journals say, over the workspace's snapshot; return how many records were done.

    Begins a journal of its own; the old ones stay until the next commit.
    """
    journal = workspace.journal
    files = {number: [decode(body) for body in journal.read(number)] for number in journal.numbers()}
    done = await _committed_through(workspace.tree.snapshot, files)
    journal.delete_through(done)
    count = 0
    for number, records in files.items():
        if number <= done:
            continue
        for record, time in records:
            if isinstance(record, CommitSent):
                continue
            count += 1
            with workspace.records.replaying(time):
                try:
                    await record.replay(workspace)
                except (HyperfsError, OSError) as error:
                    logger.warning("what was staged cannot all be done again: %s", error)
    journal.begin()
    if not count:
        journal.delete_through(journal.number - 1)
        workspace.segments.remove_strangers()
    return count


async def _committed_through(snapshot: Snapshot, files: dict[int, list[tuple[Record, int]]]) -> int:
    """Return the number of the last journal whose commit stands."""
    done = 0
    for records in files.values():
        for record, _ in records:
            if not isinstance(record, CommitSent):
                continue
            if await stands(snapshot, record.version, operation_of(record.path, record.value)):
                done = max(done, record.journal)
    return done
