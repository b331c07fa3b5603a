"""Doing again what a process had staged when it died.

The rules: records are done in order, as far as they were finished; a commit that stands is not made twice. What one
record says and the drive does not allow any more, somebody else having changed it, is left out with a line in the log.
"""

import logging

from hyperfs.core.reader import Run
from hyperfs.drive.commits import operation_of, stands
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.errors import HyperfsError, PathError
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.staging.journal import Record
from hyperfs.mount.staging.namespace import Renaming
from hyperfs.mount.staging.nodes import Node
from hyperfs.mount.staging.workspace import Workspace

logger = logging.getLogger(__name__)


async def recover(workspace: Workspace) -> int:
    """Stage what the journals say, over the workspace's snapshot; return how many records were done.

    Begins a journal of its own; the old ones stay until the next commit.
    """
    journal = workspace.journal
    files = {number: list(journal.read(number)) for number in journal.numbers()}
    done = await _committed_through(workspace.tree.snapshot, files)
    journal.delete_through(done)
    count = 0
    replay = _Replay(workspace)
    for number, records in files.items():
        if number <= done:
            continue
        for record in records:
            if record[0] == "p":
                continue
            count += 1
            with workspace.records.replaying(record[1]):
                try:
                    await replay.do(record)
                except (HyperfsError, OSError) as error:
                    logger.warning("what was staged cannot all be done again: %s", error)
    journal.begin()
    if not count:
        journal.delete_through(journal.number - 1)
        workspace.segments.remove_strangers()
    return count


async def _committed_through(snapshot: Snapshot, files: dict[int, list[Record]]) -> int:
    """Return the number of the last journal whose commit stands."""
    done = 0
    for records in files.values():
        for record in records:
            if record[0] != "p":
                continue
            _, _, journal, version, path, value = record
            if await stands(snapshot, version, operation_of(path, value)):
                done = max(done, journal)
    return done


class _Replay:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def do(self, record: Record) -> None:
        kind, _, path, *fields = record
        match kind:
            case "n":
                await self._make(path, *fields)
            case "u":
                await self._remove(path)
            case "r" | "x":
                await self._rename(path, fields[0], Renaming.REPLACE if kind == "r" else Renaming.EXCHANGE)
            case "a":
                mode, uid, gid, mtime = fields
                number = await self._number(path)
                await self._workspace.set_attributes(number, mode=mode, uid=uid, gid=gid, mtime=mtime)
            case "m":
                await self._workspace.set_user_attribute(await self._number(path), *fields)
            case "c":
                await self._write(path, fields)
            case "s":
                await self._state(path, *fields)
            case _:
                logger.warning("a journal holds a record %r, which this version does not know", kind)

    async def _make(self, path: str, mode: int, uid: int, gid: int, linkname: str | None) -> Node:
        parent, name = await self._place(path)
        there = await self._workspace.find(parent, name)
        if there is not None and not there.is_directory:
            await self._workspace.names.unlink(parent, name)
        return await self._workspace.names.make(parent, name, mode, uid=uid, gid=gid, linkname=linkname)

    async def _remove(self, path: str) -> None:
        parent, name = await self._place(path)
        found = await self._workspace.find(parent, name)
        if found is not None and found.is_directory:
            await self._workspace.names.remove_directory(parent, name)
        else:
            await self._workspace.names.unlink(parent, name)

    async def _rename(self, old: str, new: str, how: Renaming) -> None:
        await self._workspace.names.rename(*await self._place(old), *await self._place(new), how)

    async def _write(self, path: str, fields: Record) -> None:
        workspace = self._workspace
        node = await workspace.tree.touch(await self._number(path))
        content = await workspace.tree.content_of(node)
        base = fields[3]
        below = None
        if base is not None:
            offset, blocks, byte_offset, size = base
            core = await workspace.tree.snapshot.volume.content()
            below = OpenFile(core, Run(range(offset, offset + blocks), byte_offset, size))
        workspace.restore_content(node, content, below, fields)

    async def _state(
        self, path: str, mode: int, uid: int, gid: int, linkname: str | None, attributes: list[tuple[str, bytes | None]]
    ) -> None:
        parent, name = await self._place(path)
        found = await self._workspace.find(parent, name)
        if found is None:
            await self._make(path, mode, uid, gid, linkname)
        number = await self._number(path)
        for attribute, value in attributes:
            there = await self._workspace.user_attributes(number)
            if there.get(attribute) != value:
                await self._workspace.set_user_attribute(number, attribute, value)

    async def _place(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        return await self._number(above), name

    async def _number(self, path: str) -> int:
        number = ROOT
        for name in path.split("/") if path else ():
            found = await self._workspace.find(number, name)
            if found is None:
                raise PathError(2, path, "it is not there")
            number = (await self._workspace.tree.touch_found(found)).number
        return number
