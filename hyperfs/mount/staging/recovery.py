"""Doing again what a process had staged when it died.

The rules: records are done in order; a commit that stands is not made twice. Nothing is deleted before it is known to
be durable in the drive. Whatever cannot be read now, of the staging folder or of the drive, refuses the mount, and
everything stays as it is. What can never be done again is left out: a record that is damaged, one that the drive does
not allow any more since somebody else changed it, bytes that are gone. Then all that was staged is set aside first, and
the log says what is missing and where it is kept.
"""

import logging
from dataclasses import dataclass

import trio

from hyperfs.drive.commits import operation_of, stands
from hyperfs.drive.committer import Committer
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import EncodingError, PathError, short
from hyperfs.mount.staging.frames import Contents, Frame
from hyperfs.mount.staging.records import CommitSent, Record, Synced, Written, decode
from hyperfs.mount.staging.workspace import Workspace

logger = logging.getLogger(__name__)

_TOLD = 20


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record that was made at ``time``, in ns. ``frame`` is where it stands."""

    record: Record
    time: int
    frame: Frame


_Journals = dict[int, list[_Entry]]


async def recover(workspace: Workspace, committer: Committer) -> int:
    """Stage what the journals say, over the workspace's snapshot; return how many records were done.

    The journals stay until the next commit is durable, and are deleted here only if nothing of them is left to be done.

    Raises:
        LaterFormat: a journal of a later version of hyperfs.
        OSError: of the disk.
        HyperfsError: what reading the drive raises.

    Failed or cancelled, nothing was changed on the disk, but what is durable in the drive may be deleted; the workspace
    is to be closed then.
    """
    contents = await trio.to_thread.run_sync(workspace.journal.read)
    problems: list[str] = []
    journals = {number: _decode(number, found, problems) for number, found in contents.items()}
    done = await _committed_through(workspace.tree.snapshot, journals)
    count = 0
    for number, entries in journals.items():
        if number <= done:
            continue
        end = _unfinished(workspace, entries, contents[number].durable_bytes)
        count += await _replay(workspace, entries[:end], problems)
        if end is not None:
            workspace.journal.cut(number, entries[end].frame.start)
            logger.info("journal %d ends at byte %d: no more was durable", number, entries[end].frame.start)
            break
    problems += await _revert_lost(workspace)
    if problems:
        await _tell(workspace, problems)
    if not count:
        if journals:
            await committer.sync()
        await trio.to_thread.run_sync(workspace.files.delete_all)
    workspace.is_recovered = True
    return count


def _decode(number: int, found: Contents, problems: list[str]) -> list[_Entry]:
    if found.end is not None:
        logger.info("journal %d ends at byte %d: no more was durable", number, found.end)
    problems += [
        f"journal {number} is damaged: {len(gap)} bytes from byte {gap.start} on cannot be read" for gap in found.damage
    ]
    entries: list[_Entry] = []
    for frame in found.frames:
        try:
            entries.append(_Entry(*decode(frame.record), frame))
        except EncodingError as error:
            problems.append(f"journal {number}: {error}")
    return entries


async def _committed_through(snapshot: Snapshot, journals: _Journals) -> int:
    """Return the number of the last journal whose commit stands."""
    done = 0
    for entries in journals.values():
        for entry in entries:
            record = entry.record
            if not isinstance(record, CommitSent):
                continue
            if await stands(snapshot, record.version, operation_of(record.path, record.value)):
                done = max(done, record.journal)
    return done


def _unfinished(workspace: Workspace, entries: list[_Entry], durable_bytes: int) -> int | None:
    """Return the index of the first record that the power failure left without its bytes, None if there is none."""
    for index, entry in enumerate(entries):
        record = entry.record
        if entry.frame.start < durable_bytes or not isinstance(record, Written):
            continue
        for place in record.places:
            if place.place + place.end - place.start > workspace.segments.find(place.segment).end:
                return index
    return None


async def _replay(workspace: Workspace, entries: list[_Entry], problems: list[str]) -> int:
    count = 0
    for entry in entries:
        if isinstance(entry.record, CommitSent | Synced):
            continue
        count += 1
        with workspace.records.replaying(entry.time):
            try:
                await entry.record.replay(workspace)
            except PathError as error:
                problems.append(f"{type(entry.record).__name__} cannot be done again: {error}")
    return count


async def _revert_lost(workspace: Workspace) -> list[str]:
    """Have the files be as in the drive whose staged bytes are gone; return what to say of them."""
    problems = []
    for node in list(workspace.tree.nodes.values()):
        extents = node.content.extents if node.content is not None else ()
        lost = [extent for extent in extents if extent.place + extent.end - extent.start > extent.segment.end]
        if lost:
            size = sum(extent.end - extent.start for extent in lost)
            path = workspace.tree.path(node.number) if node.parent is not None else "an unlinked file"
            problems.append(f"{path}: {size} bytes that were written to it are gone, so it is as it was before")
            await workspace.revert_content(node)
    return problems


async def _tell(workspace: Workspace, problems: list[str]) -> None:
    place = await trio.to_thread.run_sync(workspace.files.set_aside, problems)
    key = short(workspace.tree.snapshot.key)
    for problem in problems[:_TOLD]:
        logger.error("drive %s: %s", key, problem)
    logger.error(
        "drive %s: not all that was staged could be staged again (%d problems); it is kept as it was in %s, where "
        "why.txt says what is missing. Delete that folder when you do not need it",
        key,
        len(problems),
        place,
    )
