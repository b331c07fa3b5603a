"""A view of a drive that is written to and of those mounted in it, made of a view for each place.

The rule: what is asked of an inode is asked of the view of its place; only where drives meet anything is done here. A
rename from one to another is refused (EXDEV), as between two file systems.
"""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping

from hyperfs.errors import PathError
from hyperfs.mount.files import Handle, Readable
from hyperfs.mount.inodes import Inode, place_of
from hyperfs.mount.places import Place, Places
from hyperfs.mount.rows import name_of, unlasting
from hyperfs.mount.siblings import Step
from hyperfs.mount.staging.nodes import Renaming, attributes_of, stat_of
from hyperfs.mount.view import Answer, Space, View
from hyperfs.mount.workspace_view import WorkspaceView


class JoinedInodes:
    """The numbers of all places. Where a drive is mounted is the root of that one."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def __getitem__(self, number: int) -> Inode:
        return self._places.of(number).inodes[number]

    def remember(self, parent: int, name: bytes, kind: int) -> int:
        """See `InodeTable.remember`."""
        place = self._places.of(parent)
        inner = self._places.mounted(place, parent, name)
        if inner is None:
            return place.inodes.remember(parent, name, kind)
        inner.inodes.looked_up(inner.root)
        return inner.root

    def forget(self, number: int, lookups: int) -> None:
        """See `InodeTable.forget`."""
        self._places.of(number).inodes.forget(number, lookups)
        self._places.forgotten(number)

    def set_content(self, number: int, content: int) -> None:
        """See `InodeTable.set_content`."""
        self._places.of(number).inodes.set_content(number, content)


class JoinedView(View):
    """The inodes of all places of a mount."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.inodes = JoinedInodes(places)

    @property
    def generation(self) -> object:
        return self._places.outer.view.generation

    def generation_of(self, number: int) -> object:
        view = self._places.view_now(number)
        return None if view is None else view.generation

    # Looking

    def lookup_now(self, parent: int, name: bytes) -> Answer | None:
        view = self._places.view_now(parent)
        if view is None:
            return None
        return None if self._places.leads_on(self._places.of(parent), parent, name) else view.lookup_now(parent, name)

    async def lookup(self, parent: int, name: bytes) -> Answer:
        place = await self._places.entered(parent)
        while (inner := self._places.mounted(place, parent, name)) is None:
            answer = await self._view(parent).lookup(parent, name)
            if self._places.mounted(place, parent, name) is None:
                return answer
            self.inodes.forget(answer.number, 1)  # a drive came to be mounted there meanwhile
        inner.inodes.looked_up(inner.root)  # before anything waits: what nobody knows is given up
        try:
            return await self._root(inner)
        except BaseException:  # failed or cancelled, it was not looked up
            self.inodes.forget(inner.root, 1)
            raise

    async def _root(self, place: Place) -> Answer:
        """Tell of the root of a drive: as long as nobody has gone in, what the drive around it says."""
        if place.view is None:
            assert place.around is not None
            entry = await place.around.snapshot.stat(place.path)
            if entry.mount != place.target:
                raise PathError(errno.ESTALE, place.path, "the drive that was mounted there is not any more")
            return Answer(place.root, attributes_of(stat_of(entry)), 0.0)
        before = place.view.generation
        number, attributes, seconds = await place.view.attributes(place.root)
        if place.is_own and place.staged is None:  # as it is once it is written: whoever may write there is its owner
            uid, gid = self._places.outer.workspace.owner
            attributes = attributes._replace(uid=uid, gid=gid)
        return Answer(number, attributes, seconds if place.view.generation == before else 0.0)

    def attributes_now(self, number: int) -> Answer | None:
        place = self._places.of(number)
        if place.view is None or (place.staged is None and number == place.root):
            return None
        return place.view.attributes_now(number)

    async def attributes(self, number: int) -> Answer:
        place = self._places.of(number)
        if number == place.root and place.index:
            return await self._root(place)
        return await self._view(number).attributes(number)

    async def link_target(self, number: int) -> str:
        return await self._view(number).link_target(number)

    async def user_attributes(self, number: int) -> Mapping[str, bytes]:
        place = self._places.of(number)
        return {} if place.view is None else await place.view.user_attributes(number)

    async def list(self, number: int, on_entries: Callable[[], None]) -> list[bytes]:
        place = await self._places.entered(number)
        rows = await self._view(number).list(number, on_entries)
        table = place.snapshot.mounts_now
        if table is not None and not table.targets:
            return rows
        return [unlasting(row) if self._places.leads_on(place, number, name_of(row)) else row for row in rows]

    def row_now(self, number: int, row: bytes) -> bytes | None:
        place = self._places.of(number)
        if self._places.leads_on(place, number, name_of(row)):
            return unlasting(row)
        return self._view(number).row_now(number, row)

    async def space(self) -> Space:
        """Tell of the store's disk, less what is staged anywhere: the kernel's question names no inode."""
        return await self._places.outer.view.space()

    # Open files

    def open_now(self, number: int, *, writing: bool) -> Handle | None:
        place = self._places.of(number)
        handle = None if place.view is None else place.view.open_now(number, writing=writing)
        if handle is not None:
            place.handles += 1
        return handle

    async def open(self, number: int, *, writing: bool, truncating: bool, keeps_set_id: bool) -> Handle:
        changes = writing or truncating
        place = await (self._places.written(number) if changes else self._places.entered(number))
        async with place.in_use():
            assert place.view is not None
            handle = await place.view.open(number, writing=writing, truncating=truncating, keeps_set_id=keeps_set_id)
            place.handles += 1
        return handle

    def open_made(self, number: int) -> Handle:
        handle = self._view(number).open_made(number)
        self._places.of(number).handles += 1
        return handle

    def source_now(self, handle: Handle) -> Readable | None:
        return self._view(handle.number).source_now(handle)

    async def source(self, handle: Handle) -> Readable:
        async with self._places.of(handle.number).in_use():
            return await self._view(handle.number).source(handle)

    async def flushed(self, handle: Handle) -> None:
        view = self._view(handle.number)
        if isinstance(view, WorkspaceView):  # the kernel asks no view of the mount again once it was refused
            await view.flushed(handle)

    async def fetch_siblings(self, handle: Handle, step: Step) -> None:
        await self._view(handle.number).fetch_siblings(handle, step)

    async def released(self, handle: Handle) -> None:
        try:
            await self._view(handle.number).released(handle)
        finally:
            self._places.of(handle.number).handles -= 1

    def blocks_in_use(self, key: bytes, handles: Iterable[Handle]) -> Iterator[range]:
        """Yield the blocks that open files lie in, and those below what is staged."""
        there = list(handles)
        for place in self._places:
            if place.view is not None:
                own = [handle for handle in there if place_of(handle.number) == place.index]
                yield from place.view.blocks_in_use(key, own)

    # Changing

    def make_now(
        self, parent: int, name: str, mode: int, uid: int, gid: int, linkname: str | None = None
    ) -> Answer | None:
        view = self._places.view_now(parent)
        return None if view is None else view.make_now(parent, name, mode, uid, gid, linkname)

    async def make(self, parent: int, name: str, mode: int, uid: int, gid: int, linkname: str | None = None) -> Answer:
        place = await self._places.written(parent)
        async with place.in_use():
            return await self._view(parent).make(parent, name, mode, uid, gid, linkname)

    def unlink_now(self, parent: int, name: str) -> bool | None:
        view = self._places.view_now(parent)
        return None if view is None else view.unlink_now(parent, name)

    async def unlink(self, parent: int, name: str) -> None:
        place = await self._places.written(parent)
        async with place.in_use():
            await self._view(parent).unlink(parent, name)

    def remove_directory_now(self, parent: int, name: str) -> bool | None:
        view = self._places.view_now(parent)
        return None if view is None else view.remove_directory_now(parent, name)

    async def remove_directory(self, parent: int, name: str, on_entries: Callable[[], None]) -> None:
        place = await self._places.written(parent)
        async with place.in_use():
            await self._view(parent).remove_directory(parent, name, on_entries)

    def rename_now(self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming) -> bool | None:
        _refuse_across(parent, new_parent, name)
        view = self._places.view_now(parent)
        return None if view is None else view.rename_now(parent, name, new_parent, new_name, how)

    async def rename(self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming) -> None:
        _refuse_across(parent, new_parent, name)
        place = await self._places.written(parent)
        async with place.in_use():
            await self._view(parent).rename(parent, name, new_parent, new_name, how)

    def set_attributes_now(
        self, number: int, mode: int | None, uid: int | None, gid: int | None, mtime: int | None, size: int | None
    ) -> Answer | None:
        view = self._places.view_now(number)
        return None if view is None else view.set_attributes_now(number, mode, uid, gid, mtime, size)

    async def set_attributes(
        self, number: int, mode: int | None, uid: int | None, gid: int | None, mtime: int | None, size: int | None
    ) -> Answer:
        place = await self._places.written(number)
        async with place.in_use():
            return await self._view(number).set_attributes(number, mode, uid, gid, mtime, size)

    async def set_user_attribute(self, number: int, name: str, value: bytes | None) -> None:
        place = await self._places.written(number)
        async with place.in_use():
            await self._view(number).set_user_attribute(number, name, value)

    async def write(self, handle: Handle, position: int, data: bytes) -> None:
        await self._view(handle.number).write(handle, position, data)

    async def sync(self, number: int | None) -> None:
        if number is not None:
            async with self._places.of(number).in_use():
                await self._view(number).sync(number)
            return
        for place in self._places:
            if place.view is not None:
                async with place.in_use():
                    await place.view.sync(None)

    # Inside

    def _view(self, number: int) -> View:
        view = self._places.view_now(number)
        if view is None:
            raise PathError(errno.ESTALE, f"inode {number}", "it is gone")
        return view


def _refuse_across(parent: int, new_parent: int, name: str) -> None:
    if place_of(parent) != place_of(new_parent):
        raise PathError(errno.EXDEV, name, "it is in another drive than where it is to go")
